//! Features with an operator of their own, beside velocity.

use std::collections::BTreeMap;

use deltawatch::event::{Event, Id, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::flow::{Block, Labelled, NO_TICKET, Verb};
use deltawatch::testkit::{Batching, Harness, Plan};
use deltawatch::views::velocity::{Velocity, Window};
use deltawatch::views::{Family, FamilyInputs, FamilyOutputs, Timing};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::flows;

const SCHEMA: &str = r#"
name = "small"
scored = ["payment"]
default_kind = "payment"
[[field]]
name = "id"
type = "int"
role = "id"
required = true
[[field]]
name = "time"
type = "time"
role = "time"
required = true
[[field]]
name = "card"
type = "int"
[[field]]
name = "amount"
type = "int"
"#;

/// A look-up whose answer depends on arrival alone: how many rows this worker has been asked for before, plus a half, and
/// that as a large number. Answers fresh rows of cards other than 9.
#[derive(Debug)]
struct Seen;

impl Family for Seen {
    fn about(&self) -> String {
        "arrivals seen before".into()
    }

    fn columns(&self) -> Vec<(String, f64)> {
        vec![("seen".into(), -1.0), ("seen_large".into(), -1.0), ("nothing".into(), -1.0)]
    }

    fn timing(&self) -> Timing {
        Timing::AsOfArrival
    }

    fn check(&self, schema: &Schema) -> Result<(), String> {
        schema.slot("card").map(drop).ok_or_else(|| "no card".into())
    }

    fn build<'scope>(&self, inputs: FamilyInputs<'scope>) -> Result<FamilyOutputs<'scope>, String> {
        let (index, mut seen) = (inputs.index, 0u32);
        let to = inputs.changes.scope().worker().index() as u32;
        let card = inputs.schema.slot("card").ok_or("no card")?;
        let slices =
            inputs.changes.unary::<CapacityContainerBuilder<Vec<Block>>, _, _, _>(Pipeline, "Seen", move |_, _| {
                move |input, output| {
                    input.for_each(|capability, changes| {
                        let fresh = changes.iter().flat_map(|changes| changes.iter()).filter(|change| {
                            change.verb == Verb::Insert
                                && change.ticket != NO_TICKET
                                && change.event.int(card) != Some(9)
                        });
                        for change in fresh {
                            let seen_before = f64::from(seen);
                            seen += 1;
                            let values = [seen_before + 0.5, seen_before + 300.0, f64::NAN].map(f64::to_bits);
                            let words = [&[u64::from(change.ticket)], &values[..]].concat();
                            output.session(&capability).give(Block { to, from: to, plan: index, words });
                        }
                    });
                }
            });
        Ok(FamilyOutputs::of(slices))
    }

    fn expected(&self, _: &Schema, _: &[Labelled]) -> BTreeMap<Id, Vec<f64>> {
        BTreeMap::new()
    }
}

fn event(id: u64, time: i64, card: i64, amount: i64) -> Event {
    let schema = flows::setup(SCHEMA).schema;
    let mut builder = deltawatch::event::EventBuilder::new(&schema);
    for (name, value) in [("id", id as i64), ("time", time), ("card", card), ("amount", amount)] {
        builder.set_int(schema.slot(name).expect("a field"), value);
    }
    let kind = schema.default_kind();
    builder.finish(Id::from_int(id), time, kind, deltawatch::event::Op::Insert, &schema)
}

/// What was looked up on arrival stays with its row while velocity is revised; a corrected event is looked up anew.
#[test]
fn what_is_looked_up_on_arrival_is_kept() {
    let arrivals = [
        event(1, 10_000, 7, 5),
        event(2, 20_000, 7, 5),
        event(9, 25_000, 9, 5),
        // Late: revises 1 and 2.
        event(3, 5_000, 7, 5),
        // Late for card 9, whose rows were never answered.
        event(10, 4_000, 9, 5),
        // A correction of 2.
        event(2, 20_000, 7, 6),
        // Late again: revises all.
        event(4, 1_000, 7, 5),
    ];
    let count = Velocity::of("card", &["card"]).over(&[Window::hours(1)]).count();
    let (dataflow, setup) = flows::of("small", SCHEMA, FeatureSet::new().velocity(count).family(Seen));
    for batching in [Batching::EachEvent, Batching::Fixed(2)] {
        let harness = Harness::new(dataflow.clone(), setup.clone()).drained();
        let outcome = harness.run(&Plan::of(&arrivals, batching)).expect("it runs");
        let rows = outcome.final_rows();
        let row =
            |id: u64| rows[&Id::from_int(id)].iter().map(|value| format!("{value}")).collect::<Vec<_>>().join(" ");
        assert_eq!(row(1), "2 0.5 300 NaN", "{batching:?}");
        assert_eq!(row(3), "1 2.5 302 NaN", "{batching:?}");
        assert_eq!(row(2), "3 3.5 303 NaN", "{batching:?}");
        assert_eq!(row(4), "0 4.5 304 NaN", "{batching:?}");
        assert_eq!(row(9), "1 -1 -1 -1", "{batching:?}");
        assert!(outcome.metrics.kept_bytes.get() > 0);
    }
}
