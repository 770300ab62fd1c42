//! The twelve windowed features of the Fraud Detection Handbook, under their published names.

use deltawatch::views::velocity::{Filter, Measure, Velocity, Window};

/// Window lengths of the published features, in days.
const DAYS: [i64; 3] = [1, 7, 30];
/// Days until the fraud of a terminal is known.
const DELAY: Window = Window::days(7);

/// Customer: count and mean amount, the current transaction included. Terminal: count and share of fraud, as they were
/// known seven days before; 0 when empty.
pub fn pack() -> Vec<Velocity> {
    let mut customer = Velocity::of("customer", &["CUSTOMER_ID"]).including_current();
    let mut terminal = Velocity::of("terminal", &["TERMINAL_ID"]).lagged(DELAY).or(0.0);
    for days in DAYS {
        let (name, window) = (|what: &str| format!("{what}_{days}DAY_WINDOW"), Window::days(days));
        customer = customer.named(&name("CUSTOMER_ID_NB_TX"), Measure::Count, window);
        customer = customer.named(&name("CUSTOMER_ID_AVG_AMOUNT"), Measure::Mean("TX_AMOUNT".into()), window);
        terminal = terminal.named(&name("TERMINAL_ID_NB_TX"), Measure::Count, window);
        let fraud = Measure::Ratio(Filter::is("TX_FRAUD", "1"));
        terminal = terminal.named(&name("TERMINAL_ID_RISK"), fraud, window);
    }
    vec![customer, terminal]
}
