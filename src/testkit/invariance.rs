//! However events arrive, what comes out is what the definitions say.
//!
//! [`check`] runs a dataflow on the same records as one epoch, as many, one by one, on several workers, in other orders of
//! arrival, and with everything withdrawn; compares each outcome with the first, and the first with the oracle.
//!
//! Features that are looked up on arrival depend on what had arrived, by definition. They are left out of all this; they
//! are compared between runs of the same epochs on several workers, beside all others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::compare::{consolidated, equal, same_rows, updates};
use super::{AsOfEvent, Batching, Harness, Outcome, Plan, TestModel, arrive, expected, resolve};
use crate::dataflow::{Dataflow, EngineSettings, Setup};
use crate::event::Event;
use crate::feature::FeatureSet;
use crate::views::Timing;

/// What is tried.
#[derive(Clone)]
pub struct Options {
    /// Ways to cut the records into epochs, on one worker each.
    pub batchings: Vec<Batching>,
    /// Numbers of workers, with random epochs each.
    pub workers: Vec<usize>,
    /// Orders of arrival.
    pub shuffles: u64,
    /// How much later than it did a record may come in another order, milliseconds of event time. The revise horizon must
    /// be longer.
    pub slack_ms: i64,
    /// Every so manieth row is compared with the oracle.
    pub oracle_nth: usize,
    /// The place of the first row compared with the oracle, modulo `oracle_nth`: another one per seed, and in the end every
    /// place has been compared.
    pub oracle_from: usize,
    /// The first so many records are run one per epoch, and compared with the oracle after each.
    pub each_epoch: usize,
    /// Whether everything is withdrawn in the end, which must leave nothing.
    pub withdraw: bool,
    /// How the engine runs.
    pub settings: EngineSettings,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            batchings: vec![Batching::EachEvent, Batching::Random(1), Batching::Fixed(77)],
            workers: vec![2, 4],
            shuffles: 2,
            slack_ms: 300_000,
            oracle_nth: 1,
            oracle_from: 0,
            each_epoch: 100,
            withdraw: true,
            settings: EngineSettings::default(),
        }
    }
}

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records within the horizon.
    pub records: usize,
    /// Transactions with a row in the end.
    pub rows: usize,
    /// Rows compared with the oracle.
    pub oracle_rows: usize,
    /// Runs compared with the first.
    pub runs: usize,
    /// Assessments that changed, over all runs.
    pub revised: u64,
    /// Late marks, over all runs.
    pub late: u64,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { records, rows, oracle_rows, runs, revised, late } = self;
        write!(
            f,
            "{records} records, {rows} rows, {oracle_rows} compared with the oracle, {runs} runs equal, {revised} \
             assessments revised, {late} late at one of their keys"
        )
    }
}

/// Checks a dataflow. Records that would touch rows beyond the revise horizon are left out.
///
/// # Errors
/// The first difference, with the run that showed it.
pub fn check(
    dataflow: Arc<dyn Dataflow>,
    setup: &Setup,
    records: &[Event],
    options: &Options,
) -> Result<Checked, String> {
    let features = dataflow.features(setup).map_err(|error| error.to_string())?;
    let looked_up = features.families().iter().any(|family| family.timing() == Timing::AsOfArrival);
    let plans = features.plans(&setup.schema)?;
    let horizon_ms = plans.iter().map(|plan| plan.revise_ms).min().unwrap_or(options.settings.late_ms);
    let horizon_ms = horizon_ms.min(options.settings.late_ms) - options.slack_ms;
    let mut records = arrive::within(records, &setup.schema, &plans, horizon_ms);
    if let Some(prepare) = dataflow.prepare(setup).map_err(|error| error.to_string())? {
        records.iter_mut().for_each(|record| prepare(record));
    }
    let mut report = Checked { records: records.len(), ..Checked::default() };
    let (mut dataflow, mut features) = (dataflow, features);
    if looked_up {
        let columns = features.columns();
        let mut whole =
            Trial { dataflow: dataflow.clone(), setup, options, columns, features: features.clone(), report };
        whole.same_epochs(&records)?;
        report = whole.report;
        (dataflow, features) = (Arc::new(AsOfEvent(dataflow)), features.as_of_event());
    }
    let mut trial = Trial { dataflow, setup, options, columns: features.columns(), features, report };
    trial.all(&records)?;
    Ok(trial.report)
}

