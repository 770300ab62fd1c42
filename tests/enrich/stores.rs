//! Redis and PostgreSQL as services, against real ones: `scripts/stores.sh start` prints their addresses.

use deltawatch::epoch::Pace;
use deltawatch::source::tables::Reference;
use deltawatch::views::lookup::Enrich;

use super::job::Trial;

/// The address of a real store, or a loud skip.
fn address(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok();
    if address.is_none() {
        eprintln!("SKIPPED: {variable} names no store; see scripts/stores.sh");
    }
    address
}

fn look_up(ask: &str, query: &str, timeout_ms: u32) -> [Enrich; 1] {
    let declared = format!(
        "[[service]]\nname = \"scores\"\nask = \"{ask}\"\nquery = \"{query}\"\nbudget_ms = 5000\ntimeout_ms = {timeout_ms}\n\
         field = [ {{ name = \"score\", type = \"float\" }} ]\n"
    );
    [Enrich::of("shop", &["shop"], Reference::named(&declared, "scores").unwrap()).number("score").or(0.5).known()]
}

fn event(id: &str, shop: &str) -> String {
    format!(r#"{{"id":"{id}","time":7,"shop":"{shop}"}}"#)
}

/// What is known is answered, what is not or makes no sense falls back, and the errors are counted.
fn check(all: &[Enrich], errors: u64) {
    let trial = Trial::start(all, Vec::new(), Pace::Live, None, 1);
    for (id, shop) in [("a", "good"), ("b", "unknown"), ("c", "bad"), ("d", "it's"), ("e", "good")] {
        trial.feed(&event(id, shop));
    }
    assert_eq!(trial.row("a"), [Some(0.75), Some(1.0)]);
    assert_eq!(trial.row("b"), [Some(0.5), Some(0.0)]);
    assert_eq!(trial.row("c"), [Some(0.5), Some(0.0)]);
    assert_eq!(trial.row("d"), [Some(0.125), Some(1.0)]);
    assert_eq!(trial.row("e"), [Some(0.75), Some(1.0)]);
    assert_eq!(trial.metrics.service_errors.get(), errors);
    trial.stop();
}

#[test]
#[cfg(feature = "lookup-redis")]
fn redis_answers() {
    let Some(address) = address("DELTAWATCH_TEST_REDIS") else { return };
    let mut connection = redis::Client::open(address.as_str()).unwrap().get_connection().unwrap();
    for (shop, value) in [("good", r#"{"score":0.75}"#), ("bad", "no JSON"), ("it's", r#"{"score":0.125}"#)] {
        redis::cmd("SET").arg(format!("risk:{shop}")).arg(value).exec(&mut connection).unwrap();
    }
    check(&look_up(&address, "risk:{key}", 2_000), 1);
}

#[test]
#[cfg(feature = "lookup-postgres")]
fn postgres_answers() {
    let Some(address) = address("DELTAWATCH_TEST_POSTGRES") else { return };
    let mut client = postgres::Client::connect(&address, postgres::NoTls).unwrap();
    client
        .batch_execute(
            "drop table if exists risks; create table risks (shop text, score text); \
             insert into risks values ('good', '0.75'), ('bad', 'no number'), ('it''s', '0.125')",
        )
        .unwrap();
    let query = "select json_build_object('score', score::float8)::text from risks where shop = $1";
    check(&look_up(&address, query, 2_000), 1);
    // A query that takes longer than the time given to it is cancelled by the server: the fallback, and an error.
    let all = look_up(&address, "select pg_sleep(60)::text from (select $1::text) s", 200);
    let trial = Trial::start(&all, Vec::new(), Pace::Live, None, 1);
    trial.feed(&event("a", "good"));
    assert_eq!(trial.row("a"), [Some(0.5), Some(0.0)]);
    trial.stop();
}
