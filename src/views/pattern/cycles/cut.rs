//! Cuts changes of transfers to requests.

use std::sync::Arc;

use crate::event::{Key, Schema};
use crate::flow::{Ask, Asker, Block, Change, HEAD, Outgoing, Request, Verb};
use crate::views::pattern::compile::cycle::CyclePlan;
use crate::views::pattern::machine::evaluate::Texts;

/// Words of a request: its head, the payee, the amount.
const STRIDE: usize = HEAD + 3;

/// Asks the owner of a pattern's transfers.
pub struct CycleAsker {
    plan: Arc<CyclePlan>,
    schema: Arc<Schema>,
    texts: Texts,
}

impl CycleAsker {
    /// For a pattern.
    pub fn new(plan: Arc<CyclePlan>, schema: Arc<Schema>) -> Self {
        let texts = Texts::new(&schema);
        CycleAsker { plan, schema, texts }
    }
}

impl Asker for CycleAsker {
    fn ask(&mut self, change: &Change, out: &mut Outgoing) {
        request(change, &self.plan, &self.schema, &self.texts, out.words(0, route(&self.plan)));
    }
}

/// What the owner of a pattern's transfers is found by.
pub fn route(plan: &CyclePlan) -> u64 {
    Key::from_text(&plan.name).route()
}

/// Appends the request that a change makes, if it is of a transfer.
pub fn request(change: &Change, plan: &CyclePlan, schema: &Schema, texts: &Texts, words: &mut Vec<u64>) {
    let ask = match change.verb {
        Verb::Insert => Ask::Insert,
        Verb::Remove => Ask::Remove,
        Verb::Read => Ask::Read,
        Verb::Label | Verb::Relabel => return,
    };
    let event = &*change.event;
    let Some(transfer) = plan.transfer(event, schema, texts) else { return };
    Request {
        ask,
        scored: schema.is_scored(event.kind),
        cause: change.cause,
        ticket: change.ticket,
        key: transfer.from,
        time: event.time,
        id: event.id,
        mask: 0,
        known_at: i64::MAX,
        columns: &[transfer.to.hi, transfer.to.lo, transfer.amount as u64],
    }
    .write(words);
}

/// The requests of a block, in order.
pub fn requests(block: &Block) -> impl Iterator<Item = Request<'_>> {
    block.words.chunks_exact(STRIDE).map(Request::read)
}
