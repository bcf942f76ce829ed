//! The clock by which leases are counted. It cannot be set, and it goes on while the machine is suspended, unlike the one
//! behind `Instant`: a VM that wakes up knows how long it has slept.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine was started.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}
