//! The operator that judges: changes and the slices that answer them in, rows and scored diffs out.
//!
//! For each complete epoch:
//!
//! 1. put the slices together to rows; what was looked up for a fresh row is noted with its transaction, and a row that is read
//!    again gets it from there: a late event changes a velocity feature, and the rescore must see the same look-ups as the first
//!    score;
//! 2. assess the rows: a transaction's first one under the deployment in force, a later one under that of its arrival;
//! 3. say what is new. A row of a transaction of which nothing was said is its arrival: the decision is made and `+1` sent. A later
//!    row is a revision: if its assessment differs from the last one, that one goes as `-1` and the new one as `+1`, in this
//!    order. A withdrawal sends `-1` and a tombstone.
//!
//! What was said is kept with the transaction ([`Said`]), about 100 bytes each.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::assessment::{Assessment, Decision, ScoredDiff};
use super::control::Deployments;
use super::image;
use super::scorer::Assessed;
use crate::feature::rows::{Layout, RowHead, Rows, ends};
use crate::flow::{Block, Cause, Change, Changes, DeploymentNumber, Epoch, EpochFacts, NO_TICKET, Verb};
use crate::metrics::Metrics;
use crate::operators::{Dumper, Epochs, Images};
use crate::retain::{Records, SharedRecords, kept};

/// What was last said of a transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// How often its assessment has changed.
    pub revision: u32,
    /// The decision made at arrival.
    pub decision: Decision,
    /// What is said now.
    pub assessment: Assessment,
}

/// What of the judge's output someone takes: what no one takes is not made.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Rows.
    pub rows: Rc<Cell<bool>>,
    /// Scored diffs.
    pub scores: Rc<Cell<bool>>,
}

/// What the operator is built from.
pub struct JudgeInputs<'scope> {
    /// What happened to the transactions.
    pub changes: Stream<'scope, Epoch, Vec<Changes>>,
    /// The answers of the views, addressed to workers.
    pub slices: Vec<Stream<'scope, Epoch, Vec<Block>>>,
    /// The transactions of this worker.
    pub records: SharedRecords<Said>,
    /// Where each feature stands.
    pub layout: Layout,
    /// The [`Block::plan`]s of what is looked up on arrival.
    pub looked_up: HashSet<u16>,
    /// What decides; none leaves rows unscored.
    pub deployments: Option<Deployments>,
    /// What of the output someone takes.
    pub wanted: Wanted,
    /// The facts of each epoch.
    pub facts: EpochFacts,
    /// Where images come from and go to.
    pub images: Images,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
}

/// What it gives.
pub struct Judged<'scope> {
    /// One [`Rows`] per epoch and worker.
    pub rows: Stream<'scope, Epoch, Vec<Rows>>,
    /// Scored diffs, in order per transaction.
    pub scores: Stream<'scope, Epoch, Vec<ScoredDiff>>,
}

