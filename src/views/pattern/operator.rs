//! The timely operator: the owners of the keys answer requests, to which changes are cut (`cut.rs`).
//!
//! For each closed epoch the owner's operator
//!
//! 1. applies the requests of each group ([`super::machine`]) and answers reads;
//! 2. announces matches that waited for the watermark;
//! 3. marks the rows that a change of earlier matches has touched, and sends the ids of as many as the epoch's budget allows
//!    around; the rest is the backlog;
//! 4. expires, in proportion to what came in.

use std::sync::Arc;

use differential_dataflow::consolidation::consolidate;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, Concat};

use super::Match;
use super::compile::plan::{Group, PatternPlan};
use super::cut::{cut, cut_with_features};
use super::cycles::operator::{CycleInputs, cycle_operator};
use super::machine::keys::KeyStats;
use super::machine::view::{GroupView, requests as requests_of};
use super::outputs::{MATCHES, OUTPUTS, Outputs};
use super::repairs::{PatternEffects, Repairs, beyond_record};
use crate::event::Id;
use crate::flow::{Beyond, Block, Epoch, EpochFacts, Replies, Touched};
use crate::metrics::Metrics;
use crate::operators::Epochs;
use crate::views::FamilyInputs;

/// What the operators are built with.
#[derive(Clone, Copy, Debug)]
pub struct PatternSettings {
    /// Events are kept for the longest reach of a pattern and this, milliseconds: how late an event may be, and how long the
    /// rows after it are then revised.
    pub kept_ms: i64,
}

/// What patterns give.
pub struct Pattern<'scope> {
    /// Rows of `[ticket, feature, ...]`, addressed to the worker that asked; block `n` of [`PatternPlan::blocks`] has plan
    /// `index + n`.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// Matches that come and go: updates of a collection.
    pub matches: Stream<'scope, Epoch, Vec<(Match, Epoch, isize)>>,
    /// Transactions to be read again.
    pub touched: Stream<'scope, Epoch, Vec<Touched>>,
    /// Changes that touched rows too old to be revised.
    pub beyond: Stream<'scope, Epoch, Vec<Beyond>>,
}

/// Builds the operators. The error is a plan with conditions on features, and no velocity to take them from.
pub fn pattern<'scope>(inputs: FamilyInputs<'scope>, plan: &PatternPlan) -> Result<Pattern<'scope>, String> {
    let FamilyInputs { changes, velocity, index, schema, horizons, facts, metrics, .. } = inputs;
    let settings = PatternSettings { kept_ms: horizons.read_ms };
    let mut requests = cut(changes.clone(), plan.groups.clone(), schema.clone());
    if plan.groups.iter().any(|group| group.featured) {
        let velocity = velocity.ok_or("patterns look at velocity features, which are not built before them")?;
        requests = requests.concat(cut_with_features(changes.clone(), velocity, plan, schema.clone()));
    }
    let scope = requests.scope();
    let (here, peers) = (scope.worker().index() as u32, scope.worker().peers());
    let (closing, announced) = (facts.clone(), metrics.clone());
    let mut builder = OperatorBuilder::new("Patterns".to_owned(), scope);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let (mut outputs, mut streams) = Outputs::new(&mut builder);
    let groups = plan.groups.clone();

    builder.build(move |_| {
        let mut epochs: Epochs<Vec<Block>> = Epochs::new(OUTPUTS);
        let mut owners = GroupViews::new(groups, settings, announced, Seat { index, here, peers });
        let mut waiting = None;
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            while let Some((epoch, capabilities, mut blocks)) = epochs.next_complete(frontiers) {
                announce(&mut waiting, epoch, &mut owners, &closing, &mut outputs);
                blocks.sort_by_key(|block| (block.plan, block.from));
                let effects = owners.apply(epoch, &closing, &blocks);
                outputs.send(&capabilities, effects);
                waiting = owners.wait().then(|| capabilities[MATCHES].delayed(&(epoch + 1)));
                if owners.repairs.owes() {
                    epochs.keep_open(epoch + 1, capabilities.iter().map(|hold| hold.delayed(&(epoch + 1))).collect());
                }
            }
            match frontiers[0].frontier().first() {
                Some(&open) => announce(&mut waiting, open, &mut owners, &closing, &mut outputs),
                // The input has ended. Beyond the last watermark, what waits for one waits for ever.
                None => {
                    let end = closing.latest().map_or(0, |last| last + 1);
                    announce(&mut waiting, end, &mut owners, &closing, &mut outputs);
                    waiting = None;
                }
            }
        }
    });
    for (number, cycle) in plan.cycles.iter().enumerate() {
        let index = index + (plan.groups.len() + number) as u16;
        let cycles = CycleInputs { changes: changes.clone(), plan: cycle.clone(), index, settings };
        let Pattern { slices, matches, touched, beyond } =
            cycle_operator(cycles, schema.clone(), facts.clone(), metrics.clone());
        streams.slices = streams.slices.concat(slices);
        streams.matches = streams.matches.concat(matches);
        streams.touched = streams.touched.concat(touched);
        streams.beyond = streams.beyond.concat(beyond);
    }
    Ok(streams)
}

