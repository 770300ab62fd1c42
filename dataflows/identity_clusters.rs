//! How many accounts hang together by the devices, ips and cards they used?
//!
//! Emits one column per transaction (`--features`), `cluster_accounts`: the accounts in the component of its account right
//! after it. A transaction links its account with its device, its ip and its card. A link lives for 30 days after it was
//! last seen; a device, ip or card with more than 50 live accounts links none as long as that is so. This is workload W3.
//!
//! ```text
//! deltawatch replay --dataflow identity_clusters --input transactions.csv.gz --features clusters.csv
//! ```
//!
//! The input has the columns `tx_id,ts,account,device,ip,card`, with `ts` in seconds.

use deltawatch::dataflow::prelude::*;

/// The dataflow.
pub struct IdentityClusters;

impl Dataflow for IdentityClusters {
    fn name(&self) -> &'static str {
        "identity_clusters"
    }

    fn about(&self) -> &'static str {
        "How many accounts hang together by the devices, ips and cards they used? One column, no model."
    }

    fn schema(&self) -> &'static str {
        include_str!("identity_clusters.toml")
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter { key: "days", about: "a link lives so many days after it was last seen", default: "30" },
            Parameter { key: "cap", about: "a value with more live accounts links none", default: "50" },
        ]
    }

    fn features(&self, setup: &Setup) -> Result<FeatureSet, BuildError> {
        let (days, cap) = (Window::days(setup.parameters.parsed("days")?), setup.parameters.parsed("cap")?);
        let linked = |identity: Identity, field| identity.strong(field, cap).expires(days);
        let identity = ["device", "ip", "card"].into_iter().fold(Identity::of("account"), linked);
        Ok(FeatureSet::new().family(identity.column(ClusterMeasure::Accounts)))
    }
}
