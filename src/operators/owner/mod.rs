//! The operator that owns a view: requests in; slices, updates and touched transactions out.
//!
//! For each closed epoch:
//!
//! 1. put the blocks of requests in order and give them to the view, which may take several turns;
//! 2. mark what the view says was touched: as far as rows are still revised they go to the backlog, else one record says so;
//! 3. walk the backlog as far as the epoch's budget goes and send the ids of the touched transactions around; the rest stays for
//!    the next epoch, unless it would then be too old to be read;
//! 4. expire, and report.
//!
//! Epochs without requests pass by, but for views that wait for event time ([`View::waits`]) and for rows that wait to be read
//! again: then the next epoch is kept open, with or without records. Shards are dumped at the end of the epochs whose facts say
//! so, before anything later is applied, or one by one while epochs come and go; then what they ask is written down, too
//! ([`crate::operators::Dumper`]).

use std::sync::Arc;

use differential_dataflow::consolidation::consolidate;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::view::{Asks, Out, Turn, View};
use super::{Epochs, Images};
use crate::flow::{Beyond, Block, Epoch, EpochFacts, Facts, Owed, ReferenceRecord, Touched};
use crate::metrics::Metrics;
use state::Owner;

mod state;

pub use state::TOUCHED_IMAGE;

/// What an owner is built from.
pub struct OwnerInputs<'scope> {
    /// What the operator is called; also what its images and metrics are filed under.
    pub name: String,
    /// A hash of all that decides what the view keeps, beside what its parts say of themselves.
    pub fingerprint: u64,
    /// Requests, addressed to workers.
    pub requests: Stream<'scope, Epoch, Vec<Block>>,
    /// Records of reference collections, addressed to workers, if the view looks at them.
    pub records: Option<Stream<'scope, Epoch, Vec<ReferenceRecord>>>,
    /// How far behind the watermark a transaction can be read again, milliseconds.
    pub read_ms: i64,
    /// The facts of each epoch.
    pub facts: EpochFacts,
    /// What waits to be read again.
    pub owed: Owed,
    /// Where images come from and go to.
    pub images: Images,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
}

/// What an owner gives.
pub struct Owned<'scope, U> {
    /// Rows of `[ticket, feature, ...]`, addressed to the worker that asked.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// Transactions to be read again.
    pub touched: Stream<'scope, Epoch, Vec<Touched>>,
    /// Changes that touched rows too old to be revised.
    pub beyond: Stream<'scope, Epoch, Vec<Beyond>>,
    /// What the view publishes beside: updates of a collection.
    pub updates: Stream<'scope, Epoch, Vec<(U, Epoch, isize)>>,
}

/// Gauges cost a walk over shards, so they are not set in every epoch.
const EPOCHS_PER_REPORT: u32 = 256;

const SLICES: usize = 0;
const TOUCHED: usize = 1;
const BEYOND: usize = 2;
const UPDATES: usize = 3;
const OUTPUTS: usize = 4;

