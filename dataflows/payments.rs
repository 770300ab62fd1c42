//! Which payments are fraud, seen from the card, the account, the device, the merchant and others?
//!
//! Velocity of fifteen keys (`payments_pack.rs`), the cluster of the payer's account, event patterns (`patterns.toml`), and
//! what is known from elsewhere of merchant, card and address (`references.toml`; empty until `--reference` names a source).
//!
//! Emits a score per payment. Logins, refunds, account changes and labels count in the features; they get no score.
//! The events are those of the generator: `deltawatch run` starts this dataflow on it.

use deltawatch::dataflow::prelude::*;

use super::payments_pack::pack;

/// The collections: keys, fields, how often their files are looked at.
const REFERENCES: &str = include_str!("references.toml");

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Transfers of this and more are reported.
const LIMIT_CENTS: i64 = 1_000_000;

/// The dataflow.
pub struct Payments;

impl Dataflow for Payments {
    fn name(&self) -> &'static str {
        "payments"
    }

    fn about(&self) -> &'static str {
        "Which payments are fraud? Velocity of card, account, device and others, clusters, event patterns, joins."
    }

    fn schema(&self) -> &'static str {
        include_str!("payments.toml")
    }

    fn model(&self) -> Option<&'static str> {
        Some("payments")
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        let flag = |slot: Slot| move |event: &Event| event.int(slot).map_or(f64::NAN, |value| value as f64);
        let amount = setup.slot("amount")?;
        let unit = setup.unit(amount);
        let (country, card_country) = (setup.slot("country")?, setup.slot("card_country")?);
        let channel = setup.slot("channel")?;
        let is_channel = |name: &'static str| move |event: &Event| yes(event.text(channel) == Some(name));
        Ok(FeatureSet::new()
            .own("amount", move |event| event.int(amount).map_or(f64::NAN, |amount| amount as f64 / unit))
            .own("hour", |event| (event.time.rem_euclid(DAY_MS) / HOUR_MS) as f64)
            // 0 is Monday. The first of January 1970 was a Thursday.
            .own("weekday", |event| (event.time.div_euclid(DAY_MS) + 3).rem_euclid(7) as f64)
            .own("recurring", flag(setup.slot("recurring")?))
            .own("cross_border", flag(setup.slot("cross_border")?))
            .own("country_differs", move |event| match (event.text(country), event.text(card_country)) {
                (Some(country), Some(card_country)) => yes(country != card_country),
                _ => f64::NAN,
            })
            .own("channel_online", is_channel("online"))
            .own("channel_transfer", is_channel("transfer"))
            .own("channel_wallet", is_channel("wallet"))
            .velocities(pack())
            .family(clusters())
            .family(Patterns::parse(include_str!("patterns.toml")).map_err(|error| BuildError(error.to_string()))?)
            .family(
                Enrich::of("merchant", &["merchant"], Reference::named(REFERENCES, "merchants")?)
                    .number("risk")
                    .known(),
            )
            .family(
                Enrich::of("card", &["card"], Reference::named(REFERENCES, "blocked_cards")?)
                    .known()
                    .named("card_blocked")
                    .live(),
            )
            .family(
                Enrich::of("ip", &["ip"], Reference::named(REFERENCES, "networks")?)
                    .code("country")
                    .number("is_hosting"),
            ))
    }
}

/// Accounts that share what few should share. Devices and cards are strong: they make clusters of their own, too.
pub fn clusters() -> Identity {
    use ClusterMeasure as C;
    let named = |name: &str| name.to_owned();
    let payment = |field: &str, value: &str| Filter::kind("payment").and(Filter::is(field, value));
    let at_least = |cents| Filter::AtLeast("amount".into(), cents);
    let below_limit = payment("channel", "transfer").and(at_least(LIMIT_CENTS / 10 * 8));
    let below_limit = below_limit.and(Filter::Not(Box::new(at_least(LIMIT_CENTS))));
    let columns = [
        C::Size,
        C::Accounts,
        C::Members(named("device")),
        C::Members(named("card")),
        C::StrongSize,
        C::StrongAccounts,
        C::SizeBefore,
        C::MergesTwo,
        C::Age,
        C::Growth,
        C::Density,
        C::HubShare,
        C::Degree(named("device")),
        C::Degree(named("card")),
        C::Degree(named("ip")),
        C::AccountDegree(named("device")),
        C::AccountDegree(named("card")),
        C::Frauds,
        C::FraudAccounts,
        C::FraudRateSmoothed,
        C::SinceFraud,
        C::FraudAccountsAt(1),
        C::FraudAccountsAt(2),
        C::Count(Window::days(1)),
        C::Sum(Window::days(1)),
        C::Count(Window::days(7)),
        C::Sum(Window::days(7)),
        C::TallyCount(named("created")),
        C::TallyCount(named("declined")),
        C::TallyCount(named("refunded")),
        C::TallySum(named("refunded")),
        C::TallyCount(named("below_limit")),
        C::TallySum(named("below_limit")),
        C::TallyCount(named("returned")),
    ];
    let identity = Identity::of("account")
        .strong("device", 50)
        .strong("card", 20)
        .strong("email", 20)
        .strong("phone", 20)
        .weak("ip", 20)
        .weak("address", 20)
        .tally("created", Filter::kind("account_created"), Window::hours(24))
        .tally("declined", payment("outcome", "declined"), Window::hours(24))
        .tally("refunded", Filter::kind("refund"), Window::days(30))
        .tally("paid", payment("outcome", "approved"), Window::days(30))
        .tally("below_limit", below_limit, Window::hours(72))
        .tally("returned", Filter::kind("order_returned").and(Filter::is("cash_on_delivery", "true")), Window::days(60))
        // Patterns 5, 7, 9 and 13 of `patterns.toml`, with its limits, over all accounts of the cluster.
        .flag(Flag::named("account_farm").count("created", 3))
        .flag(Flag::named("refund_abuse").count("refunded", 4).share("refunded", "paid", 500))
        .flag(Flag::named("structuring").count("below_limit", 3).sum("below_limit", 2 * LIMIT_CENTS))
        // Only payments have rows: the new order shows when it is paid for.
        .flag(Flag::named("cash_on_delivery_abuse").count("returned", 2).when(Filter::Has("order".into())));
    columns.into_iter().fold(identity, Identity::column)
}

fn yes(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
