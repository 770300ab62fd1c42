//! Network files: what an address is, and new versions of the file.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use deltawatch::epoch::Pace;
use deltawatch::event::{FieldType, Limits};
use deltawatch::source::tables::{Reference, ReferenceSource};
use deltawatch::views::lookup::{Enrich, Networks};

use super::job::{Trial, place};

const DECLARED: &str = r#"
[[networks]]
name = "networks"
poll_ms = 5
field = [
    { name = "country", path = "country.iso_code", type = "text" },
    { name = "asn", path = "autonomous_system_number", type = "int" },
    { name = "is_hosting", path = "traits.is_hosting_provider", type = "bool" },
]
"#;

/// Writes the MaxMind format as far as it is needed here: maps, texts, integers, booleans; records of 32 bits.
mod writer {
    use std::net::{IpAddr, Ipv6Addr};

    pub enum Value<'a> {
        Text(&'a str),
        Int(u32),
        Bool(bool),
        Map(Vec<(&'a str, Value<'a>)>),
    }

    fn encode(value: &Value<'_>, into: &mut Vec<u8>) {
        match value {
            Value::Text(text) => {
                assert!(text.len() < 29);
                into.push(2 << 5 | text.len() as u8);
                into.extend(text.as_bytes());
            }
            Value::Int(value) => {
                into.push(6 << 5 | 4);
                into.extend(value.to_be_bytes());
            }
            Value::Bool(value) => into.extend([u8::from(*value), 14 - 7]),
            Value::Map(entries) => {
                into.push(7 << 5 | entries.len() as u8);
                for (name, value) in entries {
                    encode(&Value::Text(name), into);
                    encode(value, into);
                }
            }
        }
    }

    #[derive(Clone, Copy)]
    enum Child {
        None,
        Node(usize),
        Data(usize),
    }

