//! The archive that a kernel unpacks when it boots: cpio in its `newc` form.

use std::io::{self, Read, Write};
use std::path::Path;

/// What is at its end.
const END: &str = "TRAILER!!!";
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// An archive that is being written.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    written: u64,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Archive<W> {
        Archive {
            out,
            written: 0,
            entries: 0,
        }
    }

    /// Adds a folder, whose parent is there.
    pub(super) fn folder(&mut self, path: &Path) -> io::Result<()> {
        self.entry(&name(path), FOLDER, &[])
    }

    /// Adds a program or another file.
    pub(super) fn file(&mut self, path: &Path, from: &mut impl Read) -> io::Result<()> {
        let mut data = Vec::new();
        from.read_to_end(&mut data)?;
        self.entry(&name(path), FILE, &data)
    }

    /// Adds a file with this text.
    pub(super) fn text(&mut self, path: &Path, text: &str) -> io::Result<()> {
        self.entry(&name(path), FILE, text.as_bytes())
    }

    /// There is nothing to be added any more.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.entry(END, 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let number = |number: usize| u32::try_from(number).map_err(io::Error::other);
        let numbers = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            number(data.len())?,
            0,
            0,
            0,
            0,
            number(name.len() + 1)?,
            0,
        ];
        self.put(b"070701")?;
        for number in numbers {
            self.put(format!("{number:08x}").as_bytes())?;
        }
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(data)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        while !self.written.is_multiple_of(4) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

/// Names are from the root on.
fn name(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::Archive;
    use std::path::Path;

    #[test]
    fn entries_are_what_the_kernel_reads() {
        let mut out = Vec::new();
        let mut archive = Archive::new(&mut out);
        archive.folder(Path::new("/a")).expect("it is written");
        archive
            .text(Path::new("/a/b"), "hello")
            .expect("it is written");
        archive.finish().expect("it is written");
        let head = |mode: &str, bytes: u32, name: u32, entry: u32| {
            format!(
                "070701{entry:08x}{mode}{:08x}{:08x}{:08x}{:08x}{bytes:08x}{:032x}{name:08x}{:08x}",
                0, 0, 1, 0, 0, 0
            )
        };
        let mut wanted = head("000041ed", 0, 2, 1);
        wanted += "a\0";
        wanted += &head("000081ed", 5, 4, 2);
        wanted += "a/b\0\0\0hello\0\0\0";
        wanted += &head("00000000", 0, 11, 3);
        wanted += "TRAILER!!!\0\0\0\0";
        assert_eq!(String::from_utf8(out).expect("text"), wanted);
    }
}
