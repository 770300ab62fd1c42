//! The only clocks: nanoseconds on the monotonic clock since the process first asked, and the wall clock.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call in this process.
pub fn now_ns() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// The wall clock, milliseconds UTC; it may jump. Event time never comes from it: it tells how old events are, and that a
/// record cannot be of tomorrow.
pub fn wall_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
