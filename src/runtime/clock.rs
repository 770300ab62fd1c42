//! The only clock: nanoseconds on the monotonic clock since the process first asked.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call in this process.
pub fn now_ns() -> u64 {
    START.elapsed().as_nanos() as u64
}
