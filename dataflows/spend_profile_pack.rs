//! What customers, terminals and pairs of both spend: 72 features over three keys.

use deltawatch::views::velocity::{Measure, Velocity, Window};

type OfField = fn(String) -> Measure;

const WINDOWS: [(&str, Window); 4] =
    [("1h", Window::hours(1)), ("1d", Window::days(1)), ("7d", Window::days(7)), ("30d", Window::days(30))];
const KEYS: [(&str, &[&str]); 3] =
    [("customer", &["customer"]), ("terminal", &["terminal"]), ("customer_terminal", &["customer", "terminal"])];

/// Count, sum, mean, population standard deviation, min and max of the amount, the current transaction included; names
/// like `customer_count_1h` and `customer_terminal_amount_std_30d`.
pub fn pack() -> Vec<Velocity> {
    let of_amount: [(&str, OfField); 5] = [
        ("sum", Measure::Sum),
        ("mean", Measure::Mean),
        ("std", Measure::Std),
        ("min", Measure::Min),
        ("max", Measure::Max),
    ];
    let profile = |(key, fields): (&str, &[&str])| {
        WINDOWS.into_iter().fold(Velocity::of(key, fields).including_current(), |profile, (label, window)| {
            let profile = profile.named(&format!("{key}_count_{label}"), Measure::Count, window);
            of_amount.into_iter().fold(profile, |profile, (what, measure)| {
                profile.named(&format!("{key}_amount_{what}_{label}"), measure("amount".into()), window)
            })
        })
    };
    KEYS.into_iter().map(profile).collect()
}
