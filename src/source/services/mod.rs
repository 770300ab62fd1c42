//! Outside services: asked between decoding and binding, so that answers are inputs.
//!
//! ```text
//!  decoded event ──► [stage: held at most its budget, in partition order] ─► log (--state) ─► stash ─► epochs
//!                        │ key          ▲ answer                     late answers ─► log ─► stash, own lanes
//!                        ▼              │
//!                    [desk: cache, breaker, queue] ◄──► [threads: HTTP, Redis, PostgreSQL]
//! ```
//!
//! The dataflow is a function of its inputs, so nothing in it may wait for a service. The wait happens here: an event
//! whose dataflow asks a service is held until the answers are there or its budget is over, and then enters its partition's
//! lane with what was answered. What was not answered has the look-up's defaults (the fallback). An answer that comes after
//! the budget becomes an input record of its own, in a lane beside the partition's
//! ([`LateAnswers`](crate::event::InputStream::LateAnswers)), and revises the transaction with cause `reference`.
//!
//! * **Order.** Events leave in the order of their partition; one that waits holds those behind it, at most until its own
//!   budget is over, and theirs run meanwhile: nothing is held longer than the budget. Partitions do not wait for each other.
//! * **A dead or slow service** costs the budget at most. After `failures_max` failures in a row no one waits for it any
//!   more (the breaker): for `pause_ms` every transaction has the fallback at once, then a single request tries again.
//!   Requests that waited in the queue longer than the timeout are dropped.
//! * **Replays.** With `--state` the outcome of every event that a service was to be asked for, answer or fallback, is
//!   written to `answers-PARTITION.jsonl` and synced before the event can be bound; late answers too. A restart takes
//!   outcomes from there and asks for what is not in it. A bounded run (`replay`) never calls a service and writes nothing:
//!   it has the logged outcomes, and the fallback where there are none.
//!
//! Limits: held events per worker `HELD_MAX`; per service and worker `queue_max` waiting and `in_flight_max` running
//! requests, `cache_entries_max` answers for `cache_ms` ([`ServiceSettings`]).

mod cache;
mod client;
mod desk;
mod log;
mod stage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::Schema;
use crate::metrics::Metrics;
use crate::source::SourceError;
use crate::source::tables::{Reference, ReferenceKind, ServiceSettings};
use crate::views::lookup::{Enrich, Question};

pub use stage::{HELD_MAX, Stage};

/// One look-up that asks a service.
#[derive(Clone, Debug)]
pub(crate) struct AskedService {
    pub name: String,
    pub tag: u64,
    pub question: Question,
    pub reference: Arc<Reference>,
    pub settings: ServiceSettings,
}

/// The services that a dataflow asks, resolved.
#[derive(Clone, Debug, Default)]
pub struct Services {
    asked: Vec<AskedService>,
    state: Option<PathBuf>,
    /// Whether services are called at all.
    live: bool,
}

impl Services {
    /// The services that look-ups ask. `addresses` override the declared ones, by name. A look-up that cannot be asked
    /// (a client that was not built in, a name that no look-up has) is an error that says what to do.
    pub fn resolve<'a>(
        look_ups: impl IntoIterator<Item = &'a Enrich>,
        schema: &Schema,
        addresses: &BTreeMap<String, String>,
        state: Option<PathBuf>,
        live: bool,
    ) -> Result<Self, SourceError> {
        let mut asked = Vec::new();
        let user = SourceError::User;
        for look_up in look_ups {
            let ReferenceKind::Service(declared) = look_up.reference().kind() else { continue };
            let mut settings = declared.clone();
            if let Some(address) = addresses.get(look_up.reference().name()) {
                address.clone_into(&mut settings.ask);
            }
            settings
                .check()
                .and_then(|()| client::check(&settings))
                .map_err(|reason| user(format!("service '{}': {reason}", look_up.reference().name())))?;
            asked.push(AskedService::of(look_up, schema, settings).map_err(user)?);
        }
        if asked.len() > stage::SERVICES_MAX {
            return Err(user(format!("{} look-ups ask services; at most {} can", asked.len(), stage::SERVICES_MAX)));
        }
        Ok(Services { asked, state, live })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// One worker's stage. Its threads start at once; the caller is the worker that will turn it.
    pub fn open(&self, schema: &Arc<Schema>, metrics: &Arc<Metrics>) -> Result<Stage, SourceError> {
        Stage::open(&self.asked, self.state.clone(), self.live, schema.clone(), metrics.clone())
    }
}

impl AskedService {
    fn of(look_up: &Enrich, schema: &Schema, settings: ServiceSettings) -> Result<Self, String> {
        let question = Question::resolve(look_up, schema)?;
        let (name, tag) = (look_up.reference().name().to_owned(), look_up.tag());
        Ok(AskedService { name, tag, question, reference: look_up.reference().clone(), settings })
    }
}