struct Trial<'a> {
    dataflow: Arc<dyn Dataflow>,
    setup: &'a Setup,
    options: &'a Options,
    features: FeatureSet,
    columns: Vec<String>,
    report: Checked,
}

impl Trial<'_> {
    fn all(&mut self, records: &[Event]) -> Result<(), String> {
        let first = self.run(records, Batching::One, 1)?;
        self.against_oracle(&first, records).map_err(|says| format!("one epoch against the oracle: {says}"))?;
        let options = self.options;
        let mut trials: Vec<(Vec<Event>, Batching, usize)> = Vec::new();
        trials.extend(options.batchings.iter().map(|&batching| (records.to_vec(), batching, 1)));
        trials.extend(options.workers.iter().map(|&workers| (records.to_vec(), Batching::Random(9), workers)));
        trials.extend((0..options.shuffles).map(|seed| {
            let workers = options.workers.get(seed as usize % options.workers.len().max(1)).copied().unwrap_or(1);
            (arrive::shuffled(records, options.slack_ms, seed), Batching::Random(seed), workers)
        }));
        for (place, (records, batching, workers)) in trials.into_iter().enumerate() {
            let outcome = self.run(&records, batching, workers)?;
            let name = format!("run {place}, {batching:?} on {workers} workers");
            equal(&first, &outcome, &self.columns).map_err(|says| format!("{name}, against one epoch: {says}"))?;
            self.report.runs += 1;
        }
        self.each_epoch(&records[..options.each_epoch.min(records.len())])?;
        if options.withdraw { self.withdrawn(records) } else { Ok(()) }
    }

    /// The same epochs give the same on any number of workers.
    fn same_epochs(&mut self, records: &[Event]) -> Result<(), String> {
        let batching = Batching::Random(9);
        let first = self.run(records, batching, 1)?;
        for &workers in &self.options.workers {
            let outcome = self.run(records, batching, workers)?;
            equal(&first, &outcome, &self.columns)
                .map_err(|says| format!("same epochs on {workers} workers: {says}"))?;
            self.report.runs += 1;
        }
        Ok(())
    }

    fn harness(&self) -> Harness {
        Harness::new(self.dataflow.clone(), self.setup.clone()).settings(self.options.settings.clone())
    }

    fn run(&mut self, records: &[Event], batching: Batching, workers: usize) -> Result<Outcome, String> {
        let outcome = self.harness().workers(workers).run(&Plan::of(records, batching));
        let outcome = outcome.map_err(|error| error.to_string())?;
        self.report.revised += outcome.metrics.revised.get();
        self.report.late += outcome.metrics.late.get();
        match outcome.metrics.revisions_missed.get() {
            0 => Ok(outcome),
            missed => Err(format!("{batching:?} on {workers} workers: {missed} touched rows were too old to be read")),
        }
    }

    fn against_oracle(&mut self, outcome: &Outcome, records: &[Event]) -> Result<(), String> {
        let rows = outcome.final_rows();
        let (nth, from) = (self.options.oracle_nth, self.options.oracle_from);
        (self.report.rows, self.report.oracle_rows) = (rows.len(), self.same_as_oracle(&rows, records, nth, from)?);
        let emitted = updates(&outcome.collections).map_err(|error| error.to_string())?;
        let emitted: BTreeMap<(String, String), isize> =
            emitted.into_iter().fold(BTreeMap::new(), |mut all, ((_, key, value), count)| {
                *all.entry((key, value)).or_insert(0) += count;
                all
            });
        let (mut wanted, retained) = (BTreeMap::new(), resolve::retained(records, &self.setup.schema));
        let of_test = || TestModel::scorer(self.columns.clone()).into();
        let deployments = self.options.settings.deployments.clone().unwrap_or_else(of_test);
        let hindsight = outcome.hindsight(&retained, &self.setup.schema, &self.columns, deployments);
        for record in self.dataflow.oracle_with(self.setup, &hindsight.map_err(|error| error.to_string())?) {
            *wanted.entry(record).or_insert(0) += 1;
        }
        let unlike = |record: &&(String, String)| emitted.get(*record) != wanted.get(*record);
        match emitted.keys().chain(wanted.keys()).find(unlike) {
            None => Ok(()),
            Some(record) => {
                let (emitted, wanted) = (emitted.get(record), wanted.get(record));
                Err(format!("{record:?} is emitted {emitted:?} times, the oracle says {wanted:?}"))
            }
        }
    }

    /// Compares rows with the oracle's; returns how many were.
    fn same_as_oracle(
        &self,
        rows: &BTreeMap<crate::event::Id, Vec<f64>>,
        records: &[Event],
        nth: usize,
        from: usize,
    ) -> Result<usize, String> {
        if self.columns.is_empty() {
            // A dataflow without features assembles no rows: what it emits is all there is.
            return Ok(0);
        }
        let schema = &self.setup.schema;
        let events = resolve::retained(records, schema);
        let scored = events.iter().filter(|(event, _)| schema.is_scored(event.kind)).count();
        if scored != rows.len() {
            return Err(format!("the engine has {} rows, {scored} scored events are retained", rows.len()));
        }
        let wanted = expected::sample(&self.features, schema, &events, nth, from);
        let compared: BTreeMap<_, _> = rows
            .iter()
            .filter(|(id, _)| nth <= 1 || wanted.contains_key(id))
            .map(|(&id, row)| (id, row.clone()))
            .collect();
        same_rows(&compared, &wanted, &self.columns).map_err(|says| format!("engine and oracle: {says}"))?;
        Ok(wanted.len())
    }

    /// After each event, once its revisions are through, every row is what the events so far make it.
    fn each_epoch(&mut self, records: &[Event]) -> Result<(), String> {
        let outcome = self.harness().drained().run(&Plan::of(records, Batching::EachEvent));
        let outcome = outcome.map_err(|error| error.to_string())?;
        for (place, &epoch) in outcome.closed.iter().enumerate() {
            let rows = outcome.rows_as_of(epoch);
            let says = self.same_as_oracle(&rows, &records[..=place], 1, 0);
            says.map_err(|says| format!("after record {place}, {:?}: {says}", records[place]))?;
        }
        Ok(())
    }

    /// Everything withdrawn leaves nothing.
    fn withdrawn(&mut self, records: &[Event]) -> Result<(), String> {
        let mut all = records.to_vec();
        all.extend(arrive::withdrawals(records));
        // Withdrawals come long after their events, which must still be there.
        let settings = EngineSettings { late_ms: 1 << 45, ..self.options.settings.clone() };
        for workers in [1, 2] {
            let harness = self.harness().settings(settings.clone()).workers(workers);
            let outcome = harness.run(&Plan::of(&all, Batching::Random(3))).map_err(|error| error.to_string())?;
            let held = consolidated(&outcome.scored).map_err(|error| format!("all withdrawn: {error}"))?;
            let left = (held.len(), outcome.final_rows().len());
            let entries = (outcome.metrics.retained_entries.get(), outcome.metrics.retained_keys.get());
            if left != (0, 0) || entries != (0, 0) {
                return Err(format!(
                    "all withdrawn, (assessments, rows) left {left:?}, (entries, keys) left {entries:?}"
                ));
            }
            self.report.runs += 1;
        }
        Ok(())
    }
}
