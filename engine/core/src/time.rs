//! Time, as the shell tells it.

/// Nanoseconds of a clock that also counts while the machine sleeps (CLOCK_BOOTTIME).
pub type Nanos = u64;
