use super::ClusterKey;
use crate::failure::FailureKind;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_new_key_is_private_and_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cluster.key");
    ClusterKey::create(&path).expect("there is none yet");
    let mode = std::fs::metadata(&path)
        .expect("it exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&path).expect("it can be read");
    let refusal = ClusterKey::create(&path).expect_err("it exists");
    assert_eq!(refusal.kind, FailureKind::ProtectsData);
    assert_eq!(std::fs::read(&path).expect("it can be read"), before);
    ClusterKey::read(&path).expect("it is good");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cluster.key");
    ClusterKey::create(&path).expect("there is none yet");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("it is ours");
    let failure = ClusterKey::read(&path).err().expect("it is refused");
    assert!(failure.message.contains("chmod 600"), "{failure}");
}

#[test]
fn a_damaged_key_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cluster.key");
    for text in ["", "abc", &"g".repeat(64), &"a".repeat(66)] {
        std::fs::write(&path, text).expect("it is ours");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
        assert!(ClusterKey::read(&path).is_err(), "{text}");
    }
}
