//! An agent beside a daemon, and hooks that write down what they are run on.

use crate::node::Node;
use crate::program::{Running, twinblk};
use crate::{PATIENCE, wait_for};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What hooks are run on.
pub const EVENTS: [&str; 5] = ["promote", "demote", "alone", "protected", "frozen"];

/// A node's agent, its hooks, and what they have written down.
pub struct Agent {
    folder: PathBuf,
    process: Option<Running>,
    wrapper: Vec<String>,
}

impl Agent {
    /// For a node, whose configuration gets the section that the agent needs. Nothing runs yet.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn beside(node: &Node, settings: &str) -> Agent {
        let folder = node.folder().to_owned();
        let shown = folder.display();
        node.configure(&format!(
            "[hooks]\ndirectory = \"{shown}/hooks.d\"\nstate_dir = \"{shown}/agent\"\n{settings}\n"
        ));
        for event in EVENTS {
            fs::create_dir_all(folder.join(format!("hooks.d/{event}.d"))).expect("a folder");
        }
        Agent {
            folder,
            process: None,
            wrapper: Vec::new(),
        }
    }

    /// The agent is started by this command line, which its own is appended to.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Makes a hook of a shell script's text.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn hook(&self, event: &str, name: &str, script: &str) {
        let path = self.path(event, name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a hook");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a hook");
    }

    /// Makes a hook for each event that writes down the event and these words, as the shell reads them.
    pub fn record(&self, words: &str) {
        let file = self.folder.join("ran");
        for event in EVENTS {
            let script = format!("echo \"$TWINBLK_EVENT {words}\" >> {}", file.display());
            self.hook(event, "50-record", &script);
        }
    }

    /// Makes a hook of a file.
    ///
    /// # Panics
    /// If the link cannot be made.
    pub fn link(&self, event: &str, name: &str, file: &Path) {
        std::os::unix::fs::symlink(file, self.path(event, name)).expect("a link");
    }

    /// Where a hook is.
    pub fn path(&self, event: &str, name: &str) -> PathBuf {
        self.folder.join(format!("hooks.d/{event}.d/{name}"))
    }

    /// Starts the agent, and waits until it runs.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&mut self) {
        let lives = |log: &str| log.matches("hooks are in").count();
        let before = lives(&self.log());
        let mut words = self.wrapper.iter().map(String::as_str);
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(twinblk());
                command
            }
            None => Command::new(twinblk()),
        };
        command
            .arg("agent")
            .arg("--config")
            .arg(self.folder.join("twinblk.toml"));
        let running = Running::start(command, &self.folder.join("agent.log"));
        self.process = Some(running.expect("the agent starts"));
        wait_for("the agent to run", PATIENCE, || {
            (lives(&self.log()) > before).then_some(())
        });
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Panics
    /// If the end is not clean.
    pub fn stop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        process.signal(Signal::TERM);
        let status = process.wait(PATIENCE).expect("the agent stops");
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// What [`Self::record`]'s hooks have written down.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until exactly this has been written down.
    ///
    /// # Panics
    /// If it is not, with what is and the log.
    pub fn wait_lines(&self, wanted: &[&str]) {
        let begun = std::time::Instant::now();
        while self.lines() != wanted {
            assert!(
                begun.elapsed() < PATIENCE && self.lines().len() <= wanted.len(),
                "{:?}, and not {wanted:?}\n{}",
                self.lines(),
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until the log has these words.
    pub fn wait_log(&self, words: &str) {
        wait_for(&format!("`{words}` in the agent's log"), PATIENCE, || {
            self.log().contains(words).then_some(())
        });
    }

    /// What the agent has printed in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }
}
