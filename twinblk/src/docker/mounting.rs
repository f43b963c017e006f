//! The way of a volume from nothing to a mounted file system and back, and who has it mounted.
//!
//! ```text
//!            attach       mkfs, once      fsck -p, mount      counted
//!   nothing --------> device --------> file system --------> mounted --------> told
//!            detach                                 unmount           uncounted
//! ```
//!
//! The plugin may end between any two steps, and comes back to what it has noted and what there is: whoever was told
//! that a volume is mounted is counted, durably, before; and what nobody is counted for is taken away.

use super::machine::{Content, Device, Machine};
use super::notes::{Note, Notes};
use super::options::{Fs, Settings};
use crate::failure::Failure;
use format::types::Name;
use std::path::PathBuf;

/// What containers see is not the file system's root: there is `lost+found`, which some programs take for a file of theirs.
const FOLDER: &str = "data";

/// A volume, as the daemon has it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// Its name.
    pub(super) name: Name,
    /// Its id.
    pub(super) id: String,
    /// What is done with it.
    pub(super) settings: Settings,
}

/// All volumes of this machine. Everything may block, and is done for one volume at a time.
#[derive(Debug)]
pub(super) struct Mounting<M> {
    machine: M,
    notes: Notes,
    run_dir: PathBuf,
}

impl<M: Machine> Mounting<M> {
    pub(super) fn new(machine: M, notes: Notes, run_dir: PathBuf) -> Mounting<M> {
        Mounting {
            machine,
            notes,
            run_dir,
        }
    }

    fn place(&self, name: &Name) -> PathBuf {
        self.run_dir.join(name.to_string())
    }

    /// What is remembered of a volume; nothing is of another that had its name.
    pub(super) fn note(&self, name: &Name, id: &str) -> Result<Note, Failure> {
        let note = self.notes.read(name)?;
        if note.volume_id == id {
            return Ok(note);
        }
        let mut fresh = Note::default();
        fresh.volume_id.push_str(id);
        fresh.boot = note.boot;
        // Whatever is attached by that name is given back by that name.
        fresh.attached = note.attached;
        Ok(fresh)
    }

    /// Says that the volume is not there on this node for Docker, or is there again.
    pub(super) fn forget(&self, name: &Name, id: &str, forgotten: bool) -> Result<(), Failure> {
        let mut note = self.note(name, id)?;
        note.forgotten = forgotten;
        self.notes.keep(name, &note)
    }

    /// The volume is no more.
    pub(super) fn removed(&self, name: &Name) -> Result<(), Failure> {
        self.notes.remove(name)
    }

    /// Whether the volume's file system is mounted, and its device lives.
    fn is_mounted(&self, name: &Name) -> Result<bool, Failure> {
        let Some(number) = self.machine.mounted(&self.place(name))? else {
            return Ok(false);
        };
        match self.machine.device(name)? {
            Some(device) => Ok(self.machine.number(&device)? == number),
            None => Ok(false),
        }
    }

    /// What containers see of the volume, if it is mounted.
    pub(super) fn path(&self, name: &Name) -> Result<Option<PathBuf>, Failure> {
        let mounted = self.is_mounted(name)?;
        Ok(mounted.then(|| self.place(name).join(FOLDER)))
    }

    /// Mounts the volume, which this node serves or is about to, for somebody.
    pub(super) fn mount(&self, subject: &Subject, who: &str) -> Result<PathBuf, Failure> {
        let Subject { name, id, .. } = subject;
        let mut note = self.note(name, id)?;
        if !self.is_mounted(name)? {
            let mounted = self.mount_first(subject, &mut note);
            if mounted.is_err() {
                // Why it is not mounted is what counts.
                self.put_away(name, &mut note);
            }
            mounted?;
        }
        if note.mounts.insert(who.to_owned())
            && let Err(failure) = self.notes.keep(name, &note)
        {
            note.mounts.remove(who);
            self.put_away(name, &mut note);
            return Err(failure);
        }
        Ok(self.place(name).join(FOLDER))
    }

