//! Whether it goes well: what a run is doing, and what keeps it from doing it. Read by the health page and at a stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a run is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not reading yet, and why: it waits for brokers, or for its peers.
    Starting(String),
    /// Reading and scoring.
    Running,
    /// Asked to stop: what was read is completed.
    Stopping,
}

/// The state of a process, shared by all its threads.
#[derive(Debug)]
pub struct Vitals {
    phase: Mutex<Phase>,
    /// What stands in the way, by who says so.
    troubles: Mutex<BTreeMap<String, String>>,
    /// Epochs of the log that a restart has still to repeat.
    repeating: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        let phase = Mutex::new(Phase::Starting("starting".to_owned()));
        Vitals { phase, troubles: Mutex::default(), repeating: AtomicU64::new(0) }
    }
}

impl Vitals {
    /// What the run is doing.
    pub fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    /// The run is not there yet; `waits` says what for.
    pub fn starting(&self, waits: impl Into<String>) {
        *lock(&self.phase) = Phase::Starting(waits.into());
    }

    /// The run reads.
    pub fn running(&self) {
        *lock(&self.phase) = Phase::Running;
    }

    /// The run was asked to stop; a run that has not started stays what it is.
    pub fn stopping(&self) {
        let mut phase = lock(&self.phase);
        if *phase == Phase::Running {
            *phase = Phase::Stopping;
        }
    }

    /// Says what stands in the way of `who`, or that nothing does any more.
    pub fn trouble(&self, who: &str, why: Option<String>) {
        let mut troubles = lock(&self.troubles);
        match why {
            Some(why) => drop(troubles.insert(who.to_owned(), why)),
            None => drop(troubles.remove(who)),
        }
    }

    /// What stands in the way now, each once.
    pub fn troubles(&self) -> Vec<String> {
        let mut all: Vec<String> = lock(&self.troubles).values().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Sets how many epochs of the log are still to be repeated.
    pub fn set_repeating(&self, epochs: u64) {
        self.repeating.store(epochs, Relaxed);
    }

    /// Epochs of the log that are still to be repeated.
    pub fn repeating(&self) -> u64 {
        self.repeating.load(Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder of the lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
