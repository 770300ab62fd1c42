//! Which card transactions of the Fraud Detection Handbook are fraud?
//!
//! Emits a score per transaction out of the 14 published features, under their published names: two of the time of day,
//! six of the customer, six of the terminal. Two transactions of a customer in the same second are in the order of their
//! ids; `--set handbook.tie_order=FILE` names a CSV file with the pairs that the publisher ordered otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use deltawatch::dataflow::prelude::*;

use super::handbook_pack::pack;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The first hour of the day that is not night.
const MORNING: i64 = 6;

/// The dataflow.
pub struct Handbook;

impl Dataflow for Handbook {
    fn name(&self) -> &'static str {
        "handbook"
    }

    fn about(&self) -> &'static str {
        "Which card transactions of the Fraud Detection Handbook are fraud? Its 14 features, as published."
    }

    fn schema(&self) -> &'static str {
        include_str!("handbook.toml")
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            key: "tie_order",
            about: "CSV file with FIRST_TRANSACTION_ID and SECOND_TRANSACTION_ID: pairs in the same second, in their order",
            default: "",
        }]
    }

    fn model(&self) -> Option<&'static str> {
        Some("handbook")
    }

    fn features(&self, _setup: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new()
            .own("TX_DURING_WEEKEND", |event| f64::from(u8::from(weekday(event.time) >= 5)))
            .own("TX_DURING_NIGHT", |event| f64::from(u8::from(event.time.rem_euclid(DAY_MS) / HOUR_MS <= MORNING)))
            .velocities(pack()))
    }

    fn prepare(&self, setup: &Setup) -> Result<Option<Prepare>, BuildError> {
        let path = setup.parameters.text("tie_order");
        if path.is_empty() {
            return Ok(None);
        }
        let ranks = ranks(path).map_err(|reason| BuildError(format!("--set handbook.tie_order={path}: {reason}")))?;
        Ok(Some(Arc::new(move |event| {
            if let Some(&rank) = ranks.get(&event.id.lo) {
                event.id = Id::from_ranked(rank, event.id.lo);
            }
        })))
    }
}

/// 0 is Monday. The first of January 1970 was a Thursday.
fn weekday(time_ms: i64) -> i64 {
    (time_ms.div_euclid(DAY_MS) + 3).rem_euclid(7)
}

/// The second of each pair gets rank 1; everyone else has rank 0.
fn ranks(path: &str) -> Result<HashMap<u64, u64>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let column = header.iter().position(|name| *name == "SECOND_TRANSACTION_ID");
    let column = column.ok_or("it has no column SECOND_TRANSACTION_ID")?;
    let rank = |(index, line): (usize, &str)| {
        let id = line.split(',').nth(column).and_then(|id| id.trim().parse().ok());
        id.map(|id| (id, 1)).ok_or_else(|| format!("line {} has no SECOND_TRANSACTION_ID that is a number", index + 2))
    };
    lines.enumerate().filter(|(_, line)| !line.trim().is_empty()).map(rank).collect()
}
