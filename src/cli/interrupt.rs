//! Interrupts: the first one asks for an end, a later one ends at once.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::Failure;

/// What the shell is told after a second interrupt: 128 + SIGINT.
const EXIT_CODE: i32 = 130;
/// Signals that come within this time are one: `timeout` and some shells signal a process and then its whole group.
const ONE_INTERRUPT: Duration = Duration::from_millis(300);

/// A flag that asks a job to stop.
pub fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

/// Has SIGINT and SIGTERM set `stop`.
pub fn listen(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot listen to signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let stop = stop.clone();
    let wait = move || {
        let mut first = None;
        for _ in signals.forever() {
            stop.store(true, Ordering::Relaxed);
            if first.get_or_insert_with(Instant::now).elapsed() > ONE_INTERRUPT {
                exit(EXIT_CODE);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(failed)
}
