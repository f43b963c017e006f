//! io_uring, an arena of aligned memory that the kernel knows, and files and sockets: the one crate
//! with `unsafe` code, behind an API by which no caller can cause undefined behaviour.
//!
//! Every [`Operation`] owns the memory and the descriptor that it needs from its submission to its
//! completion, also when it is cancelled; dropping the [`Ring`] cancels what is in flight and waits
//! for it. The memory itself comes in two forms: an [`OwnedSlot`] has one owner, who may write to
//! it (a read or a receive is such an owner while it lasts); a [`SharedSlot`] has many, who all
//! only read.
#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

mod arena;
mod batch;
mod file;
mod operation;
mod registration;
mod ring;
mod setup;
mod slab;
mod waker;

pub use arena::{Arena, OwnedSlot, SLOT_BYTES_MAX, SharedSlot};
pub use batch::SendBatch;
pub use file::File;
pub use operation::{Done, Operation, OperationKey, Zeroing};
pub use ring::{Completion, Ring};
pub use setup::{SetupError, SetupErrorKind};
pub use waker::Waker;
