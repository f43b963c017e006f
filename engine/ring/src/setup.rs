//! Setting a ring up, and saying in one line why it cannot be.

use io_uring::{IoUring, Probe, opcode};
use std::io;

#[cfg(test)]
mod tests;

/// Entries of the submission queue: what one system call can hand over.
const SUBMISSIONS: u32 = 256;
/// Entries of the completion queue.
const COMPLETIONS: u32 = 4096;
/// The most operations that the kernel has at once: the completion queue holds twice as many.
pub(crate) const IN_FLIGHT_MAX: usize = COMPLETIONS as usize / 2;

/// What kept a ring from being set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupErrorKind {
    /// A system setting or a seccomp filter forbids io_uring.
    Forbidden,
    /// The kernel does not have all that is needed.
    TooOld,
    /// No memory, no descriptors.
    Resources,
}

/// Why a ring could not be set up: one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{context}: {source}")]
pub struct SetupError {
    /// What to match on.
    pub kind: SetupErrorKind,
    /// What was being done, or what to do about it.
    pub context: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

const FORBIDDEN: &str = "io_uring is forbidden here: set sysctl kernel.io_uring_disabled=0, and in \
     a container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile";
const TOO_OLD: &str = "this kernel's io_uring is too old: Linux 6.1 or later is needed";
const NO_MEMORY: &str = "io_uring may lock no more memory for this user: raise RLIMIT_MEMLOCK";
const NO_RESOURCES: &str = "io_uring cannot be set up";

impl SetupError {
    fn new(source: io::Error) -> SetupError {
        let (kind, context) = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => (SetupErrorKind::Forbidden, FORBIDDEN),
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => {
                (SetupErrorKind::TooOld, TOO_OLD)
            }
            Some(libc::ENOMEM) => (SetupErrorKind::Resources, NO_MEMORY),
            _ => (SetupErrorKind::Resources, NO_RESOURCES),
        };
        SetupError {
            kind,
            context,
            source,
        }
    }
}

/// An error of something else that the ring, once it was set up, was to begin with.
impl From<io::Error> for SetupError {
    fn from(source: io::Error) -> SetupError {
        SetupError {
            kind: SetupErrorKind::Resources,
            context: NO_RESOURCES,
            source,
        }
    }
}

/// A ring with all that this crate relies on.
pub(crate) fn build() -> Result<IoUring, SetupError> {
    let uring = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .dontfork()
        .build(SUBMISSIONS)
        .map_err(SetupError::new)?;
    let mut probe = Probe::new();
    uring
        .submitter()
        .register_probe(&mut probe)
        .map_err(SetupError::new)?;
    let needed = [
        opcode::Read::CODE,
        opcode::ReadFixed::CODE,
        opcode::Write::CODE,
        opcode::WriteFixed::CODE,
        opcode::Fsync::CODE,
        opcode::Fallocate::CODE,
        opcode::Recv::CODE,
        opcode::SendMsg::CODE,
        opcode::AsyncCancel::CODE,
    ];
    if !needed.into_iter().all(|code| probe.is_supported(code))
        || !uring.params().is_feature_ext_arg()
    {
        return Err(SetupError::new(io::Error::from_raw_os_error(
            libc::EOPNOTSUPP,
        )));
    }
    Ok(uring)
}
