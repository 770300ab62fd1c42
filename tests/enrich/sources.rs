//! Reference collections from files: at the start, in new versions, after a restart, and wrong.

use std::path::Path;
use std::sync::Arc;

use deltawatch::epoch::Pace;
use deltawatch::event::Limits;
use deltawatch::source::tables::{Reference, ReferenceSource};
use deltawatch::views::lookup::Enrich;

use super::job::{Trial, place};

const DECLARED: &str = r#"
[[reference]]
name = "shops"
key = "shop"
poll_ms = 5
field = [ { name = "shop", type = "text" }, { name = "risk", type = "float" } ]

[[reference]]
name = "cards"
key = "card"
time = "since"
field = [ { name = "card", type = "text" }, { name = "limit", type = "int" }, { name = "since", type = "time" } ]
"#;

fn shops() -> Enrich {
    Enrich::of("shop", &["shop"], Reference::named(DECLARED, "shops").unwrap()).number("risk")
}

/// Replaces a file as one should: by renaming, so that nobody reads half of it.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn event(id: &str, time: i64, shop: &str) -> String {
    format!(r#"{{"id":"{id}","time":{time},"shop":"{shop}","card":"{shop}"}}"#)
}

#[test]
fn rows_are_there_before_the_first_event() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shops.jsonl");
    let rows: String = (0..10_000).map(|row| format!("{{\"shop\":\"s{row}\",\"risk\":{row}}}\n")).collect();
    write(&path, &rows);
    for workers in [1, 2] {
        let trial = Trial::start(&[shops()], vec![place(&[shops()], "shops", &path)], Pace::Bounded, None, workers);
        (0..100).for_each(|n| trial.feed(&event(&format!("e{n}"), n, &format!("s{}", n * 100))));
        let rows = trial.end().unwrap();
        assert_eq!(rows.len(), 100);
        (0..100).for_each(|n| assert_eq!(rows[&format!("e{n}")], [[Some((n * 100) as f64)]]));
    }
}

/// In a backtest a row is visible from its own time on, whatever is read first.
#[test]
fn rows_with_a_time_are_merged_with_the_events_of_a_replay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cards.csv");
    write(&path, "card,limit,since\nx,1,100\ny,2,150\nz,3,100000\n");
    let look_up = Enrich::of("card", &["card"], Reference::named(DECLARED, "cards").unwrap()).number("limit");
    let wanted = || vec![place(std::slice::from_ref(&look_up), "cards", &path)];
    let trial = Trial::start(std::slice::from_ref(&look_up), wanted(), Pace::Bounded, None, 1);
    for n in 0..40 {
        trial.feed(&event(&format!("x{n:02}"), n * 10, "x"));
        trial.feed(&event(&format!("y{n:02}"), n * 10, "y"));
        trial.feed_to(1, &event(&format!("z{n:02}"), n * 10, "z"));
    }
    for (id, rows) in trial.end().unwrap() {
        let time = id[1..].parse::<i64>().unwrap() * 10;
        let wanted = match &id[..1] {
            "x" => (time >= 100).then_some(1.0),
            "y" => (time >= 150).then_some(2.0),
            _ => None,
        };
        assert_eq!(rows, [[wanted]], "{id}");
    }
}

#[test]
fn new_versions_come_in_bad_ones_do_not_and_a_restart_repeats_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, state) = (directory.path().join("shops.csv"), directory.path().join("state"));
    let all = [shops()];
    let start = |workers| Trial::start(&all, vec![place(&all, "shops", &path)], Pace::Live, Some(&state), workers);
    let feed = ["a", "b", "c", "d", "e", "f"]
        .map(|id| event(id, 1_000 + i64::from(id.as_bytes()[0]), if id == "c" { "t" } else { "s" }));

    write(&path, "shop,risk\ns,0.5\nt,0.25\n");
    let trial = start(1);
    trial.feed(&feed[0]);
    assert_eq!(trial.row("a"), [Some(0.5)]);
    write(&path, "shop,risk\ns,0.75\n");
    trial.until("an upsert and a deletion", |trial| trial.metrics.reference_records.get() == 4);
    trial.feed(&feed[1]);
    trial.feed(&feed[2]);
    assert_eq!((trial.row("b"), trial.row("c")), (vec![Some(0.75)], vec![None]));
    write(&path, "shop,risk\ns,high\n");
    trial.until("a refused version", |trial| trial.metrics.reference_errors.get() == 1);
    trial.feed(&feed[3]);
    assert_eq!(trial.row("d"), [Some(0.75)]);
    let before = trial.stop();

    // The file is another one by now; the bindings find what was there.
    write(&path, "shop,risk\ns,0.125\n");
    let trial = start(2);
    feed.iter().take(4).for_each(|line| trial.feed(line));
    trial.until("the new file", |trial| trial.metrics.reference_records.get() == 5);
    trial.feed(&feed[4]);
    assert_eq!(trial.row("e"), [Some(0.125)]);
    let after = trial.stop();
    before.iter().for_each(|(id, rows)| assert_eq!(&after[id], rows, "{id}"));

    super::assert_sealed(&state.join("reference-shops-0.jsonl"), || {
        let trial = start(1);
        feed.iter().take(4).for_each(|line| trial.feed(line));
        trial.end().unwrap_err()
    });
}

