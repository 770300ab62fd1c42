//! What is known of a payment's merchant, card and address from elsewhere?
//!
//! Joins alone. The merchant's row is looked up as of arrival: a payment keeps what was known when it came. The list of
//! blocked cards is joined live: a card that is blocked now revises the payments of the last hour. The network of the
//! address comes from a MaxMind-format file. Emits nine feature columns per payment (`--features`) and no scores.
//!
//! ```text
//! deltawatch replay --dataflow merchant_risk --reference merchants=merchants.csv --events 10000 --features rows.csv
//! ```

use deltawatch::dataflow::prelude::*;

/// The collections: keys, fields, how often their files are looked at.
const REFERENCES: &str = include_str!("references.toml");

/// The dataflow.
pub struct MerchantRisk;

impl Dataflow for MerchantRisk {
    fn name(&self) -> &'static str {
        "merchant_risk"
    }

    fn about(&self) -> &'static str {
        "What is known of a payment's merchant, card and address from elsewhere? Joins alone, no model."
    }

    fn schema(&self) -> &'static str {
        include_str!("payments.toml")
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        let merchants = Reference::named(REFERENCES, "merchants")?;
        let blocked = Reference::named(REFERENCES, "blocked_cards")?;
        let networks = Reference::named(REFERENCES, "networks")?;
        Ok(FeatureSet::new()
            .family(
                Enrich::of("merchant", &["merchant"], merchants)
                    .number("risk")
                    .one_hot("tier", &["new", "established", "watched"])
                    .number("opened")
                    .known(),
            )
            .family(Enrich::of("card_blocked", &["card"], blocked).known().named("card_blocked").live())
            .family(Enrich::of("ip", &["ip"], networks).code("country").number("is_hosting").or(0.0)))
    }
}
