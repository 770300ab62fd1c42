//! The operator of arrivals: records and touched ids in; changes, requests to the views and rejects out.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::arrivals::{Arrivals, Effects, KeptBy};
use super::image;
use super::records::{Records, SharedRecords};
use crate::event::{Event, Schema};
use crate::flow::{
    Arrival, Asker, Block, Change, Changes, Epoch, EpochFacts, Horizons, Outgoing, Reject, Touched, Verb, owner_of,
    shard_of,
};
use crate::metrics::Metrics;
use crate::operators::{Dumper, Epochs, Images, TOUCHED_IMAGE, TRANSACTIONS_IMAGE};

/// What the operator is built from.
pub struct RetainInputs<'scope, S> {
    /// Decoded events.
    pub arrivals: Stream<'scope, Epoch, Vec<Arrival>>,
    /// Transactions whose rows are to be read again.
    pub touched: Stream<'scope, Epoch, Vec<Touched>>,
    /// Who asks the views, in groups.
    pub askers: Vec<Vec<Box<dyn Asker>>>,
    /// The transactions of this worker.
    pub records: SharedRecords<S>,
    /// The schema.
    pub schema: Arc<Schema>,
    /// How long events are kept.
    pub horizons: Horizons,
    /// Whether someone takes [`Retained::events`].
    pub wanted: Rc<Cell<bool>>,
    /// The facts of each epoch.
    pub facts: EpochFacts,
    /// Where images come from and go to.
    pub images: Images,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
}

/// What it gives.
pub struct Retained<'scope> {
    /// What happened, in an order that depends on the records of the epoch alone.
    pub changes: Stream<'scope, Epoch, Vec<Changes>>,
    /// What the views are asked, one stream per asker in the same groups, addressed to workers.
    pub requests: Vec<Vec<Stream<'scope, Epoch, Vec<Block>>>>,
    /// The retained events as a collection: they come, are taken back, and go when retention passes. Only if it is wanted.
    pub events: Stream<'scope, Epoch, Vec<(Arc<Event>, Epoch, isize)>>,
    /// Events beyond the horizon, labels without a target, what came after the withdrawal of its id.
    pub rejects: Stream<'scope, Epoch, Vec<Reject>>,
}

const CHANGES: usize = 0;
const REJECTS: usize = 1;
const EVENTS: usize = 2;
/// Outputs before those of the askers.
const OWN_OUTPUTS: usize = 3;

/// Changes whose views are asked in one go: their events stay in the cache meanwhile.
const CHANGES_PER_GO: usize = 16;

