//! Counters and gauges, shared by the workers of a process and read by the summary, the health page and Prometheus.

pub mod vitals;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};

use hdrhistogram::Histogram;

use self::vitals::Vitals;
use crate::flow::{Action, RejectReason};

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

/// A number that the process has one of, whoever sets it; it may be negative.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Its value; to be read as signed.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed) as u64
    }
}

/// Decisions by action.
#[derive(Debug, Default)]
pub struct Decisions([Counter; Action::ALL.len()]);

impl Decisions {
    /// Counts one.
    pub fn count(&self, action: Action) {
        self.0[action as usize].add(1);
    }

    /// Every action with its count.
    pub fn by_action(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Action::ALL.iter().map(|action| (action.name(), self.0[*action as usize].get()))
    }
}

/// Transactions by rule, of the rules of the run.
#[derive(Debug, Default)]
pub struct RuleHits(RwLock<Vec<(String, Counter)>>);

impl RuleHits {
    /// Says what the rules are called, by number: those behind so many that are known.
    pub fn name(&self, behind: impl FnOnce(usize) -> Vec<String>) {
        let mut named = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let labels = behind(named.len());
        named.extend(labels.into_iter().map(|label| (label, Counter::default())));
    }

    /// Counts one for each of these rules.
    pub fn count<'a>(&self, rules: impl Iterator<Item = &'a u32>) {
        let mut rules = rules.peekable();
        if rules.peek().is_none() {
            return;
        }
        let named = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.filter_map(|rule| named.get(*rule as usize)).for_each(|(_, hits)| hits.add(1));
    }

    /// Every rule with its count.
    pub fn by_rule(&self) -> Vec<(String, u64)> {
        let named = self.0.read().unwrap_or_else(PoisonError::into_inner);
        named.iter().map(|(label, hits)| (label.clone(), hits.get())).collect()
    }
}

/// Rejects by reason.
#[derive(Debug, Default)]
pub struct Rejects {
    counts: [Counter; RejectReason::ALL.len()],
    /// What the first one of each reason said.
    first: Mutex<BTreeMap<RejectReason, String>>,
}

impl Rejects {
    /// Takes note of what a reject says, if it is the first of its reason.
    pub fn note(&self, reason: RejectReason, says: impl FnOnce() -> String) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.entry(reason).or_insert_with(says);
    }

    /// What the first one of each reason said.
    pub fn first(&self) -> BTreeMap<RejectReason, String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are of a reason.
    pub fn of(&self, reason: RejectReason) -> u64 {
        self.counts[reason as usize].get()
    }

    /// Counts one.
    pub fn count(&self, reason: RejectReason) {
        self.counts[reason as usize].add(1);
    }

    /// All of them.
    pub fn get(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    /// Every reason with its count.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RejectReason::ALL.iter().map(|reason| (reason.name(), self.counts[*reason as usize].get()))
    }
}

/// Bytes by key kind, a sum over the workers of the process.
#[derive(Debug, Default)]
pub struct ByKey(Mutex<BTreeMap<(String, usize), u64>>);

impl ByKey {
    /// Sets this worker's share of a key kind.
    pub fn set_own(&self, key: &str, value: u64) {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match shares.get_mut(&(key.to_owned(), SHARE.get())) {
            Some(share) => *share = value,
            None => drop(shares.insert((key.to_owned(), SHARE.get()), value)),
        }
    }

    /// This worker's share over all key kinds.
    pub fn own(&self) -> u64 {
        let shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shares.iter().filter(|((_, worker), _)| *worker == SHARE.get()).map(|(_, share)| share).sum()
    }

    /// Every key kind with its sum.
    pub fn get(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((key, _), share) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *sums.entry(key.clone()).or_insert(0) += share;
        }
        sums
    }
}

/// The longest time that is told from longer ones, nanoseconds: a hundred years, as events of history are old.
const LATENCY_NS_MAX: u64 = 100 * 365 * 86_400 * 1_000_000_000;

/// A distribution of times, kept to two digits.
#[derive(Debug)]
pub struct Latency(Mutex<Histogram<u64>>);

impl Default for Latency {
    fn default() -> Self {
        #[expect(clippy::unwrap_used, reason = "the bounds are constants that hdrhistogram takes")]
        Latency(Mutex::new(Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 2).unwrap()))
    }
}

impl Latency {
    /// Records many times, nanoseconds.
    pub fn record_all_ns(&self, all: impl Iterator<Item = u64>) {
        self.with(|histogram| all.for_each(|ns| histogram.saturating_record(ns)));
    }

    /// Records one time, nanoseconds.
    pub fn record_ns(&self, ns: u64) {
        self.with(|histogram| histogram.saturating_record(ns));
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.with(|histogram| histogram.len())
    }

