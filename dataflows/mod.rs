//! The dataflows of this binary, one file each. `deltawatch dataflow new NAME` adds to the list.
//!
//! The list is sorted and checked in: every worker and every build must see the same dataflows in the same order.

use std::sync::Arc;

use deltawatch::dataflow::Dataflow;

mod card_testing;
mod drained_cards;
mod handbook;
mod handbook_pack;
mod hello;
mod identity_clusters;
mod merchant_risk;
pub mod payments;
mod payments_pack;
pub mod payments_quality;
mod ring_exposure;
mod spend_profile;
mod spend_profile_pack;

/// All dataflows, by name.
#[rustfmt::skip] // One a line: `dataflow new` adds to it.
pub fn all() -> Vec<Arc<dyn Dataflow>> {
    vec![
        Arc::new(card_testing::CardTesting),
        Arc::new(drained_cards::DrainedCards),
        Arc::new(handbook::Handbook),
        Arc::new(hello::Hello),
        Arc::new(identity_clusters::IdentityClusters),
        Arc::new(merchant_risk::MerchantRisk),
        Arc::new(payments::Payments),
        Arc::new(payments_quality::PaymentsQuality),
        Arc::new(ring_exposure::RingExposure),
        Arc::new(spend_profile::SpendProfile),
    ]
}