/// Builds the operator.
///
/// # Errors
/// If what is to be loaded is not of this view.
pub fn own<'scope, V: View>(view: V, inputs: OwnerInputs<'scope>) -> Result<Owned<'scope, V::Update>, String> {
    let OwnerInputs { name, fingerprint, requests, records, read_ms, facts, owed, images, metrics } = inputs;
    let scope = requests.scope();
    let mut builder = OperatorBuilder::new(name.clone(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let by_worker = || Exchange::new(|record: &ReferenceRecord| u64::from(record.to));
    let mut records = records.map(|records| builder.new_input(records, by_worker()));
    let (slices_out, slices) = builder.new_output();
    let (touched_out, touched) = builder.new_output();
    let (beyond_out, beyond) = builder.new_output();
    let (updates_out, updates) = builder.new_output();
    let mut slices_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Block>>>::from(slices_out);
    let mut touched_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Touched>>>::from(touched_out);
    let mut beyond_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Beyond>>>::from(beyond_out);
    let mut updates_out = UpdatesOut::<V::Update>::from(updates_out);

    let (start, loaded) = (images.start(), images.facts());
    let mut owner = Owner::load(view, (name, fingerprint), read_ms, owed, images, (activator.clone(), metrics))?;
    builder.build(move |initial| {
        let mut epochs: Epochs<Asks> = Epochs::new(OUTPUTS);
        if owner.owes() {
            let at_start = |hold: &Capability<Epoch>| hold.delayed(&start);
            epochs.keep_open(start, initial.iter().map(at_start).collect());
        }
        let mut waiting: Option<Capability<Epoch>> = None;
        // Whoever takes updates is connected once this runs for the first time.
        let mut publishing = loaded.map(|facts| initial[UPDATES].delayed(&facts.epoch));
        let mut begun: Option<Begun<V::Update>> = None;
        drop(initial);
        move |frontiers| {
            if let Some(capability) = publishing.take() {
                // As of the epoch that was loaded: whoever has acknowledged that one has it already.
                let (epoch, published) = (*capability.time(), owner.view.published().into_iter());
                let updates = published.map(|(update, diff)| (update, epoch, diff)).collect::<Vec<_>>();
                updates_out.activate().session(&capability).give_iterator(updates.into_iter());
                waiting = owner.view.waits().then(|| capability.delayed(&start));
            }
            requests.for_each(|capability, data| {
                if let Some(asks) = epochs.of(&capability) {
                    asks.blocks.append(data);
                }
            });
            if let Some(records) = &mut records {
                records.for_each(|capability, data| {
                    if let Some(asks) = epochs.of(&capability) {
                        asks.records.append(data);
                    }
                });
            }
            loop {
                let (now, capabilities, mut out, turn) = match begun.take() {
                    Some((now, capabilities, mut out)) => {
                        let turn = owner.view.go_on(&now, &mut out);
                        (now, capabilities, out, turn)
                    }
                    None => {
                        let Some((epoch, capabilities, mut asks)) = epochs.next_complete(frontiers) else { break };
                        owner.dump_before(epoch, &facts, |view, until| {
                            pass_by(&mut waiting, view, until, &facts, &mut updates_out);
                        });
                        pass_by(&mut waiting, &mut owner.view, epoch, &facts, &mut updates_out);
                        asks.blocks.sort_by_key(|block| (block.plan, block.from));
                        let (now, mut out) = (facts.of(epoch), Out::default());
                        owner.log(&now, &asks);
                        let turn = owner.view.apply(&now, asks, &mut out);
                        (now, capabilities, out, turn)
                    }
                };
                if turn == Turn::More {
                    begun = Some((now, capabilities, out));
                    activator.activate();
                    return;
                }
                let (mut touched, mut beyond) = owner.settle(&now, std::mem::take(&mut out.marks));
                if !out.slices.is_empty() {
                    slices_out.activate().session(&capabilities[SLICES]).give_container(&mut out.slices);
                }
                if !out.updates.is_empty() {
                    consolidate(&mut out.updates);
                    let updates = out.updates.into_iter().map(|(update, diff)| (update, now.epoch, diff));
                    updates_out.activate().session(&capabilities[UPDATES]).give_iterator(updates);
                }
                if !touched.is_empty() {
                    touched_out.activate().session(&capabilities[TOUCHED]).give_container(&mut touched);
                }
                if !beyond.is_empty() {
                    beyond_out.activate().session(&capabilities[BEYOND]).give_container(&mut beyond);
                }
                let next = now.epoch + 1;
                waiting = owner.view.waits().then(|| capabilities[UPDATES].delayed(&next));
                if owner.owes() {
                    epochs.keep_open(next, capabilities.iter().map(|hold| hold.delayed(&next)).collect());
                }
            }
            // Once the inputs have ended nothing follows the last epoch, and what waits for a later watermark waits for ever.
            let until = facts.open(frontiers);
            owner.dump_before(until, &facts, |view, until| {
                pass_by(&mut waiting, view, until, &facts, &mut updates_out);
            });
            pass_by(&mut waiting, &mut owner.view, until, &facts, &mut updates_out);
            if let Some(now) = until.checked_sub(1) {
                owner.dump_piece(now);
            }
            if frontiers.iter().all(|frontier| frontier.frontier().is_empty()) {
                waiting = None;
            }
        }
    });
    Ok(Owned { slices, touched, beyond, updates })
}

/// An epoch that has begun and goes on: its facts, what holds its outputs open, and what it has made so far.
type Begun<U> = (Facts, Vec<Capability<Epoch>>, Out<U>);

type UpdatesOut<U> = OutputBuilder<Epoch, CapacityContainerBuilder<Vec<(U, Epoch, isize)>>>;

/// Epochs without requests, up to (not with) this one: publishes what waited for their watermarks. Holds the output of updates
/// alone, as what else comes out goes round, and would keep the input open for ever.
fn pass_by<V: View>(
    waiting: &mut Option<Capability<Epoch>>,
    view: &mut V,
    until: Epoch,
    facts: &EpochFacts,
    out: &mut UpdatesOut<V::Update>,
) {
    while let Some(capability) = waiting.as_mut().filter(|capability| *capability.time() < until) {
        let (epoch, mut passed) = (*capability.time(), Vec::new());
        view.pass(facts.of(epoch).watermark_ms, &mut passed);
        consolidate(&mut passed);
        let updates = passed.into_iter().map(|(update, diff)| (update, epoch, diff));
        out.activate().session(capability).give_iterator(updates);
        if view.waits() {
            capability.downgrade(&(epoch + 1));
        } else {
            *waiting = None;
        }
    }
}
