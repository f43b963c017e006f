//! Where a block device is mounted.

use crate::failure::{Context, Failure};
use rustix::mount::UnmountFlags;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a device or a part of it is mounted, innermost last; as this process sees it.
pub(super) fn mounts(device: &Path) -> Result<Vec<PathBuf>, Failure> {
    let doing = || format!("cannot look at {}", device.display());
    let number = std::fs::metadata(device).context(doing)?.rdev();
    let mut numbers = vec![(rustix::fs::major(number), rustix::fs::minor(number))];
    numbers.extend(partitions(device));
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

/// The numbers of a device's partitions.
fn partitions(device: &Path) -> Vec<(u32, u32)> {
    let name = device.file_name().unwrap_or_default();
    let folder = std::fs::read_dir(Path::new("/sys/class/block").join(name));
    let parts = folder.into_iter().flatten().flatten().filter_map(|entry| {
        let number = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = number.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    parts.collect()
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
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::{mounts_of, unescaped};
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

    #[test]
    fn octal_numbers_are_characters() {
        assert_eq!(unescaped("/a\\134b\\011c\\0"), Path::new("/a\\b\tc\\0"));
    }
}
