//! The operator of one look-up: requests by key and reference records in, slices and touched transactions out.
//!
//! For each closed epoch, **as of arrival**:
//!
//! 1. put records in (time, partition, offset) order, requests in (event time, id) order;
//! 2. go through the requests; before each, apply the records whose time is not later than the event's;
//! 3. apply the records that are left: later epochs see them, whatever their time.
//!
//! **Live**:
//!
//! 1. apply all records, so that a row means the state at the epoch's end; a record that changes a column marks the key;
//! 2. take in who looks now, forget who was withdrawn, answer fresh and repeated reads alike;
//! 3. send around as many transactions behind the marks as the epoch's budget allows; the rest stays for the next epoch.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};

use super::plan::{EnrichPlan, KeyOf};
use super::table::{Place, Table};
use crate::event::{Key, Schema};
use crate::flow::LAST;
use crate::flow::{
    Ask, Block, Cause, Change, Epoch, EpochFacts, HEAD, NO_TICKET, Outgoing, ReferenceRecord, Replies, Request,
    Touched, Verb,
};
use crate::metrics::Metrics;
use crate::operators::Epochs;
use crate::operators::backlog::{Backlog, Stretch};

/// What the operator is built with.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// The [`Block::plan`] of its slices.
    pub index: u16,
    /// How late an event may be, milliseconds: lookers are kept for this and the revise horizon.
    pub late_ms: i64,
    /// How far behind the watermark a transaction can be read, milliseconds.
    pub read_ms: i64,
}

/// Slices of feature rows, and what was touched.
pub struct Looked<'scope> {
    /// Rows of `[ticket, column, ...]`, addressed to the worker that asked.
    pub slices: Stream<'scope, Epoch, Vec<Block>>,
    /// Transactions to be read again; nothing ever comes of a look-up as of arrival.
    pub touched: Stream<'scope, Epoch, Vec<Touched>>,
}

/// Builds the operators.
pub fn lookup<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    records: Stream<'scope, Epoch, Vec<ReferenceRecord>>,
    plan: Arc<EnrichPlan>,
    settings: LookupSettings,
    schema: Arc<Schema>,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Looked<'scope> {
    let scope = changes.scope();
    let (here, peers) = (scope.worker().index() as u32, scope.worker().peers());
    let requests = ask(changes, plan.clone(), schema);
    let mut builder = OperatorBuilder::new(format!("Look up {}", plan.name), scope);
    let mut requests = builder.new_input(requests, Exchange::new(|block: &Block| u64::from(block.to)));
    let mut records = builder.new_input(records, Exchange::new(|record: &ReferenceRecord| u64::from(record.to)));
    let (slices_out, slices) = builder.new_output();
    let (touched_out, touched) = builder.new_output();
    let mut slices_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Block>>>::from(slices_out);
    let mut touched_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Touched>>>::from(touched_out);

    builder.build(move |_| {
        let mut epochs: Epochs<(Vec<Block>, Vec<ReferenceRecord>)> = Epochs::new(2);
        let mut owner = Owner::new(plan, settings, metrics, here, peers);
        move |frontiers| {
            requests.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.0.append(data);
                }
            });
            records.for_each(|capability, data| {
                let mine = data.drain(..).filter(|record| record.tag == owner.plan.tag);
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.1.extend(mine);
                }
            });
            while let Some((epoch, capabilities, (blocks, records))) = epochs.next_complete(frontiers) {
                let mut effects = owner.apply(epoch, &facts, &blocks, records);
                if !effects.slices.is_empty() {
                    slices_out.activate().session(&capabilities[0]).give_container(&mut effects.slices);
                }
                if !effects.touched.is_empty() {
                    touched_out.activate().session(&capabilities[1]).give_container(&mut effects.touched);
                }
                // What is touched is read one epoch later, so that one must come, whether events do or not.
                if owner.backlog_len() > 0 {
                    epochs.keep_open(epoch + 1, capabilities.iter().map(|hold| hold.delayed(&(epoch + 1))).collect());
                }
            }
        }
    });
    Looked { slices, touched }
}

/// Cuts changes into requests, addressed to the owner of the key. What everyone has (a network file) is asked here.
fn ask<'scope>(
    changes: Stream<'scope, Epoch, Vec<Change>>,
    plan: Arc<EnrichPlan>,
    schema: Arc<Schema>,
) -> Stream<'scope, Epoch, Vec<Block>> {
    let worker = changes.scope().worker().clone();
    let here = worker.index() as u32;
    let mut outgoing = Outgoing::new(here, worker.peers(), 1);
    let name = format!("Ask {}", plan.name);
    changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, &name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, changes| {
                for change in changes.drain(..) {
                    let Some(request) = request(&change, &plan, &schema) else { continue };
                    match plan.key {
                        KeyOf::Address(_) => outgoing.push_to(here, 0, &request),
                        _ => outgoing.push(0, &request),
                    }
                }
                output.session(&capability).give_iterator(outgoing.take());
            });
        }
    })
}

fn request(change: &Change, plan: &EnrichPlan, schema: &Schema) -> Option<Request<'static>> {
    let ask = match change.verb {
        Verb::Insert if change.ticket != NO_TICKET => Ask::Insert,
        Verb::Read if plan.live && change.ticket != NO_TICKET => Ask::Read,
        Verb::Remove if plan.live && schema.is_scored(change.event.kind) => Ask::Remove,
        _ => return None,
    };
    Some(Request {
        ask,
        scored: true,
        cause: change.cause,
        ticket: change.ticket,
        key: plan.key_of(&change.event, schema)?,
        time: change.event.time,
        id: change.event.id,
        mask: 0,
        known_at: i64::MAX,
        columns: &[],
    })
}