/// Builds the operator.
///
/// # Errors
/// If what is to be loaded is no image of transactions.
pub fn retain<'scope, S: 'static>(inputs: RetainInputs<'scope, S>) -> Result<Retained<'scope>, String> {
    let RetainInputs { arrivals, touched, askers, records, schema, horizons, wanted, facts, images, metrics } = inputs;
    let scope = arrivals.scope();
    let (here, peers) = (scope.worker().index(), scope.worker().peers());
    let mut builder = OperatorBuilder::new("Retain".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let (kept_by, ids) = (KeptBy::new(&schema), schema.id_type());
    let by_arrival = Exchange::new(move |arrival: &Arrival| u64::from(shard_of(kept_by.of(&arrival.event).route())));
    let by_touched = Exchange::new(move |touched: &Touched| u64::from(shard_of(touched.id.map_key(ids).route())));
    let mut arrivals = builder.new_input(arrivals, by_arrival);
    let mut touched = builder.new_input(touched, by_touched);
    let (changes_out, changes) = builder.new_output();
    let (rejects_out, rejects) = builder.new_output();
    let mut changes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Changes>>>::from(changes_out);
    let mut rejects_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Reject>>>::from(rejects_out);
    let (events_out, events) = builder.new_output();
    let mut events_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<(Arc<Event>, Epoch, isize)>>>::from(events_out);
    let mut asked = Vec::new();
    let mut requests = Vec::new();
    for group in askers {
        let mut of_group = Vec::new();
        for asker in group {
            let (request_out, stream) = builder.new_output();
            let request_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Block>>>::from(request_out);
            let outgoing = Outgoing::new(here as u32, peers, asker.plans());
            asked.push((asker, outgoing, request_out));
            of_group.push(stream);
        }
        requests.push(of_group);
    }

    let mut rules = Arrivals::new(schema.clone(), horizons, metrics);
    image::load(&images, &schema, horizons, &mut rules, &mut records.borrow_mut())?;
    let mut again = Vec::new();
    images.load(TOUCHED_IMAGE, |sent: Vec<Touched>| {
        again.extend(sent);
        Ok(())
    })?;
    again.retain(|touched: &Touched| owner_of(touched.id.map_key(ids).route(), peers) == here);
    let (outputs, start, loaded) = (OWN_OUTPUTS + asked.len(), images.start(), images.facts());
    let mut dumper = Dumper::new(images, TRANSACTIONS_IMAGE, activator);
    builder.build(move |initial| {
        let mut epochs: Epochs<(Vec<Arrival>, Vec<Touched>)> = Epochs::new(outputs);
        if !again.is_empty() {
            let open = epochs.keep_open(start, initial.iter().map(|hold| hold.delayed(&start)).collect());
            open.1.append(&mut again);
        }
        // Where someone takes the events, those of epochs without records go too: until that is known, and then as long as it goes
        // on, the outputs are held open.
        let first = loaded.map_or(0, |facts| facts.epoch);
        let mut held = Some([REJECTS, EVENTS].map(|port| initial[port].delayed(&first)));
        let mut begun = false;
        drop(initial);
        move |frontiers| {
            if !std::mem::replace(&mut begun, true) {
                held = held.take().filter(|_| wanted.get());
                rules.at_once = held.is_some();
                if let Some([rejects, events]) = &mut held {
                    let there = retained(&records.borrow(), first);
                    events_out.activate().session(&*events).give_iterator(there.into_iter());
                    rejects.downgrade(&start);
                    events.downgrade(&start);
                }
            }
            arrivals.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            touched.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.append(data);
                }
            });
            let mut records = records.borrow_mut();
            while let Some((epoch, capabilities, (arrivals, touched))) = epochs.next_complete(frontiers) {
                image::dump_before(epoch, &mut dumper, &facts, &rules, &records);
                pass_by(epoch, &mut held, &mut rules, &mut records, &facts, (&mut rejects_out, &mut events_out));
                let logged = dumper.logs().then(|| rules.keys_of(&arrivals, &touched));
                let mut effects = rules.apply(&mut records, &facts.of(epoch), arrivals, touched);
                if let Some(keys) = logged {
                    dumper.log(epoch, &image::of_keys(&keys, &rules, &records));
                }
                for changes in effects.changes.chunks(CHANGES_PER_GO) {
                    for (asker, outgoing, _) in &mut asked {
                        changes.iter().for_each(|change: &Change| asker.ask(change, outgoing));
                    }
                }
                for (number, (_, outgoing, request_out)) in asked.iter_mut().enumerate() {
                    request_out.activate().session(&capabilities[OWN_OUTPUTS + number]).give_iterator(outgoing.take());
                }
                if let Some([rejects, events]) = &mut held {
                    let updates = updates(&effects, epoch);
                    events_out.activate().session(&capabilities[EVENTS]).give_iterator(updates.into_iter());
                    rejects.downgrade(&(epoch + 1));
                    events.downgrade(&(epoch + 1));
                }
                changes_out.activate().session(&capabilities[CHANGES]).give(Rc::new(effects.changes));
                if !effects.rejects.is_empty() {
                    rejects_out.activate().session(&capabilities[REJECTS]).give_container(&mut effects.rejects);
                }
            }
            let open = facts.open(frontiers);
            image::dump_before(open, &mut dumper, &facts, &rules, &records);
            pass_by(open, &mut held, &mut rules, &mut records, &facts, (&mut rejects_out, &mut events_out));
            if let Some(now) = open.checked_sub(1) {
                image::dump_piece(now, &mut dumper, &rules, &records);
            }
            if frontiers.iter().all(|frontier| frontier.frontier().is_empty()) {
                held = None;
            }
        }
    });
    Ok(Retained { changes, requests, events, rejects })
}

/// An update of the collection of retained events.
type EventUpdate = (Arc<Event>, Epoch, isize);
type RejectsOut = OutputBuilder<Epoch, CapacityContainerBuilder<Vec<Reject>>>;
type EventsOut = OutputBuilder<Epoch, CapacityContainerBuilder<Vec<EventUpdate>>>;

/// Epochs without records, up to (not with) this one: what retention passes in them goes.
fn pass_by<S>(
    until: Epoch,
    held: &mut Option<[Capability<Epoch>; 2]>,
    rules: &mut Arrivals,
    records: &mut Records<S>,
    facts: &EpochFacts,
    (rejects_out, events_out): (&mut RejectsOut, &mut EventsOut),
) {
    let Some([rejects, events]) = held else { return };
    while *events.time() < until {
        let (epoch, mut effects) = (*events.time(), Effects::default());
        rules.expire(records, &facts.of(epoch), usize::MAX, &mut effects);
        if !effects.rejects.is_empty() {
            rejects_out.activate().session(&*rejects).give_container(&mut effects.rejects);
        }
        events_out.activate().session(&*events).give_iterator(updates(&effects, epoch).into_iter());
        rejects.downgrade(&(epoch + 1));
        events.downgrade(&(epoch + 1));
    }
}

/// The events that are there, as updates.
fn retained<S>(records: &Records<S>, epoch: Epoch) -> Vec<EventUpdate> {
    let live = records.all().filter(|one| one.live());
    live.map(|one| (one.event.clone(), epoch, 1)).collect()
}

/// The events that come and go in an epoch, as updates.
fn updates(effects: &Effects, epoch: Epoch) -> Vec<EventUpdate> {
    let changed = effects.changes.iter().filter_map(|change| match change.verb {
        Verb::Insert => Some((change.event.clone(), epoch, 1)),
        Verb::Remove => Some((change.event.clone(), epoch, -1)),
        Verb::Label | Verb::Relabel | Verb::Read => None,
    });
    changed.chain(effects.gone.iter().map(|event| (event.clone(), epoch, -1))).collect()
}
