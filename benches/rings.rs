//! Dataflows that have the features and the model of `payments` and say more, beside `payments`.

use deltawatch::dataflow::EngineSettings;

use crate::drive::{run, setup};
use crate::pack::{events, scorer};

/// Events per epoch.
const BATCH: usize = 128;

/// CPU per event of `payments` and of a dataflow on its features, microseconds.
fn beside_payments(name: &str, share: f64) -> (f64, f64) {
    let us = |name: &str| {
        let dataflow = crate::dataflow(name);
        let setup = setup(dataflow);
        let columns = dataflow.features(&setup).expect("a shipped dataflow has features").columns();
        let settings =
            EngineSettings { deployments: Some(scorer("payments", &columns).into()), ..EngineSettings::default() };
        run(dataflow, settings, events(&setup.schema, share), BATCH).us_per_event()
    };
    // In turns, so that neither has the warm memory alone.
    let turns: Vec<(f64, f64)> = (0..2).map(|_| (us("payments"), us(name))).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| turns.iter().map(of).sum::<f64>() / turns.len() as f64;
    (mean(|turn| turn.0), mean(|turn| turn.1))
}

/// What rings add to the scores, CPU per event.
pub fn rings(share: f64) {
    let (payments, exposure) = beside_payments("ring_exposure", share);
    println!(
        "ring_exposure {exposure:>7.2} us/event   payments {payments:.2}: rings add {:.2} us/event",
        exposure - payments
    );
    // The reference: clusters as a column, and nothing joined.
    crate::identity::w3(share * 0.3);
}

/// What confusion matrices, figures of rules and drift add to the scores, CPU per event.
pub fn quality(share: f64) {
    let (payments, quality) = beside_payments("payments_quality", share);
    println!(
        "payments_quality {quality:>7.2} us/event   payments {payments:.2}: quality adds {:.2} us/event",
        quality - payments
    );
}
