//! Interrupts: the first one asks for an end, the second one ends at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::error::Failure;

/// What the shell is told after a second interrupt: 128 + SIGINT.
const EXIT_CODE: i32 = 130;

/// A flag that asks a job to stop.
pub fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

/// Has SIGINT and SIGTERM set `stop`.
pub fn listen(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    use signal_hook::flag;
    // Not `stop` itself, which a failing output sets as well.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: only a signal that finds the flag already set ends the process.
        flag::register_conditional_shutdown(signal, EXIT_CODE, interrupted.clone())
            .and_then(|_| flag::register(signal, interrupted.clone()))
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| Failure::Failed(format!("cannot listen to signals: {error}")))?;
    }
    Ok(())
}
