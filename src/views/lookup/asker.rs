//! Asks the owner of a key what is known of it. What everyone has (a network file) is asked here.

use std::sync::Arc;

use super::plan::{EnrichPlan, KeyOf};
use crate::event::Schema;
use crate::flow::{Ask, Asker, Change, NO_TICKET, Outgoing, Request, Verb};

/// Asks one look-up.
pub struct LookupAsker {
    /// What is looked up.
    pub plan: Arc<EnrichPlan>,
    /// The events' schema.
    pub schema: Arc<Schema>,
}

impl Asker for LookupAsker {
    fn ask(&mut self, change: &Change, out: &mut Outgoing) {
        let LookupAsker { plan, schema } = self;
        let ask = match change.verb {
            Verb::Insert if change.ticket != NO_TICKET => Ask::Insert,
            Verb::Read if plan.live && change.ticket != NO_TICKET => Ask::Read,
            Verb::Remove if plan.live && schema.is_scored(change.event.kind) => Ask::Remove,
            _ => return,
        };
        let Some(key) = plan.key_of(&change.event, schema) else { return };
        let request = Request {
            ask,
            scored: true,
            cause: change.cause,
            ticket: change.ticket,
            key,
            time: change.event.time,
            id: change.event.id,
            mask: 0,
            known_at: i64::MAX,
            columns: &[],
        };
        match plan.key {
            KeyOf::Address(_) => out.push_to(out.here(), 0, &request),
            _ => out.push(0, &request),
        }
    }
}
