//! [`pair`] is two replicas in memory, for the micro benches.
//!
//! The comparison with other servers: [`stores`] starts them, [`work`] has fio write to them, and
//! [`report`] makes medians and ratios of what was measured.
#![forbid(unsafe_code)]

pub mod pair;
pub mod report;
pub mod stores;
pub mod work;