    /// A file of networks, such as `10.0.0.0/8`, the longer ones after the shorter ones that hold them.
    pub fn file(networks: &[(&str, Value<'_>)]) -> Vec<u8> {
        let (mut nodes, mut data) = (vec![[Child::None; 2]], Vec::new());
        for (network, value) in networks {
            let (address, length) = network.split_once('/').unwrap();
            let (bits, length) = match address.parse::<IpAddr>().unwrap() {
                IpAddr::V4(v4) => (u128::from(u32::from(v4)), 96 + length.parse::<u32>().unwrap()),
                IpAddr::V6(v6) => (u128::from(v6), length.parse().unwrap()),
            };
            let offset = data.len();
            encode(value, &mut data);
            let mut at = 0;
            for depth in 0..length {
                let bit = (bits >> (127 - depth) & 1) as usize;
                if depth + 1 == length {
                    nodes[at][bit] = Child::Data(offset);
                    break;
                }
                at = match nodes[at][bit] {
                    Child::Node(next) => next,
                    // A shorter network is split: both halves are it, so far.
                    above => {
                        nodes.push([above; 2]);
                        let next = nodes.len() - 1;
                        nodes[at][bit] = Child::Node(next);
                        next
                    }
                };
            }
        }
        let mut file = Vec::new();
        for child in nodes.iter().flatten() {
            let record = match child {
                Child::None => nodes.len(),
                Child::Node(index) => *index,
                Child::Data(offset) => nodes.len() + 16 + offset,
            };
            file.extend((record as u32).to_be_bytes());
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        let uint16 = |value: u16| [vec![5 << 5 | 2], value.to_be_bytes().to_vec()].concat();
        let metadata: Vec<(&str, Vec<u8>)> = vec![
            ("node_count", [vec![6 << 5 | 4], (nodes.len() as u32).to_be_bytes().to_vec()].concat()),
            ("record_size", uint16(32)),
            ("ip_version", uint16(6)),
            ("binary_format_major_version", uint16(2)),
            ("binary_format_minor_version", uint16(0)),
            ("build_epoch", vec![1, 9 - 7, 1]),
            ("database_type", [vec![2 << 5 | 4], b"Test".to_vec()].concat()),
            ("languages", vec![0, 11 - 7]),
            ("description", vec![7 << 5]),
        ];
        file.push(7 << 5 | metadata.len() as u8);
        for (name, value) in metadata {
            encode(&Value::Text(name), &mut file);
            file.extend(value);
        }
        assert!(Ipv6Addr::LOCALHOST.is_loopback());
        file
    }
}

use writer::Value::{Bool, Int, Map, Text};

fn network(country: &'static str, asn: u32, hosting: bool) -> writer::Value<'static> {
    Map(vec![
        ("country", Map(vec![("iso_code", Text(country))])),
        ("autonomous_system_number", Int(asn)),
        ("traits", Map(vec![("is_hosting_provider", Bool(hosting))])),
    ])
}

/// A file of single addresses, every other one in another country.
pub fn addresses(addresses: &[String], hosting: bool) -> Vec<u8> {
    let whole = |address: &String| format!("{address}/{}", if address.contains(':') { 128 } else { 32 });
    let networks: Vec<String> = addresses.iter().map(whole).collect();
    let countries = ["DE", "FR"].into_iter().cycle();
    let rows = networks.iter().zip(countries).map(|(one, country)| (&**one, network(country, 64_500, hosting)));
    writer::file(&rows.collect::<Vec<_>>())
}

fn first() -> Vec<u8> {
    writer::file(&[
        ("10.0.0.0/8", network("DE", 64_500, false)),
        ("10.1.0.0/16", network("FR", 64_501, true)),
        ("2001:db8::/32", network("IN", 64_502, false)),
        ("192.0.2.0/24", Map(vec![("autonomous_system_number", Text("none"))])),
    ])
}

fn look_up() -> Enrich {
    let networks = Reference::named(DECLARED, "networks").unwrap();
    Enrich::of("ip", &["shop"], networks)
        .category("country", &["DE", "FR", "IN"])
        .number("asn")
        .number("is_hosting")
        .known()
}

#[test]
fn the_longest_network_says_what_an_address_is() {
    let networks = Networks::new(first().into()).unwrap();
    let paths = [(vec!["autonomous_system_number".to_owned()], FieldType::Int)];
    let asn = |address: &str| {
        let cells = networks.cells(address.parse::<IpAddr>().unwrap(), &paths)?;
        Some(f64::from_bits(cells[0])).filter(|asn| !asn.is_nan())
    };
    assert_eq!(asn("10.2.3.4"), Some(64_500.0));
    assert_eq!(asn("10.1.3.4"), Some(64_501.0));
    assert_eq!(asn("2001:db8::1"), Some(64_502.0));
    // Not of the type, then not there.
    assert_eq!(asn("192.0.2.1"), None);
    assert_eq!(asn(&Ipv6Addr::LOCALHOST.to_string()), None);
    assert!(Networks::new(b"nothing".to_vec().into()).is_err());
}

fn event(id: &str, time: i64, ip: &str) -> String {
    format!(r#"{{"id":"{id}","time":{time},"shop":"{ip}"}}"#)
}

fn write(path: &Path, content: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_new_file_is_a_new_version_and_a_restart_repeats_both() {
    let directory = tempfile::tempdir().unwrap();
    let (path, state) = (directory.path().join("networks.mmdb"), directory.path().join("state"));
    let all = [look_up()];
    let start = |workers| Trial::start(&all, vec![place(&all, "networks", &path)], Pace::Live, Some(&state), workers);
    let lines = [
        event("a", 1, "10.2.0.1"),
        event("b", 2, "10.1.0.1"),
        event("c", 3, "::ffff:10.1.0.1"),
        event("d", 4, "2001:db8::7"),
        event("e", 5, "192.0.2.9"),
        event("f", 6, "127.0.0.1"),
        event("g", 7, "no address"),
        event("h", 8, "10.2.0.1"),
    ];
    write(&path, &first());
    let trial = start(2);
    lines[..7].iter().for_each(|line| trial.feed(line));
    let wanted = [
        ("a", [Some(1.0), Some(64_500.0), Some(0.0), Some(1.0)]),
        ("b", [Some(2.0), Some(64_501.0), Some(1.0), Some(1.0)]),
        ("c", [Some(2.0), Some(64_501.0), Some(1.0), Some(1.0)]),
        ("d", [Some(3.0), Some(64_502.0), Some(0.0), Some(1.0)]),
        ("e", [None, None, None, Some(1.0)]),
        ("f", [None, None, None, Some(0.0)]),
        ("g", [None, None, None, Some(0.0)]),
    ];
    wanted.iter().for_each(|(id, row)| assert_eq!(trial.row(id), row, "{id}"));
    let records = trial.metrics.reference_records.get();
    write(&path, &writer::file(&[("10.0.0.0/8", network("IN", 64_503, false))]));
    trial.until("the new file", |trial| trial.metrics.reference_records.get() > records);
    trial.feed(&lines[7]);
    assert_eq!(trial.row("h"), [Some(3.0), Some(64_503.0), Some(0.0), Some(1.0)]);
    write(&path, b"not one of these");
    trial.until("a refused version", |trial| trial.metrics.reference_errors.get() == 1);
    let before = trial.stop();

    write(&path, &first());
    let trial = start(1);
    lines.iter().for_each(|line| trial.feed(line));
    trial.row("h");
    let after = trial.stop();
    assert_eq!(after, before);
}

#[test]
fn a_file_that_is_none_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("networks.mmdb");
    let refused = || {
        let wanted = vec![place(&[look_up()], "networks", &path)];
        ReferenceSource::new(wanted, None, false, Limits::default()).err().map(|error| error.to_string()).unwrap()
    };
    assert!(refused().contains("cannot read it: "), "{}", refused());
    write(&path, b"not one of these");
    assert!(refused().contains("is no MaxMind-format file: "), "{}", refused());
}
