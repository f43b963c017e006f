//! Programs that tests run: bounded in time, and gone when the test is.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What a program that has ended printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Its standard output, if it ended well.
    ///
    /// # Panics
    /// With all that it printed, if it did not.
    pub fn success(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "standard error: {}\nstandard output: {}",
            self.stderr,
            self.stdout
        );
        self.stdout
    }
}

/// A program that runs beside the test. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it, with what it prints in a file.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Running> {
        let log = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Running {
            child: command.spawn()?,
        })
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is no child of this process any more.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let number = i32::try_from(self.child.id()).expect("process numbers are positive");
        let process = rustix::process::Pid::from_raw(number).expect("process numbers are not zero");
        rustix::process::kill_process(process, signal).expect("the process is this test's own");
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self, limit: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// SIGKILL, and waits for it.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started, or has not ended in time.
pub fn run(mut command: Command, limit: Duration) -> Output {
    let folder = tempfile::tempdir().expect("a folder for what a program prints");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let create = |path: &Path| File::create(path).expect("a file for what a program prints");
    command
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&err));
    let name = format!("{command:?}");
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    let status = Running { child }.wait(limit);
    let text = |path: &Path| {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(&out), text(&err));
    let Some(status) = status else {
        panic!("{name} has not ended within {limit:?}\n{stdout}\n{stderr}");
    };
    Output {
        code: status.code(),
        stdout,
        stderr,
    }
}

/// A file of this work tree, as it is shipped.
///
/// # Panics
/// If it is not there.
pub fn shipped(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(path);
    path.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The program under test: `TWINBLK_BIN`, or built once from this work tree.
///
/// # Panics
/// If it cannot be built.
pub fn twinblk() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TWINBLK_BIN") {
            return PathBuf::from(path);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "twinblk"])
            .current_dir(&root)
            .status()
            .expect("cargo builds the program under test");
        assert!(status.success(), "the program under test does not build");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        root.join(target).join("release/twinblk")
    })
}
