//! The handbook features against their published values, through the binary as a user runs it.
//!
//! The golden subsets hold whole customers and whole terminals, so the customer columns of the one and the terminal
//! columns of the other must be equal on every row.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

const START_S: i64 = 1_522_540_800; // 2018-04-01T00:00:00Z

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/handbook").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there; the handbook features are not checked", path.display());
        return None;
    }
    Some(path)
}

/// A table: column places and rows.
struct Table {
    columns: HashMap<String, usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(from: impl std::io::Read) -> Self {
        let mut lines = BufReader::new(from).lines().map(|line| line.expect("the table is text"));
        let split = |line: String| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let header = split(lines.next().expect("the table has a header"));
        let columns = header.into_iter().enumerate().map(|(place, name)| (name, place)).collect();
        Table { columns, rows: lines.map(split).collect() }
    }

    fn golden(path: &Path) -> Self {
        Self::read(GzDecoder::new(std::fs::File::open(path).expect("the golden table opens")))
    }

    fn of<'a>(&self, row: &'a [String], column: &str) -> &'a str {
        &row[self.columns[column]]
    }
}

/// Writes a golden subset as the transactions file that the dataflow reads.
fn transactions(golden: &Table, path: &Path) {
    let mut file = std::fs::File::create(path).expect("the input file is created");
    writeln!(file, "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD").expect("it is written");
    let mut rows: Vec<_> = golden.rows.iter().collect();
    rows.sort_by_key(|row| golden.of(row, "TRANSACTION_ID").parse::<u64>().expect("ids are integers"));
    for row in rows {
        let of = |column| golden.of(row, column);
        let seconds = START_S + of("TX_TIME_SECONDS").parse::<i64>().expect("seconds are integers");
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(day);
        let time = format!("{date} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        let rest = [of("CUSTOMER_ID"), of("TERMINAL_ID"), of("TX_AMOUNT"), of("TX_FRAUD")].join(",");
        writeln!(file, "{},{time},{rest}", of("TRANSACTION_ID")).expect("it is written");
    }
}

fn replay(input: &Path, features: &Path, extra: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_deltawatch"))
        .args(["replay", "--dataflow", "handbook", "--output", "/dev/null", "--overwrite", "--input"])
        .arg(input)
        .arg("--features")
        .arg(features)
        .args(extra)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Compares the columns of a prefix; counts and risks exactly, means to 1e-9. Returns the rows that differ, per column.
fn differing(golden: &Table, computed: &Table, prefix: &str) -> HashMap<String, usize> {
    let by_id: HashMap<&str, &Vec<String>> =
        computed.rows.iter().map(|row| (computed.of(row, "TRANSACTION_ID"), row)).collect();
    assert_eq!(by_id.len(), golden.rows.len(), "every transaction has one row");
    let mut differing = HashMap::new();
    for column in golden.columns.keys().filter(|column| column.starts_with(prefix) && column.ends_with("WINDOW")) {
        let tolerance = if column.contains("AVG") { 1e-9 } else { 0.0 };
        let wrong = |row: &&Vec<String>| {
            let number = |text: &str| text.parse::<f64>().expect("features are numbers");
            let computed_row = by_id[golden.of(row, "TRANSACTION_ID")];
            (number(golden.of(row, column)) - number(computed.of(computed_row, column))).abs() > tolerance
        };
        differing.insert(column.clone(), golden.rows.iter().filter(wrong).count());
    }
    assert_eq!(differing.len(), 6, "six published columns begin with {prefix}");
    differing
}

#[test]
fn golden_subsets_are_equal_on_every_row() {
    let (Some(ties), directory) = (data("tie_order.csv"), tempfile::tempdir().expect("a temporary directory")) else {
        return;
    };
    let ties = format!("handbook.tie_order={}", ties.display());
    for (name, prefix) in [("customers.csv.gz", "CUSTOMER_ID"), ("terminals.csv.gz", "TERMINAL_ID")] {
        let Some(path) = data(name) else { return };
        let golden = Table::golden(&path);
        let input = directory.path().join("transactions.csv");
        transactions(&golden, &input);
        let mut files = Vec::new();
        for workers in ["1", "2", "4"] {
            let features = directory.path().join(format!("features-{workers}.csv"));
            replay(&input, &features, &["--set", &ties, "--workers", workers]);
            files.push(std::fs::read(&features).expect("the features are there"));
        }
        assert!(files[0] == files[1] && files[1] == files[2], "{name}: the feature file depends on the workers");
        let computed = Table::read(&files[0][..]);
        for (column, rows) in differing(&golden, &computed, prefix) {
            assert_eq!(rows, 0, "{name}: {rows} rows of {column} differ");
        }
    }
}
