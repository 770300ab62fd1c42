//! The text cases in `tests/cases`: what a late event, a correction, a withdrawal or a label changes.

use std::path::Path;

use deltawatch::testkit::cases::{check, run};
use deltawatch::views::velocity::{Filter, Measure, Velocity, Window};

use crate::flows;

/// A few fields of each kind that a case needs.
pub const TINY: &str = r#"
name = "tiny"
kinds = ["payment", "label"]
[[field]]
name = "id"
type = "text"
role = "id"
[[field]]
name = "time"
type = "time"
role = "time"
[[field]]
name = "kind"
type = "text"
role = "kind"
[[field]]
name = "op"
type = "text"
role = "op"
[[field]]
name = "card"
type = "text"
role = "entity"
[[field]]
name = "shop"
type = "text"
role = "entity"
[[field]]
name = "amount"
type = "int"
role = "amount"
[[field]]
name = "target"
type = "text"
role = "label_target"
[[field]]
name = "fraud"
type = "bool"
role = "label_value"
"#;

fn pack() -> Vec<Velocity> {
    let card = Velocity::of("card", &["card"]).over(&[Window::Millis(1_000)]).count().sum("amount");
    let shop = Velocity::of("shop", &["shop"]).over(&[Window::Millis(5_000)]).as_known();
    vec![card, shop.only("labelled", Filter::Labelled).measure(Measure::Ratio(Filter::Label(true)))]
}

fn case(name: &str) {
    let (dataflow, setup) = flows::flow("tiny", TINY, pack);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    check(&path, dataflow, &setup).unwrap_or_else(|says| panic!("{says}"));
}

macro_rules! cases {
    ($($name:ident,)+) => {
        $(#[test] fn $name() { case(concat!(stringify!($name), ".txt")); })+

        #[test]
        fn every_case_is_run() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
            let files = std::fs::read_dir(folder).expect("the folder of cases").count();
            assert_eq!(files, [$(stringify!($name)),+].len(), "add the file to the list");
        }
    };
}

cases! {
    late_event,
    correction,
    withdrawal,
    label_known_later,
    window_edge,
    equal_times,
    duplicate,
    withdrawal_first,
    too_late,
}

#[test]
fn a_wrong_table_is_shown() {
    let (dataflow, setup) = flows::flow("tiny", TINY, pack);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let head = "input\n{\"id\":\"a\",\"time\":1,\"card\":\"x\",\"amount\":5}\n";
    let right = run(head, dataflow.clone(), &setup).expect("it runs");
    std::fs::write(file.path(), format!("{head}output\n{}", right.replace("arrival", "label"))).expect("written");
    let says = check(file.path(), dataflow, &setup).expect_err("it differs");
    assert!(says.contains("- 0 ") && says.contains("+ 0 "), "{says}");
}
