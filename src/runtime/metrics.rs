//! Counters and gauges, shared by the workers of a process and read by the summary, the health page and Prometheus.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down, a sum over the workers of the process: each worker sets its own share.
#[derive(Debug)]
pub struct Gauge(Vec<AtomicU64>);

/// Workers of one process that have a share of their own in a gauge.
const WORKERS_MAX: usize = 64;

std::thread_local! {
    static SHARE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Says which share of every gauge this thread's worker owns: its index in the process.
pub fn set_worker(index: usize) {
    SHARE.set(index % WORKERS_MAX);
}

impl Default for Gauge {
    fn default() -> Self {
        Gauge((0..WORKERS_MAX).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Gauge {
    /// Sets this worker's share.
    pub fn set_own(&self, value: u64) {
        self.0[SHARE.get()].store(value, Relaxed);
    }

    /// This worker's share.
    pub fn own(&self) -> u64 {
        self.0[SHARE.get()].load(Relaxed)
    }

    /// The sum over the workers.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|share| share.load(Relaxed)).sum()
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident,)+) => {
        /// What the engine counts.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Metrics {
            /// Every metric: name, help, whether it only grows, value.
            pub fn all(&self) -> Vec<(&'static str, &'static str, bool, u64)> {
                vec![$((stringify!($name), concat!($($doc),+).trim_ascii(), stringify!($kind).len() == 7, self.$name.get()),)+]
            }
        }
    };
}

metrics! {
    /// Records decoded into events.
    events: Counter,
    /// Records that were repeated with the same content.
    duplicates: Counter,
    /// Events replaced by other content.
    corrections: Counter,
    /// Corrections of events never seen, taken as new.
    corrections_unseen: Counter,
    /// Withdrawals.
    withdrawals: Counter,
    /// Records overtaken by a stronger operation on the same id.
    stale: Counter,
    /// Labels.
    labels: Counter,
    /// Labels whose target never came.
    orphan_labels: Counter,
    /// Events beyond the horizon, sent to the side output.
    too_late: Counter,
    /// Events that came behind a later one of one of their keys.
    late: Counter,
    /// Rejects of the decoder.
    rejects: Counter,
    /// Transactions scored for the first time.
    scored: Counter,
    /// Assessments that changed.
    revised: Counter,
    /// Assessments taken back.
    withdrawn: Counter,
    /// Rows read again.
    rescored: Counter,
    /// Touched rows that were no longer retained.
    revisions_missed: Counter,
    /// Late marks beyond the revise horizon of their key, not repaired.
    revisions_beyond: Counter,
    /// Output records handed to sinks.
    outputs: Counter,
    /// Output records acknowledged.
    acknowledged: Counter,
    /// Fields in records that the schema does not know.
    unknown_fields: Counter,
    /// Epochs closed.
    epochs: Counter,
    /// Keys whose earlier rows are waiting to be repaired.
    backlog: Gauge,
    /// Events retained by id.
    retained_events: Gauge,
    /// Entries retained by key, over all key kinds.
    retained_entries: Gauge,
    /// Keys retained, over all key kinds.
    retained_keys: Gauge,
    /// Bytes of the entries and keys.
    retained_bytes: Gauge,
    /// Records decoded and waiting for an epoch.
    stashed: Gauge,
    /// Records the source has and the engine has not taken.
    lag: Gauge,
}
