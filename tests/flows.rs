//! Dataflows for tests: the packs as they are shipped, and tiny ones.

use std::sync::Arc;

use deltawatch::dataflow::{BuildError, Dataflow, Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::feature::FeatureSet;
use deltawatch::views::velocity::Velocity;

use crate::packs::{handbook, payments as payments_pack};

/// A dataflow that assembles features and scores them.
struct Flow {
    name: &'static str,
    schema: &'static str,
    features: FeatureSet,
}

impl Dataflow for Flow {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        "a dataflow of the tests"
    }

    fn schema(&self) -> &'static str {
        self.schema
    }

    fn features(&self, _: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(self.features.clone())
    }
}

/// A schema as a set-up.
pub fn setup(schema: &'static str) -> Setup {
    let schema = Schema::parse("test", schema).expect("the schema of a test is valid");
    Setup { schema: Arc::new(schema), parameters: Parameters::default() }
}

/// A dataflow of these features alone.
pub fn of(name: &'static str, schema: &'static str, features: FeatureSet) -> (Arc<dyn Dataflow>, Setup) {
    (Arc::new(Flow { name, schema, features }), setup(schema))
}

/// A dataflow with the schema, the pack, and the amount if there is one.
pub fn flow(name: &'static str, schema: &'static str, pack: fn() -> Vec<Velocity>) -> (Arc<dyn Dataflow>, Setup) {
    let amount = ["amount", "TX_AMOUNT"].iter().find_map(|name| setup(schema).schema.slot(name));
    let set = FeatureSet::new().velocities(pack());
    let set = match amount {
        Some(slot) => set.own("own_amount", move |event| event.int(slot).map_or(f64::NAN, |cents| cents as f64)),
        None => set,
    };
    of(name, schema, set)
}

/// The shipped pack for payments.
pub fn payments() -> (Arc<dyn Dataflow>, Setup) {
    flow("payments", include_str!("../dataflows/payments.toml"), payments_pack::pack)
}

/// The shipped pack for the handbook's transactions.
pub fn handbook() -> (Arc<dyn Dataflow>, Setup) {
    flow("handbook", include_str!("../dataflows/handbook.toml"), handbook::pack)
}
