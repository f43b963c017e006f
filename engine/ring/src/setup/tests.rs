use super::{SetupError, SetupErrorKind};
use std::io;

#[test]
fn what_forbids_a_ring_is_told_in_one_line() {
    let kinds = [
        (
            libc::EPERM,
            SetupErrorKind::Forbidden,
            "kernel.io_uring_disabled",
        ),
        (libc::ENOSYS, SetupErrorKind::TooOld, "Linux 6.1"),
        (libc::EINVAL, SetupErrorKind::TooOld, "Linux 6.1"),
        (libc::ENOMEM, SetupErrorKind::Resources, "RLIMIT_MEMLOCK"),
        (libc::EMFILE, SetupErrorKind::Resources, "cannot be set up"),
    ];
    for (number, kind, word) in kinds {
        let error = SetupError::new(io::Error::from_raw_os_error(number));
        let text = error.to_string();
        assert_eq!(error.kind, kind);
        assert!(text.contains(word) && !text.contains('\n'), "{text}");
    }
}