    fn mount_first(&self, subject: &Subject, note: &mut Note) -> Result<(), Failure> {
        let Subject { name, settings, .. } = subject;
        let place = self.place(name);
        if self.machine.mounted(&place)?.is_some() {
            // Of a device that has been taken from it. Who still uses it sees errors already.
            self.machine.unmount(&place, true)?;
        }
        let device = match self.machine.device(name)? {
            Some(device) => device,
            None => {
                note.attached = true;
                self.notes.keep(name, note)?;
                self.machine.attach(name)?;
                let attached = self.machine.device(name)?;
                attached.ok_or_else(|| {
                    Failure::failed(format!(
                        "volume {name} has been taken from this node: try again"
                    ))
                })?
            }
        };
        let kind = match self.machine.content(&device)? {
            Content::FileSystem(kind) => kind,
            Content::Nothing if note.made => {
                return Err(Failure::protects_data(format!(
                    "volume {name} had a file system and has none now: nothing was done to it; see what is left of \
                     it on {}, which `twinblk volume attach {name}` makes",
                    device.path.display()
                )));
            }
            Content::Nothing | Content::Unready => {
                let fs = settings.fs.ok_or_else(|| {
                    Failure::failed(format!(
                        "volume {name} has no file system and was not created through Docker, so none is made: \
                         `twinblk volume attach {name}`, `mkfs.ext4 /dev/twinblk/{name}`, `twinblk volume detach {name}`"
                    ))
                })?;
                self.make(&device, fs, settings)?;
                fs.to_string()
            }
            Content::Other(what) => {
                return Err(Failure::protects_data(format!(
                    "volume {name} holds {what} and no file system: nothing was done to it; use it by \
                     `twinblk volume attach {name}`"
                )));
            }
        };
        self.machine.check(&device, &kind)?;
        let options = settings.mount_options.as_deref();
        self.machine.mount(&device, &kind, options, &place)?;
        self.machine.make_folder(&place.join(FOLDER))?;
        note.made = true;
        Ok(())
    }

    fn make(&self, device: &Device, fs: Fs, settings: &Settings) -> Result<(), Failure> {
        tracing::info!("{}: {fs} is made", device.path.display());
        self.machine.make(device, fs, &settings.mkfs)?;
        // It may have been told to make something else, or nothing.
        match self.machine.content(device)? {
            Content::Unready => self.machine.make_ready(device, fs),
            other => Err(Failure::failed(format!(
                "mkfs.{fs} has made {other:?}: create the volume with another option mkfs"
            ))),
        }
    }

    /// Somebody needs the volume no more. Whoever is not counted never had it, or has given it back already.
    pub(super) fn unmount(&self, name: &Name, who: &str) -> Result<(), Failure> {
        let mut note = self.notes.read(name)?;
        if note.mounts.remove(who) {
            self.notes.keep(name, &note)?;
        }
        self.tidy_up(name, &mut note)
    }

    /// Takes away what nobody is counted for.
    fn tidy_up(&self, name: &Name, note: &mut Note) -> Result<(), Failure> {
        let place = self.place(name);
        if !note.mounts.is_empty() {
            return Ok(());
        }
        if self.machine.mounted(&place)?.is_some() {
            let lives = self.is_mounted(name)?;
            self.machine.unmount(&place, !lives)?;
        }
        if note.attached {
            self.machine.detach(name)?;
            note.attached = false;
            self.notes.keep(name, note)?;
        }
        Ok(())
    }

    fn put_away(&self, name: &Name, note: &mut Note) {
        if let Err(failure) = self.tidy_up(name, note) {
            tracing::warn!("volume {name}: {failure}");
        }
    }

    /// Whether something is left that nobody is counted for; takes it away if it can be by now.
    pub(super) fn settle(&self, name: &Name) -> Result<(), Failure> {
        let mut note = self.notes.read(name)?;
        self.tidy_up(name, &mut note)
    }

    /// Refuses if somebody has the volume mounted. Who was counted for a mount that is gone has nothing any more.
    pub(super) fn refuse_if_mounted(&self, name: &Name) -> Result<(), Failure> {
        let mut note = self.notes.read(name)?;
        if !note.mounts.is_empty() && self.is_mounted(name)? {
            let (count, place) = (note.mounts.len(), self.place(name));
            let place = place.display();
            return Err(Failure::failed(format!(
                "volume {name} is mounted {count} times on {place}: stop the containers that use it; if there are \
                 none, `umount {place}` first"
            )));
        }
        if !note.mounts.is_empty() {
            note.mounts.clear();
            self.notes.keep(name, &note)?;
        }
        self.tidy_up(name, &mut note)
    }

    /// How many have the volume mounted.
    pub(super) fn count(&self, name: &Name, id: &str) -> Result<usize, Failure> {
        Ok(self.note(name, id)?.mounts.len())
    }

    /// Where the plugin begins: the volumes that something is left of which nobody is counted for, and which cannot be
    /// taken away yet.
    pub(super) fn begin(&self) -> Result<Vec<Name>, Failure> {
        let mut left = Vec::new();
        for name in self.notes.names()? {
            if let Err(failure) = self.settle(&name) {
                tracing::warn!("volume {name}: {failure}");
                left.push(name);
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
