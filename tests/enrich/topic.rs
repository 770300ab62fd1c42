//! A compacted topic as a reference collection, on the client library's broker in memory.

use std::time::Duration;

use deltawatch::epoch::Pace;
use deltawatch::source::kafka::KafkaConfig;
use deltawatch::source::tables::{Reference, TableInput, WantedTable};
use deltawatch::views::lookup::Enrich;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::job::Trial;

const DECLARED: &str = r#"
[[reference]]
name = "shops"
key = "shop"
field = [ { name = "shop", type = "text" }, { name = "risk", type = "float" } ]
"#;

const TOPIC: &str = "shops";

fn event(id: &str, shop: &str) -> String {
    format!(r#"{{"id":"{id}","time":{},"shop":"{shop}"}}"#, id.len())
}

#[test]
fn upserts_tombstones_and_a_restart() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let send = |partition: i32, key: &str, row: Option<&str>| {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(TOPIC).partition(partition).key(key);
        record.payload = row;
        producer.send(record).unwrap();
        producer.flush(Duration::from_secs(20)).unwrap();
    };
    let look_up = Enrich::of("shop", &["shop"], Reference::named(DECLARED, "shops").unwrap()).number("risk").known();
    let all = [look_up.clone()];
    let state = tempfile::tempdir().unwrap();
    let start = |pace, state, workers| {
        let config = KafkaConfig::resolve(Some(&brokers), None, &[]).unwrap();
        let place = TableInput::Topic(config, TOPIC.to_owned());
        let wanted = WantedTable { reference: look_up.reference().clone(), tag: look_up.tag(), place };
        Trial::start(&all, vec![wanted], pace, state, workers)
    };
    let lines = [event("a", "s"), event("ab", "t"), event("abc", "s"), event("abcd", "t"), event("abcde", "s")];

    send(0, "s", Some(r#"{"shop":"s","risk":0.25}"#));
    send(1, "t", Some(r#"{"shop":"t","risk":0.5}"#));
    let trial = start(Pace::Live, Some(state.path()), 2);
    trial.feed(&lines[0]);
    trial.feed(&lines[1]);
    // What stands in the topic at the start is there before the first event.
    assert_eq!(trial.row("a"), [Some(0.25), Some(1.0)]);
    assert_eq!(trial.row("ab"), [Some(0.5), Some(1.0)]);
    send(0, "s", Some(r#"{"shop":"s","risk":0.75}"#));
    send(1, "t", None);
    send(1, "u", Some("no row"));
    trial.until("an upsert and a tombstone", |trial| trial.metrics.reference_records.get() == 4);
    trial.until("a reject", |trial| trial.metrics.reference_errors.get() == 1);
    trial.feed(&lines[2]);
    trial.feed(&lines[3]);
    assert_eq!(trial.row("abc"), [Some(0.75), Some(1.0)]);
    assert_eq!(trial.row("abcd"), [None, Some(0.0)]);
    let before = trial.stop();

    send(0, "s", Some(r#"{"shop":"s","risk":1}"#));
    let trial = start(Pace::Live, Some(state.path()), 1);
    lines[..4].iter().for_each(|line| trial.feed(line));
    trial.row("abcd");
    trial.until("what came meanwhile", |trial| trial.metrics.reference_records.get() == 5);
    trial.feed(&lines[4]);
    assert_eq!(trial.row("abcde"), [Some(1.0), Some(1.0)]);
    let after = trial.stop();
    before.iter().for_each(|(id, rows)| assert_eq!(&after[id], rows, "{id}"));

    // A replay reads the topic to its end first.
    let trial = start(Pace::Bounded, None, 2);
    lines.iter().for_each(|line| trial.feed(line));
    let rows = trial.end().unwrap();
    assert!(rows.len() == 5 && rows["a"] == [[Some(1.0), Some(1.0)]] && rows["ab"] == [[None, Some(0.0)]]);
}
