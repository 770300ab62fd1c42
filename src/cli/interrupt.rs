//! Interrupts: the first one asks for an end, a later one ends at once.
//!
//! SIGINT, SIGTERM and SIGHUP are the same. After the first, what was read is completed, at most for `--drain`. What cannot
//! be completed is not waited for so long: a run that has not begun ends within [`BEGINNING`], one whose broker is gone
//! within [`TROUBLED`], one that repeats its log after a restart within [`REPEATING`]. Such an end has exit code 3 and one line
//! that says why, and what is left. Lines that were acknowledged are in their files then; a compressed file lacks its end.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::Failure;
use crate::metrics::Metrics;
use crate::metrics::vitals::Phase;

/// What the shell is told after a second interrupt: 128 + SIGINT.
const EXIT_CODE: i32 = 130;
/// Signals that come within this time are one: `timeout` and some shells signal a process and then its whole group.
const ONE_INTERRUPT: Duration = Duration::from_millis(300);
/// How long a run may take to end that has not begun.
const BEGINNING: Duration = Duration::from_secs(1);
/// How long a run waits for a broker that is gone before it ends.
const TROUBLED: Duration = Duration::from_secs(3);
/// How long a run may take to end that repeats its log.
const REPEATING: Duration = Duration::from_secs(4);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// A flag that asks a job to stop.
pub fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

/// Has interrupts set `stop`. With `drain`, a job that does not end by itself then is ended.
pub fn listen(stop: &Arc<AtomicBool>, drain: Option<(Duration, Arc<Metrics>)>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot listen to signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let stop = stop.clone();
    let wait = move || {
        let (mut first, mut drain) = (None, drain);
        for _ in signals.forever() {
            stop.store(true, Ordering::Relaxed);
            if let Some((limit, metrics)) = drain.take() {
                metrics.vitals.stopping();
                // Without the thread the stop has no limit, as before there was one.
                drop(thread::Builder::new().name("stop".into()).spawn(move || bound(limit, &metrics)));
            }
            if first.get_or_insert_with(Instant::now).elapsed() > ONE_INTERRUPT {
                exit(EXIT_CODE);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(failed)
}

/// Ends the process if it does not end by itself in time.
fn bound(limit: Duration, metrics: &Metrics) {
    let began = Instant::now();
    loop {
        let passed = began.elapsed();
        let why = match metrics.vitals.phase() {
            Phase::Starting(waits) if passed >= BEGINNING.min(limit) => Some(format!("stopped while it {waits}")),
            Phase::Starting(_) => None,
            Phase::Running | Phase::Stopping => {
                let troubles = metrics.vitals.troubles();
                if metrics.vitals.repeating() > 0 && passed >= REPEATING.min(limit) {
                    Some(repeating(metrics))
                } else if !troubles.is_empty() && passed >= TROUBLED.min(limit) {
                    Some(format!("stopped although {}: {}", troubles.join(", "), left(metrics)))
                } else if passed >= limit {
                    let seconds = limit.as_secs_f64();
                    Some(format!("not drained within {seconds} s: {}; see --drain", left(metrics)))
                } else {
                    None
                }
            }
        };
        if let Some(why) = why {
            let code = Failure::Undrained(why).say();
            exit(code.into());
        }
        thread::sleep(LOOK);
    }
}

/// What is said of a stop in the middle of a log.
pub fn repeating(metrics: &Metrics) -> String {
    let epochs = metrics.vitals.repeating();
    format!("stopped while it repeated its log: {epochs} epochs of the log are left, which the next start repeats too")
}

/// What a stop leaves undone.
fn left(metrics: &Metrics) -> String {
    let keys = metrics.backlog.get();
    let unacknowledged = metrics.outputs.get().saturating_sub(metrics.acknowledged.get());
    format!(
        "{} records are read and not scored, {keys} keys have rows to repair, {unacknowledged} outputs are not acknowledged",
        metrics.stashed.get()
    )
}