    /// The time that a share of the records took at most, nanoseconds; 0 without records.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        self.with(|histogram| histogram.value_at_quantile(share))
    }

    /// Records and their mean, nanoseconds, and how many took at most each of `bounds_ns`.
    pub fn buckets(&self, bounds_ns: &[u64]) -> (u64, f64, Vec<u64>) {
        // Counting takes longer than those who record may wait.
        let histogram = self.with(|histogram| histogram.clone());
        let mut below = vec![0; bounds_ns.len()];
        for value in histogram.iter_recorded() {
            let from = bounds_ns.partition_point(|&bound| bound < value.value_iterated_to());
            below[from..].iter_mut().for_each(|count| *count += value.count_at_value());
        }
        (histogram.len(), histogram.mean(), below)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Histogram<u64>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident,)+) => {
        /// What the engine counts.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $name: $kind,)+
            /// Records that left as rejects, by reason.
            pub rejects: Rejects,
            /// Bytes of entries and keys, by key kind.
            pub retained_bytes_by_key: ByKey,
            /// Rows of reference collections, by look-up.
            pub reference_rows: ByKey,
            /// Keys whose earlier rows are waiting to be repaired or read again, by view.
            pub backlog_of: ByKey,
            /// Keys that services are being asked for, by service.
            pub service_in_flight: ByKey,
            /// From a request to a service to its answer.
            pub service_latency: Latency,
            /// From arrival to acknowledged output.
            pub latency: Latency,
            /// From an event's own time to its first assessment, by the wall clock.
            pub event_age: Latency,
            /// Decisions by action.
            pub decisions: Decisions,
            /// Transactions that rules matched when they came, by rule.
            pub rule_hits: RuleHits,
            /// What the run is doing, and what stands in its way.
            pub vitals: Vitals,
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
    /// Transactions scored for the first time.
    scored: Counter,
    /// Assessments that changed.
    revised: Counter,
    /// Assessments taken back.
    withdrawn: Counter,
    /// Rows read again.
    rescored: Counter,
    /// Control messages that took effect.
    control_applied: Counter,
    /// Control messages that were refused.
    control_refused: Counter,
    /// Rules that had no value for a row (a division by zero, a sum that does not fit) and did not match it.
    rule_faults: Counter,
    /// Touched rows that were no longer retained.
    revisions_missed: Counter,
    /// Changes that touched rows beyond the revise horizon of a key kind, which are not repaired.
    revisions_beyond: Counter,
    /// Output records handed to sinks.
    outputs: Counter,
    /// Output records acknowledged.
    acknowledged: Counter,
    /// Fields in records that the schema does not know.
    unknown_fields: Counter,
    /// Keys that JSON records have more than once; the last value counts.
    duplicate_keys: Counter,
    /// Output records that were too large for the broker, and became rejects.
    outputs_refused: Counter,
    /// Reference records taken in, counted once per look-up.
    reference_records: Counter,
    /// Versions of reference files that were refused, records of reference topics that are no rows.
    reference_errors: Counter,
    /// Requests sent to services.
    service_requests: Counter,
    /// Questions answered from the cache, or by a request that was under way.
    service_hits: Counter,
    /// Requests that took too long, or waited too long for their turn.
    service_timeouts: Counter,
    /// Requests that failed.
    service_errors: Counter,
    /// Look-ups of transactions that were bound with the fallback.
    service_fallbacks: Counter,
    /// Answers that came after the budget and revise.
    service_late: Counter,
    /// Entities whose cluster, found by iteration, is not whole.
    identity_unfinished: Counter,
    /// Epochs closed.
    epochs: Counter,
    /// Cuts that a restart can go on from.
    cuts: Counter,
    /// Epochs that the workers of this process have bound, each counted.
    bound: Counter,
    /// Keys whose earlier rows are waiting to be repaired or read again.
    backlog: Gauge,
    /// Keys that patterns keep.
    pattern_keys: Gauge,
    /// Events that patterns keep, over all keys.
    pattern_entries: Gauge,
    /// Partial matches of patterns.
    pattern_runs: Gauge,
    /// Matches of patterns that count.
    pattern_matches: Gauge,
    /// Bytes of what patterns keep.
    pattern_bytes: Gauge,
    /// Events retained by id.
    retained_events: Gauge,
    /// Bytes of the table of events by id, without the events.
    event_table_bytes: Gauge,
    /// Bytes of the table of last assessments.
    assessment_table_bytes: Gauge,
    /// Entries retained by key, over all key kinds.
    retained_entries: Gauge,
    /// Keys retained, over all key kinds.
    retained_keys: Gauge,
    /// Bytes of the entries and keys.
    retained_bytes: Gauge,
    /// Bytes of look-ups kept with their transactions.
    kept_bytes: Gauge,
    /// Values with live links.
    identity_values: Gauge,
    /// Live links between values.
    identity_links: Gauge,
    /// Clusters, those of one value included.
    identity_clusters: Gauge,
    /// Values with more live links than their cap, which link no one.
    identity_capped: Gauge,
    /// Bytes of values, links and clusters.
    identity_bytes: Gauge,
    /// Records decoded and waiting for an epoch.
    stashed: Gauge,
    /// Records the source has and the engine has not bound: those that wait for an epoch are among them.
    lag: Gauge,
    /// The number of the deployment in force.
    deployment: Level,
    /// The watermark of the last epoch, milliseconds of event time.
    watermark_ms: Level,
    /// 1 while partitions are merged by event time: a replay, or a run of which some partition has a backlog.
    merging: Level,
}
