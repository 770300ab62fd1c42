//! The operator of arrivals: records and touched ids in; changes, requests to the views and rejects out.

use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::arrivals::{Arrivals, KeptBy};
use super::image;
use super::records::SharedRecords;
use crate::event::Schema;
use crate::flow::{
    Arrival, Asker, Block, Change, Changes, Epoch, EpochFacts, Horizons, Outgoing, Reject, Touched, owner_of, shard_of,
};
use crate::metrics::Metrics;
use crate::operators::{Dumper, Epochs, Images, TOUCHED_IMAGE};

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
    /// Events beyond the horizon, labels without a target, what came after the withdrawal of its id.
    pub rejects: Stream<'scope, Epoch, Vec<Reject>>,
}

/// Changes whose views are asked in one go: their events stay in the cache meanwhile.
const CHANGES_PER_GO: usize = 16;

/// Builds the operator.
///
/// # Errors
/// If what is to be loaded is no image of transactions.
pub fn retain<'scope, S: 'static>(inputs: RetainInputs<'scope, S>) -> Result<Retained<'scope>, String> {
    let RetainInputs { arrivals, touched, askers, records, schema, horizons, facts, images, metrics } = inputs;
    let scope = arrivals.scope();
    let (here, peers) = (scope.worker().index(), scope.worker().peers());
    let mut builder = OperatorBuilder::new("Retain".to_owned(), scope);
    let (kept_by, ids) = (KeptBy::new(&schema), schema.id_type());
    let by_arrival = Exchange::new(move |arrival: &Arrival| u64::from(shard_of(kept_by.of(&arrival.event).route())));
    let by_touched = Exchange::new(move |touched: &Touched| u64::from(shard_of(touched.id.map_key(ids).route())));
    let mut arrivals = builder.new_input(arrivals, by_arrival);
    let mut touched = builder.new_input(touched, by_touched);
    let (changes_out, changes) = builder.new_output();
    let (rejects_out, rejects) = builder.new_output();
    let mut changes_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Changes>>>::from(changes_out);
    let mut rejects_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Reject>>>::from(rejects_out);
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

    let mut rules = Arrivals::new(schema, horizons, metrics);
    image::load(&images, &mut rules, &mut records.borrow_mut())?;
    let mut again = Vec::new();
    images.load(TOUCHED_IMAGE, |sent: Vec<Touched>| {
        again.extend(sent);
        Ok(())
    })?;
    again.retain(|touched: &Touched| owner_of(touched.id.map_key(ids).route(), peers) == here);
    let (outputs, start) = (2 + asked.len(), images.start());
    let mut dumper = Dumper::new(images);
    builder.build(move |initial| {
        let mut epochs: Epochs<(Vec<Arrival>, Vec<Touched>)> = Epochs::new(outputs);
        if !again.is_empty() {
            let open = epochs.keep_open(start, initial.iter().map(|hold| hold.delayed(&start)).collect());
            open.1.append(&mut again);
        }
        drop(initial);
        move |frontiers| {
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
                let mut effects = rules.apply(&mut records, &facts.of(epoch), arrivals, touched);
                for changes in effects.changes.chunks(CHANGES_PER_GO) {
                    for (asker, outgoing, _) in &mut asked {
                        changes.iter().for_each(|change: &Change| asker.ask(change, outgoing));
                    }
                }
                for (number, (_, outgoing, request_out)) in asked.iter_mut().enumerate() {
                    request_out.activate().session(&capabilities[2 + number]).give_iterator(outgoing.take());
                }
                changes_out.activate().session(&capabilities[0]).give(Rc::new(effects.changes));
                if !effects.rejects.is_empty() {
                    rejects_out.activate().session(&capabilities[1]).give_container(&mut effects.rejects);
                }
            }
            image::dump_before(facts.open(frontiers), &mut dumper, &facts, &rules, &records);
        }
    });
    Ok(Retained { changes, requests, rejects })
}
