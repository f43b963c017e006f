use super::{Mounting, Subject};
use crate::docker::machine::{Content, Device, Machine};
use crate::docker::notes::Notes;
use crate::docker::options::{Fs, Settings};
use crate::failure::Failure;
use format::types::Name;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a machine is like, as far as the plugin goes.
#[derive(Debug)]
struct World {
    attached: bool,
    content: Content,
    mounted: bool,
    // Files of containers are in the file system: making another one would lose them.
    written: bool,
    made: usize,
    busy: bool,
    steps: usize,
    // The step that the plugin does not survive, and whether that is done.
    end: Option<(usize, bool)>,
}

#[derive(Clone, Debug)]
struct Fake(Arc<Mutex<World>>);

/// What the plugin's end unwinds with.
struct End;

impl Fake {
    fn new() -> Fake {
        Fake(Arc::new(Mutex::new(World {
            attached: false,
            content: Content::Nothing,
            mounted: false,
            written: false,
            made: 0,
            busy: false,
            steps: 0,
            end: None,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T>(&self, change: impl FnOnce(&mut World) -> Result<T, Failure>) -> Result<T, Failure> {
        let (step, end) = {
            let mut world = self.world();
            world.steps += 1;
            (world.steps, world.end)
        };
        if end == Some((step, false)) {
            std::panic::resume_unwind(Box::new(End));
        }
        let done = change(&mut self.world());
        if end == Some((step, true)) {
            std::panic::resume_unwind(Box::new(End));
        }
        done
    }

    /// Steps are counted anew, and the plugin ends at one of them.
    fn end_at(&self, end: Option<(usize, bool)>) {
        let mut world = self.world();
        world.steps = 0;
        world.end = end;
    }

    fn assert_clean(&self, when: &str) {
        let world = self.world();
        assert!(!world.attached && !world.mounted, "{when}: {world:?}");
    }
}

impl Machine for Fake {
    fn device(&self, _: &Name) -> Result<Option<Device>, Failure> {
        let device = || Device {
            path: "/dev/loop7".into(),
            open: None,
        };
        self.step(|world| Ok(world.attached.then(device)))
    }

    fn attach(&self, _: &Name) -> Result<(), Failure> {
        self.step(|world| {
            assert!(!world.attached, "it is attached already");
            world.attached = true;
            Ok(())
        })
    }

    fn detach(&self, _: &Name) -> Result<(), Failure> {
        self.step(|world| {
            if world.attached && (world.mounted || world.busy) {
                return Err(Failure::failed("it is in use"));
            }
            world.attached = false;
            Ok(())
        })
    }

    fn content(&self, _: &Device) -> Result<Content, Failure> {
        self.step(|world| Ok(world.content.clone()))
    }

    fn make(&self, _: &Device, _: Fs, _: &[String]) -> Result<(), Failure> {
        self.step(|world| {
            assert!(!world.written, "what was written is gone");
            world.content = Content::Unready;
            world.made += 1;
            Ok(())
        })
    }

    fn make_ready(&self, _: &Device, fs: Fs) -> Result<(), Failure> {
        self.step(|world| {
            world.content = Content::FileSystem(fs.to_string());
            Ok(())
        })
    }

    fn check(&self, _: &Device, _: &str) -> Result<(), Failure> {
        self.step(|world| {
            assert!(!world.mounted, "it is mounted");
            Ok(())
        })
    }

    fn mounted(&self, _: &Path) -> Result<Option<String>, Failure> {
        self.step(|world| Ok(world.mounted.then(|| "7:7".to_owned())))
    }

    fn number(&self, _: &Device) -> Result<String, Failure> {
        self.step(|_| Ok("7:7".to_owned()))
    }

    fn mount(&self, _: &Device, _: &str, _: Option<&str>, _: &Path) -> Result<(), Failure> {
        self.step(|world| {
            assert!(world.attached && !world.mounted, "{world:?}");
            assert!(matches!(world.content, Content::FileSystem(_)));
            world.mounted = true;
            Ok(())
        })
    }

    fn make_folder(&self, _: &Path) -> Result<(), Failure> {
        self.step(|world| {
            assert!(world.mounted);
            Ok(())
        })
    }

    fn unmount(&self, _: &Path, dead: bool) -> Result<(), Failure> {
        self.step(|world| {
            if world.busy && !dead {
                return Err(Failure::failed("it is in use"));
            }
            world.mounted = false;
            Ok(())
        })
    }
}

/// A plugin over a machine; each is another life of it.
fn plugin(fake: &Fake, folder: &Path) -> Mounting<Fake> {
    let notes = Notes::open(folder).expect("a folder of one's own");
    Mounting::new(fake.clone(), notes, "/run/x".into())
}

fn name() -> Name {
    Name::new("pgdata").expect("a name")
}

fn subject(id: &str) -> Subject {
    let settings = Settings {
        fs: Some(Fs::Ext4),
        ..Settings::default()
    };
    Subject {
        name: name(),
        id: id.to_owned(),
        settings,
    }
}

/// Ends the plugin at every step of a piece of work, before it and behind it, each time in a world as `prepare` leaves
/// it, and hands what is left to `then`.
fn at_every_step(
    prepare: impl Fn(&Fake, &Path),
    work: impl Fn(&Mounting<Fake>) -> Result<(), Failure>,
    then: impl Fn(&Fake, &Path, &str),
) {
    for step in 1.. {
        for done in [false, true] {
            let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("a folder"));
            prepare(&fake, folder.path());
            fake.end_at(Some((step, done)));
            let ended = catch_unwind(AssertUnwindSafe(|| work(&plugin(&fake, folder.path()))));
            fake.end_at(None);
            if let Ok(result) = ended {
                result.expect("it ends well");
                assert!(step > 3, "it has steps");
                return;
            }
            assert!(ended.is_err_and(|end| end.is::<End>()));
            then(&fake, folder.path(), &format!("step {step}, done: {done}"));
        }
    }
}

#[test]
fn a_plugin_that_ends_amid_a_first_mount_leaves_nothing() {
    let mount = |plugin: &Mounting<Fake>| plugin.mount(&subject("1"), "one").map(drop);
    at_every_step(
        |_, _| (),
        mount,
        |fake, folder, when| {
            let plugin = plugin(fake, folder);
            assert_eq!(plugin.begin().expect("it begins"), [], "{when}");
            fake.assert_clean(when);
            assert_eq!(plugin.count(&name(), "1").expect("a count"), 0, "{when}");
            // Docker asks again, and then no more.
            mount(&plugin).expect("it is mounted");
            fake.world().written = true;
            plugin.unmount(&name(), "one").expect("it is unmounted");
            fake.assert_clean(when);
            mount(&plugin).expect("it is mounted");
        },
    );
}

#[test]
fn a_plugin_that_ends_amid_a_second_mount_keeps_the_first() {
    let prepare = |fake: &Fake, folder: &Path| {
        plugin(fake, folder)
            .mount(&subject("1"), "one")
            .expect("it is mounted");
        fake.world().written = true;
    };
    let mount = |plugin: &Mounting<Fake>| {
        let mounted = plugin.mount(&subject("1"), "two").map(drop);
        plugin.path(&name()).map(drop).and(mounted)
    };
    at_every_step(prepare, mount, |fake, folder, when| {
        let plugin = plugin(fake, folder);
        assert_eq!(plugin.begin().expect("it begins"), [], "{when}");
        assert!(fake.world().mounted, "{when}");
        mount(&plugin).expect("it is mounted");
        assert_eq!(plugin.count(&name(), "1").expect("a count"), 2, "{when}");
        plugin.unmount(&name(), "one").expect("it is given back");
        assert!(fake.world().mounted, "{when}");
        plugin.unmount(&name(), "two").expect("it is given back");
        fake.assert_clean(when);
    });
}

#[test]
fn a_plugin_that_ends_amid_the_last_unmount_finishes_it() {
    let prepare = |fake: &Fake, folder: &Path| {
        plugin(fake, folder)
            .mount(&subject("1"), "one")
            .expect("it is mounted");
    };
    let unmount = |plugin: &Mounting<Fake>| plugin.unmount(&name(), "one");
    at_every_step(prepare, unmount, |fake, folder, when| {
        let plugin = plugin(fake, folder);
        assert_eq!(plugin.begin().expect("it begins"), [], "{when}");
        fake.assert_clean(when);
        unmount(&plugin).expect("again is no error");
        assert_eq!(plugin.count(&name(), "1").expect("a count"), 0, "{when}");
    });
}

#[test]
fn who_mounts_twice_is_counted_once() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("a folder"));
    let plugin = plugin(&fake, folder.path());
    let path = plugin.mount(&subject("1"), "one").expect("it is mounted");
    assert_eq!(path, Path::new("/run/x/pgdata/data"));
    assert_eq!(plugin.mount(&subject("1"), "one").expect("again"), path);
    assert_eq!(plugin.count(&name(), "1").expect("a count"), 1);
    assert!(plugin.refuse_if_mounted(&name()).is_err());
    plugin.unmount(&name(), "nobody").expect("it is no error");
    assert!(fake.world().mounted);
    plugin.unmount(&name(), "one").expect("it is given back");
    fake.assert_clean("in the end");
    plugin.refuse_if_mounted(&name()).expect("nobody has it");
}

#[test]
fn what_is_still_in_use_is_taken_away_later() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("a folder"));
    let plugin = plugin(&fake, folder.path());
    plugin.mount(&subject("1"), "one").expect("it is mounted");
    fake.world().busy = true;
    plugin
        .unmount(&name(), "one")
        .expect_err("somebody is in it");
    assert_eq!(plugin.begin().expect("it begins"), [name()]);
    fake.world().busy = false;
    plugin.settle(&name()).expect("nobody is in it");
    fake.assert_clean("in the end");
}

