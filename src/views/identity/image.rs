//! The owner of all links written down, and read again: for a checkpoint, another worker, a restart.
//!
//! What is read again answers every later event as the owner would have that was written down, bit for bit, and says of
//! the same links that they begin and cease to carry. One owner writes all of it, between two epochs.
//!
//! Images are in order, so that equal states have equal images, and the image of what was read from one is that image.
//! What a cluster adds up is not in them: it follows from links, payments, frauds and tallies. Payments of one account and
//! one millisecond are one entry, and so are events of a tally.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::columns::{Frauds, FrozenLedger, Ledger, Member, Payments, SPANS_MS, TallyImage, ValueFacts, merged};
use super::links::{ACCOUNT, FrozenCalendar, FrozenLinks, Links, LinksImage};
use super::spec::IdentityPlan;
use super::view::{ClusterView, FRESH_MS, Then};
use crate::event::{Id, Key};

/// The longest of the spans, in which every payment stands that is in any.
const LONGEST: usize = SPANS_MS.len() - 1;

/// All that an owner of links holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityImage {
    /// Live links.
    pub links: LinksImage,
    /// Payments in the longest span, by time and account: its place among the values, and what it paid.
    pub payments: Vec<(i64, u32, Payments)>,
    /// Frauds, known and not yet known, by event: the account, and from when on.
    pub frauds: Vec<(Id, Key, i64)>,
    /// What counts in tallies.
    pub tallies: Vec<TallyImage>,
}

/// The tables that an image is made of, as they were.
#[derive(Debug)]
pub struct FrozenIdentity<P> {
    links: FrozenLinks<P>,
    payments: FrozenCalendar<(Then, Payments)>,
    /// In no order.
    frauds: Vec<(Id, Key, i64)>,
    ledger: FrozenLedger,
}

impl<P: Member> FrozenIdentity<P> {
    /// The image.
    pub fn image(&self) -> IdentityImage {
        let ((links, places), values) = (self.links.image(), self.links.values());
        let live = self.payments.entries().filter(|(_, ((number, then), _))| values.is(*number, *then));
        let payments = merged(live.map(|&(time_ms, ((number, _), paid))| (time_ms, places[number as usize], paid)));
        let mut frauds = self.frauds.clone();
        frauds.sort_unstable();
        IdentityImage { links, payments, frauds, tallies: self.ledger.image() }
    }
}

impl<P: Member> ClusterView<P> {
    /// All that it holds. To be called between two epochs: after [`ClusterView::advance`] has said that it is done.
    pub fn dump(&mut self) -> IdentityImage {
        self.freeze().image()
    }

    /// The same in two steps: an image can be made of what is held while the view goes on.
    pub fn freeze(&mut self) -> FrozenIdentity<P> {
        FrozenIdentity {
            links: self.links.freeze(),
            payments: self.leaving[LONGEST].freeze(),
            frauds: self.frauds.all(),
            ledger: self.ledger.freeze(),
        }
    }

    /// An owner as it was when an image was taken, for the plan it was taken with. Whoever asks for the links that carry
    /// begins with [`Links::carried`], and calls [`Links::note_changes`] as for a new owner.
    ///
    /// # Errors
    /// An image of another plan, or a damaged one, is refused with a line that says what does not fit.
    pub fn load(plan: Arc<IdentityPlan>, image: &IdentityImage) -> Result<Self, String> {
        let refused = |reason: String| format!("identity image {reason}; load it with the features it was taken with");
        let mut view = ClusterView::new(plan.clone());
        let (now_ms, values) = (image.links.now_ms, &image.links.values);
        view.ledger = Ledger::load(&plan.tallies, &image.tallies).map_err(refused)?;
        view.frauds = Frauds::load(&image.frauds, now_ms);
        let paid_by = |place: u32| values.get(place as usize).is_some_and(|(kind, _)| *kind == ACCOUNT);
        if !image.payments.iter().all(|&(_, place, _)| paid_by(place)) {
            return Err(refused("has payments of what is no account".into()));
        }
        let mut recent = vec![[Payments::default(); SPANS_MS.len()]; values.len()];
        for &(time_ms, place, paid) in &image.payments {
            spans_of(time_ms, now_ms).for_each(|span| recent[place as usize][span].add(paid));
        }
        let (links, numbers) =
            Links::load(plan.rules.clone(), &image.links, |place| view.part(&image.links, place, recent[place]))
                .map_err(refused)?;
        let then = |place: u32| (numbers[place as usize], links.values().get(numbers[place as usize]).generation);
        for &(time_ms, place, paid) in &image.payments {
            spans_of(time_ms, now_ms).for_each(|span| view.leaving[span].put(time_ms, (then(place), paid)));
        }
        let fresh = |place: &u32| links.facts(numbers[*place as usize]).fresh > 0;
        let fresh = (0..values.len() as u32).filter(fresh).map(|place| (image.links.facts[place as usize], place));
        let mut fresh: Vec<(i64, u32)> = fresh.map(|(facts, place)| (facts.first_seen_ms, place)).collect();
        fresh.sort_unstable();
        fresh.into_iter().for_each(|(time_ms, place)| view.ageing.put(time_ms, then(place)));
        view.links = links;
        Ok(view)
    }

    /// What is known of the value at a place of an image.
    fn part(&self, image: &LinksImage, place: usize, recent: [Payments; SPANS_MS.len()]) -> P {
        let (kind, key) = image.values[place];
        let mut facts = ValueFacts { kind: kind + 1, recent, ..ValueFacts::default() };
        if let Some(kept) = image.facts.get(place) {
            (facts.first_seen_ms, facts.payments) = (kept.first_seen_ms, kept.payments);
            let is_fresh = self.uses_growth && kept.first_seen_ms > image.now_ms.saturating_sub(FRESH_MS);
            facts.fresh = u8::from(is_fresh);
        }
        if kind == ACCOUNT && self.uses_labels {
            (facts.frauds, facts.fraud_last_ms) = self.frauds.of(key).unwrap_or((0, 0));
        }
        let mut part = P::of(&facts);
        if kind == ACCOUNT && self.uses_tallies {
            part.tally(&self.ledger.of(key));
        }
        part
    }
}

/// The spans that a payment is still in.
fn spans_of(time_ms: i64, now_ms: i64) -> impl Iterator<Item = usize> {
    (0..SPANS_MS.len()).filter(move |&span| time_ms > now_ms.saturating_sub(SPANS_MS[span]))
}
