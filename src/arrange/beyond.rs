//! Changes that touched rows too old to be revised: one record per change and key kind.
//!
//! What is not revised is published, never dropped in silence. One change may touch old rows of a key kind more than once: a
//! correction that moves an event to another key takes it out of one log and puts it into another, on another worker
//! perhaps; an event may undo several matches. So what the owners of the keys find goes to the owner of the event, which
//! makes one record of it: of equal `(id, what)` the earliest time, the first and the last row touched, and the smallest
//! cause.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::decode::{Reject, RejectReason};
use crate::epoch::Epoch;
use crate::event::{Id, IdType, MapKey};
use crate::operators::Epochs;
use crate::runtime::metrics::Metrics;
use crate::source::Raw;

use super::change::Cause;

/// Rows of one key that a change has touched and that are not revised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Beyond {
    /// The event that was changed.
    pub id: Id,
    /// What it changes, and of which key kind: "features of key 'card'".
    pub what: String,
    /// How it was changed.
    pub cause: Cause,
    /// Its event time, milliseconds.
    pub time_ms: i64,
    /// Event time of the first row touched, milliseconds.
    pub from_ms: i64,
    /// No row after this is among them, milliseconds.
    pub until_ms: i64,
}

impl Beyond {
    fn join(&mut self, other: Beyond) {
        self.cause = self.cause.min(other.cause);
        self.time_ms = self.time_ms.min(other.time_ms);
        self.from_ms = self.from_ms.min(other.from_ms);
        self.until_ms = self.until_ms.max(other.until_ms);
    }

    fn reject(self, ids: IdType) -> Reject {
        let Beyond { id, what, cause, time_ms, from_ms, until_ms } = self;
        let cause = cause.name();
        let message = format!(
            "{cause} at {time_ms} changes {what} in rows from {from_ms} to {until_ms}, which are too old to be revised"
        );
        Reject {
            partition: Reject::NOWHERE,
            offset: 0,
            timestamp_ms: time_ms,
            reason: RejectReason::BeyondHorizon,
            message,
            id: id.written(ids),
            raw: Raw::default(),
        }
    }
}

/// Builds the operator.
pub fn publish<'scope>(
    beyond: Stream<'scope, Epoch, Vec<Beyond>>,
    ids: IdType,
    metrics: Arc<Metrics>,
) -> Stream<'scope, Epoch, Vec<Reject>> {
    let mut builder = OperatorBuilder::new("Beyond".to_owned(), beyond.scope());
    let by_event = Exchange::new(move |beyond: &Beyond| beyond.id.map_key(ids).route());
    let mut beyond = builder.new_input(beyond, by_event);
    let (rejects_out, rejects) = builder.new_output();
    let mut rejects_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<Reject>>>::from(rejects_out);
    builder.build(move |_| {
        let mut epochs: Epochs<Vec<Beyond>> = Epochs::new(1);
        move |frontiers| {
            beyond.for_each(|capability, data| {
                if let Some(epoch) = epochs.of(&capability) {
                    epoch.append(data);
                }
            });
            while let Some((_, capabilities, found)) = epochs.next_complete(frontiers) {
                let rejects = joined(found, ids).into_iter().map(|beyond| beyond.reject(ids));
                let mut rejects: Vec<Reject> = rejects.collect();
                metrics.revisions_beyond.add(rejects.len() as u64);
                rejects_out.activate().session(&capabilities[0]).give_container(&mut rejects);
            }
        }
    });
    rejects
}

/// One per change and key kind, in an order that does not depend on who found them.
fn joined(found: Vec<Beyond>, ids: IdType) -> Vec<Beyond> {
    let mut joined: BTreeMap<(MapKey, String), Beyond> = BTreeMap::new();
    for beyond in found {
        match joined.get_mut(&(beyond.id.map_key(ids), beyond.what.clone())) {
            Some(other) => other.join(beyond),
            None => drop(joined.insert((beyond.id.map_key(ids), beyond.what.clone()), beyond)),
        }
    }
    joined.into_values().collect()
}