/// Epochs without requests, up to (not with) this one: announces what waited for their facts. Holds the output of
/// matches alone, as what else comes out goes round, and would keep the input open for ever.
fn announce(
    waiting: &mut Option<Capability<Epoch>>,
    until: Epoch,
    owners: &mut GroupViews,
    facts: &EpochFacts,
    outputs: &mut Outputs,
) {
    while let Some(capability) = waiting.as_mut().filter(|capability| *capability.time() < until) {
        let epoch = *capability.time();
        outputs.announce(capability, owners.pass(facts.at(epoch)));
        if owners.wait() {
            capability.downgrade(&(epoch + 1));
        } else {
            *waiting = None;
        }
    }
}

/// Where an operator stands.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    pub index: u16,
    pub here: u32,
    pub peers: usize,
}

/// The groups of one worker.
struct GroupViews {
    owners: Vec<GroupView>,
    settings: PatternSettings,
    repairs: Repairs,
    metrics: Arc<Metrics>,
    place: Seat,
    epochs_since_report: u32,
}

/// Gauges are set once per so many epochs.
const EPOCHS_PER_REPORT: u32 = 4096;

/// Expiry visits at least this many keys per epoch and group, so that an idle engine goes on expiring.
const EXPIRE_KEYS_MIN: usize = 16;

impl GroupViews {
    fn new(groups: Vec<Arc<Group>>, settings: PatternSettings, metrics: Arc<Metrics>, place: Seat) -> Self {
        let owners = groups.into_iter().map(GroupView::new).collect();
        let repairs = Repairs::new(format!("patterns {}", place.index), settings.kept_ms, metrics.clone());
        GroupViews { owners, settings, repairs, metrics, place, epochs_since_report: 0 }
    }

    fn wait(&self) -> bool {
        self.owners.iter().any(GroupView::waits)
    }

    /// Announces the matches that waited for the watermark to come this far.
    fn pass(&mut self, watermark: i64) -> Vec<(Match, isize)> {
        let mut matches = Vec::new();
        self.owners.iter_mut().for_each(|owner| owner.pass(watermark, &mut matches));
        consolidate(&mut matches);
        matches
    }

    fn apply(&mut self, epoch: Epoch, facts: &EpochFacts, blocks: &[Block]) -> PatternEffects {
        let (late_against, watermark) = (facts.before(epoch), facts.at(epoch));
        let mut effects = PatternEffects::default();
        for number in 0..self.owners.len() {
            let owner = &mut self.owners[number];
            let of_group = blocks.iter().filter(|block| usize::from(block.plan) == number);
            let rows = of_group.flat_map(|block| requests_of(block).map(|request| (request, block.from)));
            let asked: Vec<_> = rows.collect();
            let rows = asked.len();
            let Seat { index, here, peers, .. } = self.place;
            let mut replies = Replies::new(index + number as u16, here, peers, 2 * owner.group().programs.len(), 0);
            let mut outcome = owner.apply(watermark, &asked, &mut replies);
            owner.expire(late_against.saturating_sub(self.settings.kept_ms), EXPIRE_KEYS_MIN + 2 * rows);
            effects.slices.extend(replies.blocks());
            effects.matches.append(&mut outcome.matches);
            let (owner, revise_ms) = (&self.owners[number], self.owners[number].group().revise_ms);
            let visit = |key, after, until_ms, limit, visit: &mut dyn FnMut(i64, Id)| {
                owner.visit_scored(key, after, until_ms, limit, visit)
            };
            for touched in outcome.touched {
                let beyond = self.repairs.mark(late_against.saturating_sub(revise_ms), number as u16, &touched, &visit);
                effects.beyond.extend(beyond.map(|range| beyond_record(&owner.group().name, &touched, range)));
            }
        }
        consolidate(&mut effects.matches);
        let owners = &self.owners;
        effects.touched = self.repairs.repair(epoch, facts, &|plan, key, after, until_ms, limit, visit| {
            owners[usize::from(plan)].visit_scored(key, after, until_ms, limit, visit)
        });
        self.epochs_since_report += 1;
        if self.epochs_since_report >= EPOCHS_PER_REPORT {
            self.report(GroupView::stats_lately);
        }
        effects
    }

    fn report(&mut self, stats: fn(&GroupView) -> KeyStats) {
        self.epochs_since_report = 0;
        let stats: Vec<KeyStats> = self.owners.iter().map(stats).collect();
        let sum = |of: fn(&KeyStats) -> usize| stats.iter().map(of).sum::<usize>() as u64;
        self.metrics.pattern_keys.set_own(sum(|stats| stats.keys));
        self.metrics.pattern_entries.set_own(sum(|stats| stats.entries));
        self.metrics.pattern_runs.set_own(sum(|stats| stats.runs));
        self.metrics.pattern_matches.set_own(sum(|stats| stats.matches));
        self.metrics.pattern_bytes.set_own(sum(|stats| stats.bytes));
    }
}

impl Drop for GroupViews {
    fn drop(&mut self) {
        // The last figures are the ones that the summary shows.
        self.report(GroupView::stats);
    }
}
