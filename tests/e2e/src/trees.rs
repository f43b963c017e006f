//! What images are made of: programs of this machine, and what they need.

use crate::foreign::tool;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Who owns a database's folder in its image.
pub const DATABASE_USER: u32 = 999;
/// Where the image `postgres` has its database.
const POSTGRES_DATA: &str = "var/lib/postgresql/data";

/// Makes a tree with busybox's shell in it, and a file below `/data`.
///
/// # Panics
/// If busybox is not installed; `scripts/setup` installs it.
pub fn busybox_tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    let (bin, data) = (tree.join("bin"), tree.join("data"));
    std::fs::create_dir_all(&bin).expect("a folder");
    std::fs::create_dir_all(&data).expect("a folder");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for name in [
        "sh", "cat", "echo", "sleep", "ls", "sync", "tail", "stat", "wc", "cp", "chown", "chmod",
        "ln", "readlink",
    ] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
    }
    std::fs::write(data.join("from-image"), "the image's\n").expect("a file");
    let owner = Some(rustix::fs::Uid::from_raw(33));
    rustix::fs::chown(data.join("from-image"), owner, None).expect("root may");
    tree
}

/// Makes a tree with Debian's PostgreSQL in it, whose programs are in the folder that is returned as well. `/data` is its
/// user's.
///
/// # Panics
/// If it is not installed; `scripts/setup` installs it.
pub fn postgres_tree(folder: &Path) -> (PathBuf, String) {
    let tree = busybox_tree(folder);
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    let version = versions
        .flatten()
        .map(|entry| entry.path())
        .max()
        .expect("a version");
    let programs = ["postgres", "initdb", "psql"].map(|name| version.join("bin").join(name));
    for program in &programs {
        copy_program(&tree, program);
    }
    let number = version
        .file_name()
        .expect("a number")
        .to_string_lossy()
        .into_owned();
    for library in ["dict_snowball.so", "plpgsql.so"] {
        copy(&tree, &version.join("lib").join(library));
    }
    for folder in [
        format!("/usr/share/postgresql/{number}"),
        "/usr/share/zoneinfo/Etc".to_owned(),
    ] {
        copy(&tree, Path::new(&folder));
    }
    own_data(&tree, "postgres");
    (tree, version.join("bin").display().to_string())
}

/// Makes a tree that does what the image `postgres` does: it makes a database where there is none, in the same folder, and
/// serves it. Returned as well is what makes an image of it, as in a Dockerfile.
///
/// # Panics
/// If PostgreSQL is not installed; `scripts/setup` installs it.
pub fn postgres_image_tree(folder: &Path) -> (PathBuf, Vec<String>) {
    let (tree, programs) = postgres_tree(folder);
    let data = tree.join(POSTGRES_DATA);
    std::fs::create_dir_all(&data).expect("a folder");
    own(&data);
    let serve = tree.join("serve");
    let script = format!(
        "#!/bin/sh\nset -e\n\
         [ -s /{POSTGRES_DATA}/PG_VERSION ] || initdb -D /{POSTGRES_DATA} -U postgres --auth=trust --locale=C -E UTF8\n\
         exec postgres -D /{POSTGRES_DATA} -c unix_socket_directories=/tmp -c max_wal_size=64MB\n"
    );
    std::fs::write(&serve, script).expect("a file");
    std::fs::set_permissions(serve, std::fs::Permissions::from_mode(0o755)).expect("root may");
    let changes = vec![
        format!("ENV PATH={programs}:/bin PGHOST=/tmp PGUSER=postgres"),
        format!("USER {DATABASE_USER}:{DATABASE_USER}"),
        "CMD [\"/serve\"]".to_owned(),
    ];
    (tree, changes)
}

/// As [`postgres_tree`], with Debian's MariaDB.
///
/// # Panics
/// If it is not installed; `scripts/setup` installs it.
pub fn mariadb_tree(folder: &Path) -> (PathBuf, String) {
    let tree = busybox_tree(folder);
    for program in ["/usr/sbin/mariadbd", "/usr/bin/mariadb"] {
        copy_program(&tree, Path::new(program));
    }
    for folder in ["charsets", "english"] {
        copy(&tree, &Path::new("/usr/share/mysql").join(folder));
    }
    own_data(&tree, "mysql");
    (tree, "/usr/sbin:/usr/bin".to_owned())
}

/// Has `/data` and `/tmp`, and a user who may write to them.
fn own_data(tree: &Path, user: &str) {
    let etc = tree.join("etc");
    std::fs::create_dir_all(&etc).expect("a folder");
    let line =
        format!("root:x:0:0::/:/bin/sh\n{user}:x:{DATABASE_USER}:{DATABASE_USER}::/data:/bin/sh\n");
    std::fs::write(etc.join("passwd"), line).expect("a file");
    let temporary = tree.join("tmp");
    std::fs::create_dir_all(&temporary).expect("a folder");
    let mode = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(temporary, mode).expect("root may");
    let data = tree.join("data");
    std::fs::remove_file(data.join("from-image")).expect("it is there");
    own(&data);
}

/// Makes a folder the database's.
fn own(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).expect("root may");
    let user = rustix::fs::Uid::from_raw(DATABASE_USER);
    let group = rustix::fs::Gid::from_raw(DATABASE_USER);
    rustix::fs::chown(folder, Some(user), Some(group)).expect("root may");
}

/// Copies a program and the libraries that it is linked to, to where they are.
fn copy_program(tree: &Path, program: &Path) {
    copy(tree, program);
    let linked = tool("ldd", &[&program.display().to_string()]).success();
    let words = linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let libraries: BTreeSet<&str> = words.collect();
    for library in libraries {
        copy(tree, Path::new(library));
    }
}

/// Copies a file or folder to where it is, with what links lead to.
fn copy(tree: &Path, path: &Path) {
    let target = tree.join(path.strip_prefix("/").expect("it is absolute"));
    if target.exists() {
        return;
    }
    let parent = target.parent().expect("it is below the tree");
    std::fs::create_dir_all(parent).expect("a folder");
    let (from, to) = (path.display().to_string(), target.display().to_string());
    tool(
        "cp",
        &[
            "--recursive",
            "--dereference",
            "--preserve=mode",
            &from,
            &to,
        ],
    )
    .success();
}