#[derive(Default)]
struct Effects {
    slices: Vec<Block>,
    touched: Vec<Touched>,
}

/// The share of one worker.
struct Owner {
    plan: Arc<EnrichPlan>,
    settings: LookupSettings,
    table: Table,
    backlog: Backlog,
    /// Transactions that the last epoch has touched.
    touched: usize,
    /// Keys to be repaired, as the metric has it.
    reported: usize,
    metrics: Arc<Metrics>,
    here: u32,
    peers: usize,
}

impl Owner {
    fn new(plan: Arc<EnrichPlan>, settings: LookupSettings, metrics: Arc<Metrics>, here: u32, peers: usize) -> Self {
        let table = Table::new(&plan, settings.late_ms.saturating_add(plan.revise_ms));
        Owner { plan, settings, table, backlog: Backlog::default(), touched: 0, reported: 0, metrics, here, peers }
    }

    fn apply(
        &mut self,
        epoch: Epoch,
        facts: &EpochFacts,
        blocks: &[Block],
        mut records: Vec<ReferenceRecord>,
    ) -> Effects {
        let rows =
            blocks.iter().flat_map(|block| block.words.chunks_exact(HEAD).map(|row| (Request::read(row), block.from)));
        let mut rows: Vec<(Request<'_>, u32)> = rows.collect();
        rows.sort_by_key(|(request, _)| (request.time, request.id));
        records.sort_by_key(|record| (record.time, record.partition, record.offset));
        self.metrics.reference_records.add(records.len() as u64);
        let changed = !records.is_empty();
        let replies = Replies::new(self.settings.index, self.here, self.peers, self.plan.columns.len(), rows.len());
        let effects = if self.plan.live {
            self.live(epoch, facts, &rows, records, replies)
        } else {
            self.as_of(&rows, records, replies)
        };
        if self.plan.live {
            self.table.expire(facts.before(epoch));
            self.touched = effects.touched.len();
            let waiting = self.backlog_len();
            if std::mem::replace(&mut self.reported, waiting) != waiting {
                self.metrics.backlog_of.set_own(&self.plan.name, waiting as u64);
            }
        }
        if changed {
            self.metrics.reference_rows.set_own(&self.plan.name, self.table.len().0 as u64);
        }
        effects
    }

    /// Keys still to be repaired, or at least one while what was touched has not been read.
    fn backlog_len(&self) -> usize {
        self.backlog.len().max(usize::from(self.touched > 0))
    }

    fn as_of(&mut self, rows: &[(Request<'_>, u32)], records: Vec<ReferenceRecord>, mut replies: Replies) -> Effects {
        let mut records = records.into_iter().peekable();
        for (request, from) in rows {
            while let Some(record) = records.next_if(|record| record.time <= request.time) {
                self.table.apply(record);
            }
            self.table.answer(&self.plan, request.key, replies.row(*from, request.ticket));
        }
        records.for_each(|record| drop(self.table.apply(record)));
        Effects { slices: replies.blocks().collect(), touched: Vec::new() }
    }

    fn live(
        &mut self,
        epoch: Epoch,
        facts: &EpochFacts,
        rows: &[(Request<'_>, u32)],
        records: Vec<ReferenceRecord>,
        mut replies: Replies,
    ) -> Effects {
        for record in records {
            if let Some((key, before)) = self.table.apply(record)
                && self.table.is_looked_at(key)
                && self.differs(key, before.as_deref())
            {
                self.mark(facts.before(epoch), key);
            }
        }
        // A correction removes and inserts at one place, in this order, which the sort has kept.
        for (request, _) in rows {
            let place: Place = (request.time, request.id);
            match request.ask {
                Ask::Insert => self.table.look(request.key, place),
                Ask::Remove => self.table.look_away(request.key, place),
                _ => {}
            }
        }
        for (request, from) in rows.iter().filter(|(request, _)| request.ticket != NO_TICKET) {
            self.table.answer(&self.plan, request.key, replies.row(*from, request.ticket));
        }
        let mut touched = Vec::new();
        let table = &self.table;
        // What could not be read any more in the next epoch goes now.
        self.backlog.hasten(facts.at(epoch).saturating_sub(self.settings.read_ms), |_, key, stretch| {
            let cause = stretch.cause;
            table.visit(key, stretch.after, stretch.until_ms, usize::MAX, |id| touched.push(Touched { id, cause }));
        });
        self.backlog.repair(epoch, facts.repair(epoch), |_, key, stretch, limit| {
            let cause = stretch.cause;
            table.visit(key, stretch.after, stretch.until_ms, limit, |id| touched.push(Touched { id, cause }))
        });
        Effects { slices: replies.blocks().collect(), touched }
    }

    /// Whether the columns are others than with the row before.
    fn differs(&self, key: Key, before: Option<&[u64]>) -> bool {
        let (mut old, mut new) = (vec![0.0; self.plan.columns.len()], vec![0.0; self.plan.columns.len()]);
        self.plan.fill(before, &mut old);
        self.plan.fill(self.table.row(key).map(|cells| &**cells), &mut new);
        old.iter().zip(&new).any(|(old, new)| old.to_bits() != new.to_bits())
    }

    /// Marks the transactions that looked at a key and are young enough to be revised.
    fn mark(&mut self, watermark: i64, key: Key) {
        let revised_from = watermark.saturating_sub(self.plan.revise_ms);
        let after = (revised_from.saturating_sub(1), LAST);
        self.backlog.mark(0, key, Stretch { after, until_ms: i64::MAX, cause: Cause::Reference });
    }
}
