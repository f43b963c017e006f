//! Where a block device is mounted.

use crate::failure::{Context, Failure};
use rustix::mount::UnmountFlags;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the kernel tells of block devices, by their names.
const SYSTEM: &str = "/sys/class/block";

/// Where a device, or what lies on it, is mounted, innermost last; as this process sees it.
pub(super) fn mounts(device: &Path) -> Result<Vec<PathBuf>, Failure> {
    let doing = || format!("cannot look at {}", device.display());
    let number = std::fs::metadata(device).context(doing)?.rdev();
    let mut numbers = vec![(rustix::fs::major(number), rustix::fs::minor(number))];
    let system = Path::new(SYSTEM);
    let above = lies_on(system, device.file_name().unwrap_or_default());
    numbers.extend(above.iter().filter_map(|name| number_of(system, name)));
    let table = std::fs::read_to_string("/proc/self/mountinfo").context(doing)?;
    Ok(mounts_of(&table, &numbers))
}

/// Has all of a device's mounts vanish, whoever uses them.
pub(super) fn unmount_all(device: &Path) -> Result<(), Failure> {
    for mount in mounts(device)?.iter().rev() {
        tracing::warn!("{} is unmounted", mount.display());
        let unmounted = rustix::mount::unmount(mount, UnmountFlags::DETACH);
        // Another may have been quicker.
        if let Err(error) = unmounted {
            tracing::warn!("cannot unmount {}: {error}", mount.display());
        }
    }
    Ok(())
}

/// The partitions of a device, and what lies on it and on nothing else: an encrypted container, a logical volume.
fn lies_on(system: &Path, device: &OsStr) -> Vec<OsString> {
    let folder = |name: &OsStr| system.join(name);
    let mut found = vec![device.to_owned()];
    let parts = names_in(&folder(device));
    found.extend(parts.into_iter().filter(|part| folder(part).exists()));
    let mut next = 0;
    while let Some(name) = found.get(next) {
        for holder in names_in(&folder(name).join("holders")) {
            let below = names_in(&folder(&holder).join("slaves"));
            if !found.contains(&holder) && below.iter().all(|name| found.contains(name)) {
                found.push(holder);
            }
        }
        next += 1;
    }
    found.split_off(1)
}

fn names_in(folder: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

fn number_of(system: &Path, name: &OsStr) -> Option<(u32, u32)> {
    let number = std::fs::read_to_string(system.join(name).join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The mount points of devices in `/proc/self/mountinfo`.
fn mounts_of(table: &str, numbers: &[(u32, u32)]) -> Vec<PathBuf> {
    let numbers: Vec<String> = numbers
        .iter()
        .map(|(major, minor)| format!("{major}:{minor}"))
        .collect();
    let mounts = table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        let device = words.next()?;
        let place = words.nth(1)?;
        let ours = numbers.iter().any(|number| number == device);
        ours.then(|| unescaped(place))
    });
    mounts.collect()
}

/// A path as mountinfo has it: blanks and backslashes are octal numbers.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::{lies_on, mounts_of, unescaped};
    use std::ffi::OsStr;
    use std::path::Path;

    const TABLE: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        31 22 7:3 / /mnt/a\\040b rw,relatime shared:2 - ext4 /dev/loop3 rw\n\
        32 22 7:31 / /mnt/other rw,relatime - ext4 /dev/loop31 rw\n\
        33 22 7:3 /sub /var/lib/x rw,relatime - ext4 /dev/loop3 rw\n\
        broken\n";

    #[test]
    fn mounts_are_found_by_the_device_s_number() {
        let found = mounts_of(TABLE, &[(7, 3)]);
        assert_eq!(found, [Path::new("/mnt/a b"), Path::new("/var/lib/x")]);
        let found = mounts_of(TABLE, &[(7, 31), (7, 3)]);
        assert_eq!(found.len(), 3);
        assert!(mounts_of(TABLE, &[(7, 1)]).is_empty());
    }

    /// As the kernel has it: a device with a partition that holds a container with a logical volume in it, and with one that
    /// another device has a share in.
    #[test]
    fn what_lies_on_a_device_alone_is_found() {
        let system = tempfile::tempdir().expect("a folder");
        let lies = |upper: &str, lower: &str| {
            for path in [[lower, "holders", upper], [upper, "slaves", lower]] {
                let path: std::path::PathBuf = path.iter().collect();
                std::fs::create_dir_all(system.path().join(path)).expect("a folder");
            }
        };
        for part in ["nbd1", "nbd1/nbd1p1", "nbd1p1", "nbd1/queue", "nbd2"] {
            std::fs::create_dir_all(system.path().join(part)).expect("a folder");
        }
        lies("dm-0", "nbd1p1");
        lies("dm-1", "dm-0");
        lies("md0", "dm-0");
        lies("md0", "nbd2");
        let above = |name: &str| lies_on(system.path(), OsStr::new(name));
        assert_eq!(above("nbd1"), ["nbd1p1", "dm-0", "dm-1"]);
        assert!(above("nbd2").is_empty() && above("nbd3").is_empty());
    }

    #[test]
    fn octal_numbers_are_characters() {
        assert_eq!(unescaped("/a\\134b\\011c\\0"), Path::new("/a\\b\tc\\0"));
    }
}
