//! The owner of all links: events in their order in, columns of the transactions among them out.
//!
//! For each event: time moves on to it, and what has died by then goes; what the columns compare with is read; its links
//! come (or go, if it is withdrawn); the columns are read; it is counted in payments and tallies.

use std::sync::Arc;

use super::columns::{Before, ColumnReader, Frauds, Ledger, Member, Payments, SPANS_MS, ValueFacts};
use super::links::{ACCOUNT, Calendar, LinkedValue, Links};
use super::request::{EntityAsk, EntityRequest};
use super::spec::{ClusterMeasure, IdentityPlan};
use crate::event::Key;
use crate::flow::NO_TICKET;

/// How long a member counts as growth, milliseconds.
pub(super) const FRESH_MS: i64 = 86_400_000;

/// A value as it was when something was noted of it.
pub(super) type Then = (u32, u32);

/// State of all clusters.
#[derive(Debug)]
pub struct ClusterView<P: Member> {
    plan: Arc<IdentityPlan>,
    pub(super) links: Links<P>,
    pub(super) frauds: Frauds,
    pub(super) ledger: Ledger,
    /// Payments that leave a span of time.
    pub(super) leaving: Vec<Calendar<(Then, Payments)>>,
    /// Members that are no longer fresh.
    pub(super) ageing: Calendar<Then>,
    reader: ColumnReader,
    pub(super) uses_labels: bool,
    uses_payments: bool,
    pub(super) uses_growth: bool,
    pub(super) uses_tallies: bool,
}

impl<P: Member> ClusterView<P> {
    /// No links yet.
    pub fn new(plan: Arc<IdentityPlan>) -> Self {
        let growth = |(measure, _): &(ClusterMeasure, u8)| *measure == ClusterMeasure::Growth;
        ClusterView {
            links: Links::new(plan.rules.clone()),
            frauds: Frauds::default(),
            ledger: Ledger::new(&plan.tallies),
            leaving: SPANS_MS.iter().map(|&span| Calendar::new(span)).collect(),
            ageing: Calendar::new(FRESH_MS),
            reader: ColumnReader::new(&plan),
            uses_labels: plan.uses_labels(),
            uses_payments: plan.uses_payments(),
            uses_growth: plan.columns.iter().any(growth),
            uses_tallies: plan.uses_tallies(),
            plan,
        }
    }

    /// The links.
    pub fn links(&self) -> &Links<P> {
        &self.links
    }

    /// The same, to change.
    pub fn links_mut(&mut self) -> &mut Links<P> {
        &mut self.links
    }

    /// What the tallies count, by account.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Moves time on. What dies or leaves a window by then goes, at most so many; false if there is more: then this is to be
    /// called again before anything else.
    pub fn advance(&mut self, to_ms: i64, steps_max: &mut usize) -> bool {
        if !self.links.advance(to_ms, steps_max) {
            return false;
        }
        let now_ms = self.links.now_ms();
        for (span, calendar) in self.leaving.iter_mut().enumerate() {
            while *steps_max > 0 {
                let Some((_, (then, payments))) = calendar.take(now_ms.saturating_sub(SPANS_MS[span])) else { break };
                *steps_max -= 1;
                change(&mut self.links, then, |facts| facts.recent[span].add(payments.negated()));
            }
        }
        while *steps_max > 0 {
            let Some((_, then)) = self.ageing.take(now_ms.saturating_sub(FRESH_MS)) else { break };
            *steps_max -= 1;
            change(&mut self.links, then, |facts| facts.fresh = 0);
        }
        if self.uses_labels {
            let mut accounts = Vec::new();
            self.frauds.advance(now_ms, steps_max, |account| accounts.push(account));
            accounts.into_iter().for_each(|account| self.refresh(account));
        }
        if self.uses_tallies {
            let mut accounts = Vec::new();
            self.ledger.advance(now_ms, steps_max, |account| accounts.push(account));
            accounts.into_iter().for_each(|account| self.tell(account));
        }
        *steps_max > 0
    }

    /// Events before a time cannot be withdrawn any more.
    pub fn settle(&mut self, before_ms: i64) {
        self.links.settle(before_ms);
    }

