//! Every planted instance of patterns 5, 7, 9 and 13 in a cluster is found by the flags of `payments`, and no hard negative.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltawatch::dataflow::{BuildError, Dataflow, Parameters, Setup};
use deltawatch::event::{Event, Schema};
use deltawatch::feature::FeatureSet;
use deltawatch::generator::instances;
use deltawatch::testkit::{Batching, Harness, Plan};

use crate::dataflows::folder::payments::clusters;
use crate::planted::dense;

/// The clusters of `payments`, and nothing else of it.
#[derive(Debug)]
struct Clusters;

impl Dataflow for Clusters {
    fn name(&self) -> &'static str {
        "clusters"
    }

    fn about(&self) -> &'static str {
        "the clusters of payments"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../dataflows/payments.toml")
    }

    fn features(&self, _: &Setup) -> Result<FeatureSet, BuildError> {
        Ok(FeatureSet::new().family(clusters()))
    }
}

fn flag_of(pattern: u8) -> &'static str {
    match pattern {
        5 => "cluster_account_farm_now",
        7 => "cluster_refund_abuse_now",
        9 => "cluster_structuring_now",
        13 => "cluster_cash_on_delivery_abuse_now",
        other => panic!("pattern {other} is not planted in clusters"),
    }
}

#[test]
fn patterns_planted_in_clusters_are_flagged_and_hard_negatives_are_not() {
    let schema = Arc::new(Schema::parse("clusters", Clusters.schema()).expect("a valid schema"));
    let records = dense(schema.clone(), 60_000);
    let planted = instances(&records);
    let events: Vec<Event> = records.into_iter().map(|record| record.event).collect();
    let setup = Setup { schema, parameters: Parameters::default() };
    let harness = Harness::new(Arc::new(Clusters), setup).workers(2).unscored();
    let rows = harness.run(&Plan::of(&events, Batching::Fixed(100))).expect("it runs").final_rows();
    let names = clusters().names();
    let mut found: BTreeMap<(u8, &str), [usize; 2]> = BTreeMap::new();
    for instance in planted.iter().filter(|instance| instance.planted.key_kind() == "cluster") {
        let (pattern, variant, positive) =
            (instance.planted.pattern(), instance.planted.variant(), instance.planted.positive());
        let column = names.iter().position(|name| name == flag_of(pattern)).expect("a column");
        let flagged: Vec<bool> =
            instance.ids.iter().filter_map(|id| rows.get(id)).map(|row| row[column] == 1.0).collect();
        // What completes it shows it; a hard negative is flagged at none of its payments.
        let hit = if positive { flagged.last() == Some(&true) } else { flagged.contains(&true) };
        assert!(!flagged.is_empty() && hit == positive, "{pattern}, {variant}: {flagged:?}");
        found.entry((pattern, variant)).or_default()[usize::from(positive)] += 1;
    }
    eprintln!("[hard negatives, planted] by variant: {found:?}");
    assert_eq!(found.len(), 20, "{found:?}");
    assert!(found.values().all(|[misses, hits]| misses + hits > 5), "too few: {found:?}");
}
