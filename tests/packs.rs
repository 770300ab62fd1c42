//! The feature packs of the shipped dataflows, resolved against their schemas.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};

use deltawatch::event::Schema;
use deltawatch::views::velocity::{KeyPlan, PlannedMeasure, Velocity};

#[path = "../dataflows/handbook_pack.rs"]
pub mod handbook;
#[path = "../dataflows/payments_pack.rs"]
pub mod payments;
#[path = "../dataflows/spend_profile_pack.rs"]
pub mod spend_profile;

/// Plans of a pack; panics with the resolver's words if a feature does not fit, or if two share a name.
fn plans(pack: Vec<Velocity>, schema: &str) -> Vec<KeyPlan> {
    let schema = Schema::parse("schema", schema).expect("a valid schema");
    let plans: Vec<KeyPlan> =
        pack.iter().map(|velocity| KeyPlan::resolve(velocity, &schema).expect("resolves")).collect();
    let names: Vec<&String> = plans.iter().flat_map(|plan| &plan.features).map(|feature| &feature.name).collect();
    let mut unique = BTreeSet::new();
    for name in &names {
        assert!(unique.insert(*name), "two features are called {name}");
    }
    plans
}

fn names(plans: &[KeyPlan]) -> BTreeSet<&str> {
    plans.iter().flat_map(|plan| &plan.features).map(|feature| feature.name.as_str()).collect()
}

#[test]
fn payments_has_what_is_promised() {
    const DAY_MS: i64 = 86_400_000;
    let plans = plans(payments::pack(), include_str!("../dataflows/payments.toml"));
    let names = names(&plans);
    let pairs = plans.iter().filter(|plan| plan.fields.len() == 2).count();
    println!("{} features, {} keys, {pairs} pairs", names.len(), plans.len() - pairs);
    assert!(names.len() >= 240 && plans.len() - pairs >= 6 && pairs >= 3);
    for name in ["card_count_24h_declined", "device_distinct_card_7d", "card_amount_p95_7d", "card_merchant_is_new_all"]
    {
        assert!(names.contains(name), "{name} is missing");
    }
    let measure = |feature: &deltawatch::views::velocity::PlannedFeature| discriminant(&feature.measure);
    let used: Vec<Discriminant<PlannedMeasure>> =
        plans.iter().flat_map(|plan| &plan.features).map(measure).fold(Vec::new(), |mut used, one| {
            if !used.contains(&one) {
                used.push(one);
            }
            used
        });
    assert_eq!(used.len(), 25, "a family of the catalogue is not used");
    for plan in &plans {
        let hot = ["ip", "merchant", "bin"].contains(&plan.name.as_str());
        assert_eq!(hot, plan.revise_ms < 3_600_000, "{}", plan.name);
        for feature in &plan.features {
            use PlannedMeasure as P;
            let whole = matches!(feature.measure, P::Entropy(_) | P::TopShare(_) | P::Quantile(..) | P::PercentRank(_));
            let window_ms = feature.window_ms.unwrap_or(i64::MAX);
            let labels = feature.as_known || feature.lag_ms > 0;
            assert!(!hot || labels || window_ms <= 7 * DAY_MS, "{} is too long for a hot key", feature.name);
            assert!(!whole || (window_ms <= 7 * DAY_MS && !hot), "{} looks at too much", feature.name);
        }
    }
}

#[test]
fn handbook_has_the_published_names() {
    let plans = plans(handbook::pack(), include_str!("../dataflows/handbook.toml"));
    let mut wanted = BTreeSet::new();
    for days in [1, 7, 30] {
        for what in ["CUSTOMER_ID_NB_TX", "CUSTOMER_ID_AVG_AMOUNT", "TERMINAL_ID_NB_TX", "TERMINAL_ID_RISK"] {
            wanted.insert(format!("{what}_{days}DAY_WINDOW"));
        }
    }
    assert_eq!(names(&plans), wanted.iter().map(String::as_str).collect());
    for feature in plans.iter().flat_map(|plan| &plan.features) {
        let customer = feature.name.starts_with("CUSTOMER");
        assert_eq!(feature.include_current, customer);
        assert_eq!(feature.lag_ms, if customer { 0 } else { 7 * 86_400_000 });
        let mean = matches!(feature.measure, PlannedMeasure::Mean(_));
        assert_eq!(feature.unit, if mean { 100.0 } else { 1.0 }, "{}", feature.name);
    }
}

#[test]
fn spend_profile_has_72_features_of_three_keys() {
    let plans = plans(spend_profile::pack(), include_str!("../dataflows/spend_profile.toml"));
    let names = names(&plans);
    assert_eq!((plans.len(), names.len()), (3, 72));
    for name in
        ["customer_count_1h", "terminal_amount_mean_7d", "customer_terminal_amount_std_30d", "customer_count_1d"]
    {
        assert!(names.contains(name), "{name} is missing");
    }
    assert!(plans.iter().flat_map(|plan| &plan.features).all(|feature| feature.include_current));
}