    /// Brings what events need nearer.
    pub fn look_ahead<'a>(&self, requests: impl Iterator<Item = &'a EntityRequest>) {
        self.links.look_ahead(requests.map(|request| (request.account, request.values())));
    }

    /// Takes in one event, after [`ClusterView::advance`] to its time. `answer` gives the row of a ticket.
    pub fn apply<'a>(&mut self, request: &EntityRequest, answer: impl FnOnce() -> &'a mut [f64]) {
        if self.uses_labels {
            let known_at_ms = if request.ask == EntityAsk::Remove { i64::MAX } else { request.fraud_at_ms };
            let mut accounts = Vec::new();
            let now_ms = self.links.now_ms();
            self.frauds.set(request.id, request.account, known_at_ms, now_ms, |account| accounts.push(account));
            accounts.into_iter().for_each(|account| self.refresh(account));
        }
        match request.ask {
            EntityAsk::Label => {}
            EntityAsk::Remove => {
                self.pay(request, true);
                self.tally(request, true);
                for &(kind, key) in request.values() {
                    self.links.unsee(request.account, kind, key, request.time_ms);
                }
            }
            EntityAsk::Insert => {
                let wanted = request.ticket != NO_TICKET;
                let mut before = if wanted { self.reader.before(&self.links, request) } else { Before::default() };
                let account = self.links.see(request.account, request.values(), request.time_ms);
                self.welcome(request);
                if account.is_none() {
                    before.tallies = self.ledger.of(request.account);
                }
                if wanted {
                    self.reader.read(&mut self.links, &self.plan, request, account, before, answer());
                }
                self.pay(request, false);
                self.tally(request, false);
            }
        }
    }

    /// Notes what is known of the values that have come with an event.
    fn welcome(&mut self, request: &EntityRequest) {
        let fresh_ms = self.links.now_ms().saturating_sub(FRESH_MS);
        for at in 0..self.links.arrived().len() {
            let value = self.links.arrived()[at];
            let LinkedValue { kind, generation, .. } = *self.links.values().get(value);
            if kind == ACCOUNT && self.uses_labels {
                self.refresh(request.account);
            }
            if kind == ACCOUNT && self.uses_tallies {
                self.tell(request.account);
            }
            if self.uses_growth && request.time_ms > fresh_ms {
                let facts = ValueFacts { fresh: 1, ..self.links.facts(value) };
                self.links.set_facts(value, &facts);
                self.ageing.put(request.time_ms, (value, generation));
            }
        }
    }

    /// Brings what a vertex says of its known frauds up to date.
    fn refresh(&mut self, account: Key) {
        let Some(number) = self.links.find_value(ACCOUNT, account) else { return };
        let (frauds, last_ms) = self.frauds.of(account).unwrap_or((0, 0));
        let facts = self.links.facts(number);
        if (facts.frauds, facts.fraud_last_ms) != (frauds, last_ms) {
            self.links.set_facts(number, &ValueFacts { frauds, fraud_last_ms: last_ms, ..facts });
        }
    }

    /// Brings what a vertex says of its tallies up to date.
    fn tell(&mut self, account: Key) {
        let Some(number) = self.links.find_value(ACCOUNT, account) else { return };
        self.links.set_tallies(number, &self.ledger.of(account));
    }

    /// Counts an event in tallies, or takes it back.
    fn tally(&mut self, request: &EntityRequest, back: bool) {
        if request.counted != 0 && self.ledger.count(request, back, self.links.now_ms()) {
            self.tell(request.account);
        }
    }

    /// Counts a payment, or takes it back. It counts from the moment that its account was first seen with a live link.
    fn pay(&mut self, request: &EntityRequest, back: bool) {
        if !self.uses_payments || !request.scored {
            return;
        }
        let Some(account) = self.links.find_value(ACCOUNT, request.account) else { return };
        let mut facts = self.links.facts(account);
        if request.time_ms < facts.first_seen_ms {
            return;
        }
        let payment = Payments::new(1, request.amount);
        let payment = if back { payment.negated() } else { payment };
        facts.payments.add(payment);
        let then = (account, self.links.values().get(account).generation);
        for (span, calendar) in self.leaving.iter_mut().enumerate() {
            if request.time_ms > self.links.now_ms().saturating_sub(SPANS_MS[span]) {
                facts.recent[span].add(payment);
                calendar.put(request.time_ms, (then, payment));
            }
        }
        self.links.set_facts(account, &facts);
    }
}

/// Changes what is known of a value, if it is still the same one.
fn change<P: Member>(links: &mut Links<P>, (number, generation): Then, change: impl FnOnce(&mut ValueFacts)) {
    if links.values().is(number, generation) {
        let mut facts = links.facts(number);
        change(&mut facts);
        links.set_facts(number, &facts);
    }
}