#[test]
fn a_file_system_is_made_only_where_none_was() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("a folder"));
    let plugin = plugin(&fake, folder.path());
    let by_hand = Subject {
        settings: Settings::default(),
        ..subject("1")
    };
    let refused = plugin.mount(&by_hand, "one").expect_err("nothing is made");
    assert!(refused.message.contains("mkfs.ext4"), "{refused}");
    fake.world().content = Content::Other("crypto_LUKS".to_owned());
    let refused = plugin
        .mount(&subject("1"), "one")
        .expect_err("it is not overwritten");
    assert!(refused.message.contains("crypto_LUKS"), "{refused}");
    fake.assert_clean("after refusals");
    fake.world().content = Content::Nothing;
    plugin.mount(&subject("1"), "one").expect("it is made");
    plugin.unmount(&name(), "one").expect("it is given back");
    // Its beginning was overwritten: that is no reason to lose the rest.
    fake.world().content = Content::Nothing;
    let refused = plugin
        .mount(&subject("1"), "one")
        .expect_err("nothing is made");
    assert!(refused.message.contains("had a file system"), "{refused}");
    // Another volume of that name is another volume.
    plugin.mount(&subject("2"), "one").expect("it is made");
    assert_eq!(fake.world().made, 2);
}

#[test]
fn a_device_that_was_taken_away_is_attached_again() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().expect("a folder"));
    let plugin = plugin(&fake, folder.path());
    plugin.mount(&subject("1"), "one").expect("it is mounted");
    // As where another node took over: the device and the mount go, the container stays for a while.
    {
        let mut world = fake.world();
        world.attached = false;
        world.mounted = false;
    }
    assert_eq!(plugin.path(&name()).expect("a look"), None);
    plugin.mount(&subject("1"), "two").expect("it is mounted");
    plugin.unmount(&name(), "one").expect("it ends at last");
    assert!(fake.world().mounted);
    // As where the device's process was killed: the mount is dead, and is let go even if in use.
    {
        let mut world = fake.world();
        world.attached = false;
        world.busy = true;
    }
    plugin.unmount(&name(), "two").expect("it vanishes");
    fake.assert_clean("in the end");
}
