//! The last assessment of each transaction: rows in, scored diffs out.
//!
//! A row of a transaction never seen is its arrival: the decision is made and `+1` sent. A later row is a revision: if its
//! assessment differs from the last one, that one goes as `-1` and the new one as `+1`, in this order. A withdrawal sends
//! `-1` and a tombstone. Assessments are kept by id ([`crate::event::Id::map_key`]: a correction may change the rank) for the
//! retention of events, about 100 bytes each.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::assessment::{Assessment, Decision, ScoredDiff};
use super::scorer::Scorer;
use crate::event::IdType;
use crate::feature::assemble::{Rows, Transaction};
use crate::flow::{Cause, Epoch, EpochFacts};
use crate::metrics::Metrics;
use crate::operators::{Expiring, ShardedMap};

struct Last {
    revision: u32,
    decision: Decision,
    assessment: Assessment,
    time: i64,
}

/// Builds the operator. `retention_ms` is how long assessments are kept behind the watermark, event time.
pub fn revise<'scope>(
    rows: Stream<'scope, Epoch, Vec<Rows>>,
    scorer: Scorer,
    retention_ms: i64,
    ids: IdType,
    facts: EpochFacts,
    metrics: Arc<Metrics>,
) -> Stream<'scope, Epoch, Vec<ScoredDiff>> {
    rows.unary::<CapacityContainerBuilder<Vec<ScoredDiff>>, _, _, _>(Pipeline, "Score", move |_, _| {
        let (last, expiring) = (ShardedMap::default(), Expiring::new(retention_ms));
        let mut scored = Scored { last, expiring, ids, champion: scorer.champion(), metrics };
        move |input, output| {
            input.for_each(|capability, batch| {
                let Some(&epoch) = capability.least() else { return };
                // As events by id are: what is there must not depend on how ids are spread over workers.
                scored.expire(facts.before(epoch.saturating_sub(1)));
                let mut diffs = Vec::new();
                for rows in batch.drain(..) {
                    let assessments = scorer.assess(&rows.values, rows.width);
                    for (transaction, assessment) in rows.transactions.into_iter().zip(assessments) {
                        scored.assessed(epoch, transaction, assessment, &mut diffs);
                    }
                    for transaction in rows.withdrawn {
                        scored.withdrawn(epoch, transaction, &mut diffs);
                    }
                }
                output.session(&capability).give_container(&mut diffs);
            });
        }
    })
}

struct Scored {
    last: ShardedMap<Last>,
    expiring: Expiring,
    ids: IdType,
    /// The model that decides on what arrives now.
    champion: u16,
    metrics: Arc<Metrics>,
}

impl Scored {
    fn assessed(&mut self, epoch: Epoch, transaction: Transaction, new: Assessment, diffs: &mut Vec<ScoredDiff>) {
        let Transaction { event, cause, row_revision, arrived_ns } = transaction;
        let (key, time) = (event.id.map_key(self.ids), event.time);
        let Some(last) = self.last.get_mut(&key) else {
            if row_revision > 0 {
                // What was said of it is forgotten, so it cannot be taken back: better no revision than two assessments that hold.
                return self.metrics.revisions_missed.add(1);
            }
            let decision = Decision { action: new.action, score: new.score, model: self.champion };
            self.metrics.scored.add(1);
            let assessment = Some(new.clone());
            diffs.push(ScoredDiff { event, revision: 0, diff: 1, epoch, cause, decision, assessment, arrived_ns });
            self.last.insert(key, Last { revision: 0, decision, assessment: new, time });
            return self.expiring.put(key, time);
        };
        self.metrics.rescored.add(1);
        if last.time != time {
            last.time = time;
            self.expiring.put(key, time);
        }
        if last.assessment == new {
            return;
        }
        self.metrics.revised.add(1);
        let old = std::mem::replace(&mut last.assessment, new.clone());
        last.revision += 1;
        let (revision, decision) = (last.revision, last.decision);
        let diff = |event, diff, assessment| ScoredDiff {
            event,
            revision,
            diff,
            epoch,
            cause,
            decision,
            assessment: Some(assessment),
            arrived_ns,
        };
        diffs.push(diff(event.clone(), -1, old));
        diffs.push(diff(event, 1, new));
    }

    fn withdrawn(&mut self, epoch: Epoch, transaction: Transaction, diffs: &mut Vec<ScoredDiff>) {
        let Transaction { event, arrived_ns, .. } = transaction;
        let Some(last) = self.last.remove(&event.id.map_key(self.ids)) else { return };
        self.metrics.withdrawn.add(1);
        let (revision, decision) = (last.revision + 1, last.decision);
        let diff = |event, diff, assessment| ScoredDiff {
            event,
            revision,
            diff,
            epoch,
            cause: Cause::Withdrawal,
            decision,
            assessment,
            arrived_ns,
        };
        diffs.push(diff(event.clone(), -1, Some(last.assessment)));
        diffs.push(diff(event, 0, None));
    }

    fn expire(&mut self, watermark: i64) {
        let bound = self.expiring.bound(watermark);
        while let Some(keys) = self.expiring.take(watermark) {
            for key in keys {
                if self.last.get(&key).is_some_and(|last| last.time < bound) {
                    self.last.remove(&key);
                }
            }
            self.metrics.assessment_table_bytes.set_own(self.last.table_bytes() as u64);
        }
    }
}