/// Every mistake is one line that says where and what.
#[test]
fn mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let says = |name: &str, text: Option<&str>| {
        let path = at(name);
        text.iter().for_each(|text| write(&path, text));
        let error = match ReferenceSource::new(vec![place(&[shops()], "shops", &path)], None, true, Limits::default()) {
            Err(error) => error.to_string(),
            Ok(_) => {
                let trial = Trial::start(&[shops()], vec![place(&[shops()], "shops", &path)], Pace::Bounded, None, 1);
                trial.feed(&event("a", 1, "s"));
                trial.end().unwrap_err()
            }
        };
        assert!(!error.contains('\n') && !error.contains("--input"), "{error}");
        let shown = error.replacen(&format!("--reference shops={}: ", path.display()), "", 1);
        assert_ne!(shown, error, "names flag and file: {error}");
        shown
    };
    assert!(says("none.csv", None).starts_with("cannot open it: "));
    assert!(says("rows.txt", Some("")).starts_with("unknown ending"));
    assert!(says("empty.csv", Some("")).starts_with("the file is empty"));
    assert_eq!(
        says("key.csv", Some("store,risk\n")).split(';').next(),
        Some("no column 'shop' for the id field 'shop'")
    );
    assert_eq!(
        says("column.csv", Some("shop,rsk\ns,1\n")),
        "no column 'risk' for the field 'risk'; the file has shop, rsk"
    );
    assert_eq!(says("type.csv", Some("shop,risk\ns,1\nt,x\n")), "row 2: field 'risk': 'x' is not a float");
    assert_eq!(says("twice.csv", Some("shop,risk\ns,1\nt,1\ns,2\n")), "row 3: has the key of row 1; keep one of them");
    assert_eq!(says("key.jsonl", Some("{\"risk\":1}\n")), "row 1: field 'shop' is missing");
}

/// What can be wrong about a declaration or a look-up.
#[test]
fn wrong_declarations() {
    let declared = |text: &str| Reference::parse(text).unwrap_err();
    let table = |rest: &str| declared(&format!("[[reference]]\nname = \"t\"\nkey = \"k\"\n{rest}"));
    assert_eq!(
        table("field = [ { name = \"x\", type = \"int\" } ]"),
        "reference 't': 'k' is not among its fields; add it"
    );
    assert_eq!(
        table("field = [ { name = \"k\", type = \"float\" } ]"),
        "reference 't': key 'k' must be of type int or text"
    );
    assert!(table("fields = []").contains("unknown field `fields`"));
    assert_eq!(
        declared("[[service]]\nname = \"s\"\nask = \"ftp://x\"\nfield = []"),
        "service 's': ask = \"ftp://x\" is no http, redis or postgres address"
    );
    let (dataflow, setup) = super::look_ups(vec![]);
    drop(dataflow);
    let check = |look_up: Enrich| deltawatch::views::lookup::EnrichPlan::resolve(&look_up, &setup.schema).unwrap_err();
    let of = |fields: &[&str]| Enrich::of("l", fields, Arc::clone(shops().reference()));
    assert_eq!(check(of(&["shop"])), "look-up 'l': asks for no column; add number(..), category(..) or known()");
    assert_eq!(check(of(&["shop"]).number("fee")), "look-up 'l': reference 'shops' has no field 'fee'; it has risk");
    assert_eq!(
        check(of(&["shop"]).code("risk")),
        "look-up 'l': field 'risk' of reference 'shops' is a number; use number(..)"
    );
    assert_eq!(
        check(of(&["store"]).known()),
        "look-up 'l': the schema 'tiny' has no field 'store'; add it or name another"
    );
    assert_eq!(
        check(of(&["amount"]).known()),
        "look-up 'l': the key of 'shops' is text, the event's field 'amount' a number; declare both of one type"
    );
    assert_eq!(check(of(&["shop", "card"]).known()), "look-up 'l': 2 fields are given, the key of 'shops' has 1");
}
