//! The shipped dataflow of joins.

use std::sync::Arc;

use deltawatch::dataflow::{Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::testkit::cases;

use crate::dataflows::folder;

const INPUT: &str = r#"input
@merchants {"merchant":"m-1","risk":0.875,"tier":"watched","opened":"2024-01-01T00:00:00Z"}
@merchants {"merchant":"m-2","tier":"established"}
{"id":"t-1","time":1711965600000,"card":"c-1","account":"a","merchant":"m-1","amount":10,"currency":"EUR"}
{"id":"t-2","time":1711965601000,"card":"c-2","account":"a","merchant":"m-2","amount":10,"currency":"EUR"}
{"id":"t-3","time":1711965602000,"card":"c-1","account":"a","merchant":"m-3","amount":10,"currency":"EUR"}

@merchants - {"merchant":"m-1"}
@blocked_cards {"card":"c-1"}
{"id":"t-4","time":1711965603000,"card":"c-1","account":"a","merchant":"m-1","amount":10,"currency":"EUR"}

@blocked_cards - {"card":"c-1"}
"#;

const OUTPUT: &str = "\
epoch diff id cause merchant_risk merchant_tier_new merchant_tier_established merchant_tier_watched merchant_opened merchant_known card_blocked ip_country ip_is_hosting
0 +1 t-1 arrival 0.875 0 0 1 1704067200000 1 0 - 0
0 +1 t-2 arrival 0.5 0 1 0 - 1 0 - 0
0 +1 t-3 arrival 0.5 0 0 0 - 0 0 - 0
1 +1 t-4 arrival 0.5 0 0 0 - 0 1 - 0
1 -1 t-1 reference 0.875 0 0 1 1704067200000 1 0 - 0
1 +1 t-1 reference 0.875 0 0 1 1704067200000 1 1 - 0
1 -1 t-3 reference 0.5 0 0 0 - 0 0 - 0
1 +1 t-3 reference 0.5 0 0 0 - 0 1 - 0
2 -1 t-1 reference 0.875 0 0 1 1704067200000 1 1 - 0
2 +1 t-1 reference 0.875 0 0 1 1704067200000 1 0 - 0
2 -1 t-3 reference 0.5 0 0 0 - 0 1 - 0
2 +1 t-3 reference 0.5 0 0 0 - 0 0 - 0
2 -1 t-4 reference 0.5 0 0 0 - 0 1 - 0
2 +1 t-4 reference 0.5 0 0 0 - 0 0 - 0
";

/// A merchant's row is kept as it was; a blocked card reaches back. A revised row keeps what it looked up on arrival.
#[test]
fn merchant_risk() {
    let dataflow = folder::all().into_iter().find(|dataflow| dataflow.name() == "merchant_risk").unwrap();
    let schema = Arc::new(Schema::parse("payments", dataflow.schema()).unwrap());
    let got = cases::run(INPUT, dataflow, &Setup { schema, parameters: Parameters::default() }).unwrap();
    let squeezed: String =
        got.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect();
    assert_eq!(squeezed, OUTPUT, "\n{got}");
}
