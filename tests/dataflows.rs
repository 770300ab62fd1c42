//! Every dataflow of the folder: in the list, and right however its events arrive.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use deltawatch::dataflow::{Parameters, Setup};
use deltawatch::event::Schema;
use deltawatch::testkit::invariance::{Options, check};
use deltawatch::testkit::random;

#[path = "../dataflows/mod.rs"]
pub mod folder;

/// Records that each dataflow is tried on.
const RECORDS: usize = 600;

#[test]
fn every_dataflow_equals_its_oracle_in_any_order() {
    for dataflow in folder::all() {
        let name = dataflow.name();
        let schema = Schema::parse(name, dataflow.schema()).expect("its schema is valid");
        let parameters = Parameters::resolve(name, &dataflow.parameters(), &[]).expect("its defaults are valid");
        let setup = Setup { schema: Arc::new(schema), parameters };
        let records = random::records(&setup.schema, 1, RECORDS);
        let options = Options { each_epoch: 60, ..Options::default() };
        let report = check(dataflow.clone(), &setup, &records, &options);
        let report = report.unwrap_or_else(|difference| panic!("{name}: {difference}"));
        assert!(report.records > RECORDS / 2, "{name}: {report}");
        eprintln!("{name}: {report}");
    }
}

#[test]
fn the_list_is_sorted_and_names_every_file_of_a_dataflow() {
    let listed: Vec<&str> = folder::all().iter().map(|dataflow| dataflow.name()).collect();
    assert!(listed.is_sorted(), "dataflows/mod.rs is out of order: {listed:?}");
    let files =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("dataflows")).expect("the folder is there");
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("the folder is readable").path();
        let stem = path.file_stem()?.to_str()?.to_owned();
        let source = path.extension()? == "rs" && stem != "mod" && !stem.ends_with("_pack");
        source.then_some(stem)
    };
    let files: BTreeSet<String> = files.filter_map(stem).collect();
    assert_eq!(files, listed.into_iter().map(str::to_owned).collect(), "dataflows/mod.rs and the folder differ");
}
