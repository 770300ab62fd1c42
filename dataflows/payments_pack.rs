//! The default pack of velocity features for payments, as a short spec.
//!
//! Cheap measures (counts, sums, distinct values, gaps) stand on every key. Those that look at the whole window
//! (quantiles, entropy, percentile rank) stand on card and account, whose windows hold few events. Merchant,
//! network and issuer are shared by many events: windows of at most seven days, and rows revised for ten minutes.
//!
//! Windows end just before the payment. Amounts are counted in cents in conditions, and come out in currency.

use deltawatch::views::velocity::{Filter, Measure, Velocity, Window};

const M5: Window = Window::minutes(5);
const H1: Window = Window::hours(1);
const D1: Window = Window::days(1);
const D7: Window = Window::days(7);
const D30: Window = Window::days(30);
const ALL: Window = Window::AllTime;

/// Velocity features of a payment over nine keys and six pairs.
#[rustfmt::skip] // A table: a line per group of features.
pub fn pack() -> Vec<Velocity> {
    let declined = || Filter::is("outcome", "declined");
    let approved = || Filter::is("outcome", "approved");
    let blocked = || Filter::is("outcome", "blocked");
    let amount = || "amount".to_owned();

    // What every payer's key has: volume, outcomes, spread, the amount against its own history.
    let payer = |key: &str| {
        Velocity::of(key, &[key])
            .over(&[M5, H1, D1, D7, D30]).count()
            .over(&[H1, D1, D7]).sum("amount")
            .over(&[D1, D7]).mean("amount").ratio(declined()).distinct("merchant")
            .over(&[D7]).std("amount").min("amount").max("amount").distinct("country").distinct("merchant_category")
            .measure(Measure::ZScore(amount())).measure(Measure::RatioToMean(amount()))
            .measure(Measure::RatioToMax(amount())).measure(Measure::Repeat(amount()))
            .measure(Measure::GapMean).measure(Measure::GapMin).measure(Measure::Burst(60_000))
            .measure(Measure::DistinctRatio("merchant".into())).measure(Measure::Ratio(Filter::Hours(0, 6)))
            .over(&[ALL]).measure(Measure::IsNew).measure(Measure::SinceFirst).measure(Measure::SinceLast)
            .over(&[H1, D1]).only("declined", declined()).count().measure(Measure::Streak(approved()))
            .over(&[D7]).only("blocked", blocked()).count()
            .over(&[D1]).only("approved", approved()).count().sum("amount")
            .all()
    };
    // Habits of one person, which look at the whole window.
    let habits = |velocity: Velocity| {
        velocity.over(&[D7]).measure(Measure::Quantile(amount(), 500)).measure(Measure::Quantile(amount(), 950))
            .measure(Measure::Entropy("merchant_category".into())).measure(Measure::TopShare("merchant".into()))
            .measure(Measure::PercentRank(amount())).measure(Measure::GapStd).distinct("ip").distinct("device")
            .measure(Measure::Ratio(Filter::MultipleOf(amount(), 1_000))).measure(Measure::IsNew)
    };
    // What a key shared by many has: volume, outcomes, spread over cards.
    let shared = |key: &str| {
        Velocity::of(key, &[key]).hot()
            .over(&[M5, H1, D1]).count().ratio(declined()).distinct("card")
            .over(&[H1, D7]).mean("amount").measure(Measure::DistinctRatio("card".into()))
            .over(&[D7]).count().sum("amount")
    };
    // What a contact has: volume and how many others use it.
    let contact = |key: &str| {
        Velocity::of(key, &[key]).over(&[D1, D7]).count().over(&[D7]).sum("amount").distinct("card")
            .distinct("account").distinct("device").over(&[ALL]).measure(Measure::SinceFirst)
    };
    // What a pair has: whether it is new, how often and how much.
    let pair = |key: &str, first: &str, second: &str| {
        Velocity::of(key, &[first, second]).over(&[D1, D30]).count()
            .over(&[D30]).mean("amount").measure(Measure::RatioToMean(amount()))
            .over(&[ALL]).measure(Measure::IsNew).measure(Measure::SinceLast)
    };
    // Share of fraud among the payments whose label was known by then.
    let risk = |velocity: Velocity| {
        velocity.all().over(&[D7, D30]).as_known().only("labelled", Filter::Labelled).ratio(Filter::Label(true))
    };
    // The same three days back, where most of it is known: cheaper, since a label changes nothing near the present.
    let risk_delayed = |velocity: Velocity| {
        velocity.all().over(&[D1, D7]).lagged(Window::days(3)).or(0.0).ratio(Filter::Label(true)).count()
    };
    let logins = || Filter::kind("login");
    let failed = || Filter::kind("login").and(declined());
    let changed = || Filter::kind("account_change");
    let refunds = || Filter::kind("refund");
    vec![
        habits(payer("card")).distinct("account").distinct("ip24"),
        risk(habits(payer("account")).distinct("card").distinct("payee")
            .over(&[H1, D7]).only("logins", logins()).count().only("failed", failed()).count()
            .over(&[D1]).only("changes", changed()).count().measure(Measure::SinceLast)
            .over(&[D30]).only("refunds", refunds()).count().sum("amount")),
        risk(payer("device").over(&[D1, D7]).distinct("card").distinct("account").distinct("email")
            .over(&[H1]).only("failed", failed()).count().distinct("account")),
        shared("ip").over(&[D1]).distinct("account").distinct("email").distinct("device")
            .over(&[H1]).only("failed", failed()).count().distinct("account"),
        risk_delayed(risk(shared("merchant")).all().over(&[D7]).std("amount").measure(Measure::RatioToMean(amount()))
            .over(&[D1, D7]).only("refunds", refunds()).count()),
        shared("bin").over(&[H1]).distinct("merchant"),
        contact("email"), contact("phone"), contact("address"),
        pair("card_merchant", "card", "merchant"), pair("account_device", "account", "device"),
        pair("device_email", "device", "email"), pair("account_payee", "account", "payee"),
        pair("card_ip", "card", "ip"), pair("account_merchant", "account", "merchant"),
    ]
}