/// Builds the operator.
///
/// # Errors
/// If what is to be loaded is not what a judge has said.
pub fn judge(inputs: JudgeInputs<'_>) -> Result<Judged<'_>, String> {
    let JudgeInputs { changes, slices, records, layout, looked_up, deployments, wanted, facts, images, metrics } =
        inputs;
    let scope = changes.scope();
    let mut builder = OperatorBuilder::new("Judge".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut changes = builder.new_input(changes, Pipeline);
    let by_worker = |slices| builder.new_input(slices, Exchange::new(|block: &Block| u64::from(block.to)));
    let mut slices: Vec<_> = slices.into_iter().map(by_worker).collect();
    let (rows_out, rows) = builder.new_output();
    let (scores_out, scores) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Rows>>>::from(rows_out);
    let mut scores_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<ScoredDiff>>>::from(scores_out);

    image::load(&images, &mut records.borrow_mut())?;
    let mut dumper = Dumper::new(images, image::NAME, activator);
    let mut judge = Judge { layout, looked_up, deployments, metrics, values: Vec::new(), gathered: Vec::new() };
    builder.build(move |_| {
        let mut epochs: Epochs<(Vec<Changes>, Vec<Block>)> = Epochs::new(2);
        move |frontiers| {
            changes.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            for slices in &mut slices {
                slices.for_each(|capability, data| {
                    if let Some(epoch) = epochs.of(&capability) {
                        epoch.1.append(data);
                    }
                });
            }
            let mut records = records.borrow_mut();
            while let Some((epoch, capabilities, (changes, slices))) = epochs.next_complete(frontiers) {
                image::dump_before(epoch, &mut dumper, &facts, &mut records);
                let (mut diffs, mut logged) = (Vec::new(), Vec::new());
                for changes in changes {
                    let asking = || changes.iter().filter(|change| change.ticket != NO_TICKET);
                    judge.assemble(&mut records, &changes, asking().count(), &slices);
                    if wanted.scores.get() {
                        judge.assess(&mut records, (epoch, facts.deployment(epoch)), &changes, &mut diffs);
                    }
                    if dumper.logs() {
                        logged.extend(changes.iter().filter_map(|change| records.get(change.number)).map(image::of));
                    }
                    if wanted.rows.get() {
                        let rows = judge.rows(asking(), &changes);
                        rows_out.activate().session(&capabilities[0]).give_iterator(rows.into_iter());
                    }
                }
                if dumper.logs() {
                    dumper.log(epoch, &logged);
                }
                if !diffs.is_empty() {
                    scores_out.activate().session(&capabilities[1]).give_container(&mut diffs);
                }
                records.free(epoch);
                judge.metrics.kept_bytes.set_own(records.kept_bytes() as u64);
            }
            let open = facts.open(frontiers);
            image::dump_before(open, &mut dumper, &facts, &mut records);
            if let Some(now) = open.checked_sub(1) {
                image::dump_piece(now, &mut dumper, &mut records);
            }
        }
    });
    Ok(Judged { rows, scores })
}

struct Judge {
    layout: Layout,
    looked_up: HashSet<u16>,
    deployments: Option<Deployments>,
    metrics: Arc<Metrics>,
    /// The rows of the epoch.
    values: Vec<f64>,
    /// Those of one deployment.
    gathered: Vec<f64>,
}

impl Judge {
    /// Puts the rows of an epoch together.
    fn assemble(&mut self, records: &mut Records<Said>, changes: &[Change], rows: usize, slices: &[Block]) {
        let Judge { layout, looked_up, values, .. } = self;
        let mut of_rows: Vec<&Change> = Vec::with_capacity(rows);
        for change in changes {
            let fresh = matches!(change.verb, Verb::Insert | Verb::Remove);
            if fresh
                && !looked_up.is_empty()
                && let Some(transaction) = records.get_mut(change.number)
            {
                transaction.kept.clear();
            }
            if change.ticket != NO_TICKET {
                of_rows.push(change);
            }
        }
        layout.begin(of_rows.iter().map(|change| &*change.event), values);
        for block in slices {
            layout.fill(block, values);
            if looked_up.contains(&block.plan) {
                let (_, length) = layout.slice(block.plan);
                for slice in block.words.chunks_exact(1 + length) {
                    let change = of_rows[slice[0] as usize];
                    if change.verb == Verb::Insert {
                        records.keep(change.number, |kept| kept::note(kept, block.plan, &slice[1..]));
                    }
                }
            }
        }
        if looked_up.is_empty() {
            return;
        }
        for (change, row) in of_rows.iter().zip(values.chunks_exact_mut(layout.width.max(1))) {
            if let (Verb::Read, Some(transaction)) = (change.verb, records.get(change.number)) {
                kept::recall(
                    &transaction.kept,
                    |plan| layout.slice(plan).1,
                    |plan, looked_up| {
                        row[layout.slice(plan).0..].iter_mut().zip(looked_up).for_each(|(cell, value)| *cell = value);
                    },
                );
            }
        }
    }

    /// Says what is new of the transactions whose rows were put together, and of those that are gone.
    fn assess(
        &mut self,
        records: &mut Records<Said>,
        (epoch, in_force): (Epoch, DeploymentNumber),
        changes: &[Change],
        diffs: &mut Vec<ScoredDiff>,
    ) {
        let Some(deployments) = self.deployments.clone() else { return };
        let asking: Vec<&Change> = changes.iter().filter(|change| change.ticket != NO_TICKET).collect();
        let said = |change: &Change| records.get(change.number).and_then(|transaction| transaction.said.as_ref());
        let numbers = asking.iter().map(|change| said(change).map_or(in_force, |said| said.decision.deployment));
        let numbers: Vec<DeploymentNumber> = numbers.collect();
        for (index, (assessment, model)) in self.assess_under(&deployments, &asking, &numbers).into_iter().enumerate() {
            let decision = Decision {
                action: assessment.action,
                score: assessment.score,
                rules: assessment.rules.clone(),
                model,
                deployment: numbers[index],
            };
            self.assessed(records, epoch, asking[index], (assessment, decision), diffs);
        }
        for change in changes.iter().filter(|change| ends(change)) {
            self.withdrawn(records, epoch, change, diffs);
        }
    }

    /// Assesses rows, each under the deployment with its number, and says which model decides on it.
    fn assess_under(
        &mut self,
        deployments: &Deployments,
        asking: &[&Change],
        numbers: &[DeploymentNumber],
    ) -> Vec<(Assessment, u16)> {
        let (width, Judge { values, gathered, metrics, .. }) = (self.layout.width, self);
        let events = |places: &[usize]| places.iter().map(|&place| &*asking[place].event).collect::<Vec<_>>();
        let mut by_deployment: Vec<(DeploymentNumber, Vec<usize>)> = Vec::new();
        for (place, number) in numbers.iter().enumerate() {
            // There is nearly always one.
            match by_deployment.iter_mut().find(|(one, _)| one == number) {
                Some((_, places)) => places.push(place),
                None => by_deployment.push((*number, vec![place])),
            }
        }
        let mut all: Vec<Option<(Assessment, u16)>> = vec![None; asking.len()];
        let single = by_deployment.len() == 1;
        for (number, places) in by_deployment {
            let rows: &[f64] = if single {
                values
            } else {
                gathered.clear();
                places.iter().for_each(|place| gathered.extend_from_slice(&values[place * width..][..width]));
                gathered
            };
            let Assessed { rows, faults } = deployments.of(number).assess(rows, width, events(&places).into_iter());
            if faults > 0 {
                metrics.rule_faults.add(faults);
            }
            places.into_iter().zip(rows).for_each(|(place, row)| all[place] = Some(row));
        }
        all.into_iter().flatten().collect()
    }

    fn assessed(
        &self,
        records: &mut Records<Said>,
        epoch: Epoch,
        change: &Change,
        (new, decision): (Assessment, Decision),
        diffs: &mut Vec<ScoredDiff>,
    ) {
        let Change { event, cause, row_revision, arrived_ns, number, .. } = change;
        let Some(transaction) = records.get_mut(*number) else { return };
        let diff = |said: &Said, diff, assessment| ScoredDiff {
            event: event.clone(),
            revision: said.revision,
            diff,
            epoch,
            cause: *cause,
            decision: said.decision.clone(),
            assessment: Some(assessment),
            arrived_ns: *arrived_ns,
        };
        let Some(said) = &mut transaction.said else {
            if *row_revision > 0 {
                // What was said of it is forgotten, so it cannot be taken back: better no revision than two that hold.
                return self.metrics.revisions_missed.add(1);
            }
            self.metrics.scored.add(1);
            self.metrics.rule_hits.count(new.rules.iter().chain(new.shadow.iter()));
            let said = Said { revision: 0, decision, assessment: new };
            diffs.push(diff(&said, 1, said.assessment.clone()));
            transaction.said = Some(said);
            return;
        };
        self.metrics.rescored.add(1);
        if said.assessment == new {
            return;
        }
        self.metrics.revised.add(1);
        let old = std::mem::replace(&mut said.assessment, new.clone());
        said.revision += 1;
        diffs.extend([diff(said, -1, old), diff(said, 1, new)]);
    }

    fn withdrawn(&self, records: &mut Records<Said>, epoch: Epoch, change: &Change, diffs: &mut Vec<ScoredDiff>) {
        let Some(said) = records.get_mut(change.number).and_then(|transaction| transaction.said.take()) else { return };
        self.metrics.withdrawn.add(1);
        let Said { revision, decision, assessment } = said;
        let diff = |diff, assessment| ScoredDiff {
            event: change.event.clone(),
            revision: revision + 1,
            diff,
            epoch,
            cause: Cause::Withdrawal,
            decision: decision.clone(),
            assessment,
            arrived_ns: change.arrived_ns,
        };
        diffs.extend([diff(-1, Some(assessment)), diff(0, None)]);
    }

    /// The rows of the epoch, to be given away; none if there is none.
    fn rows<'a>(&mut self, asking: impl Iterator<Item = &'a Change>, changes: &[Change]) -> Option<Rows> {
        let heads: Vec<RowHead> = asking.map(RowHead::of).collect();
        let withdrawn: Vec<RowHead> = changes.iter().filter(|change| ends(change)).map(RowHead::of).collect();
        let (values, width) = (std::mem::take(&mut self.values), self.layout.width);
        (!heads.is_empty() || !withdrawn.is_empty()).then_some(Rows { heads, values, width, withdrawn })
    }
}
