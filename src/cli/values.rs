//! Values as they are typed: durations, times, addresses, places.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::source::kafka::Position;

/// Milliseconds, from `250ms`, `30s`, `10m`, `1h`, `30d`.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let hint = || "write a duration as 250ms, 30s, 10m, 1h or 30d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(hint()),
    };
    let number: i64 = number.parse().map_err(|_| hint())?;
    number.checked_mul(unit_ms).filter(|ms| *ms <= 100 * 366 * 86_400_000).ok_or("at most 100 years".to_owned())
}

/// Bytes, from `512MiB` or `4GiB`.
pub fn memory(text: &str) -> Result<usize, String> {
    let hint = || "write a size as 512MiB or 4GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(hint()),
    };
    let number: usize = number.parse().map_err(|_| hint())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= 1 << 46).ok_or("at most 64 TiB".to_owned())
}

/// Where in a topic: `earliest`, `latest`, epoch milliseconds, or RFC 3339.
pub fn position(text: &str) -> Result<Position, String> {
    match text {
        "earliest" => Ok(Position::Earliest),
        "latest" => Ok(Position::Latest),
        _ => time_ms(text)
            .map(Position::Timestamp)
            .map_err(|_| "write earliest, latest, epoch milliseconds or a time like 2026-01-31T12:00:00Z".to_owned()),
    }
}

/// Milliseconds UTC, from epoch milliseconds or RFC 3339.
pub fn time_ms(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_millisecond())
        .map_err(|_| "write epoch milliseconds or a time like 2026-01-31T12:00:00Z".to_owned())
}

/// An address to listen on; a bare port means this machine only.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let text = text.replace("localhost", "127.0.0.1");
    text.parse().map_err(|_| "write PORT (this machine only) or IP:PORT, as 9184 or 0.0.0.0:9184".to_owned())
}

/// A share between 0 and 1.
pub fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "write a number between 0 and 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be between 0 and 1".to_owned()) }
}

/// A rate per second.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number of events per second".to_owned())?;
    if rate > 0.0 && rate <= 1e8 { Ok(rate) } else { Err("must be above 0 and at most 100 million".to_owned()) }
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputName {
    /// Files, or standard input.
    Files(Vec<String>),
    /// The generator.
    Generator,
    /// A Kafka topic.
    Kafka(String),
    /// What a run has read, by its state directory.
    Journal(String),
}

impl InputName {
    /// One source out of everything that was named.
    pub fn parse(named: &[String]) -> Result<Self, String> {
        let mut named: Vec<&str> = named.iter().map(|one| one.trim()).filter(|one| !one.is_empty()).collect();
        let special = |one: &&str| *one == "generator" || one.starts_with("kafka:") || one.starts_with("journal:");
        match (named.len(), named.iter().any(special)) {
            (0, _) => Err("names nothing; give a path, `generator`, `kafka:TOPIC` or `journal:DIR`".to_owned()),
            (_, false) => Ok(InputName::Files(named.drain(..).map(str::to_owned).collect())),
            (1, true) => match named[0].split_once(':') {
                Some(("kafka", topic)) => topic_name(topic).map(InputName::Kafka),
                Some((_, directory)) => Ok(InputName::Journal(directory.to_owned())),
                None => Ok(InputName::Generator),
            },
            _ => Err("several inputs must all be files; give one topic, or `generator`, alone".to_owned()),
        }
    }
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputName {
    /// A file, or `-` for standard output.
    Path(String),
    /// A Kafka topic.
    Kafka(String),
}

impl OutputName {
    /// Tells paths from topics.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("kafka:") {
            Some(topic) => topic_name(topic).map(OutputName::Kafka),
            None if text.is_empty() => Err("names nothing; give a path, `-` or `kafka:TOPIC`".to_owned()),
            None => Ok(OutputName::Path(text.to_owned())),
        }
    }
}

fn topic_name(topic: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    match !topic.is_empty() && topic.len() <= 249 && topic.chars().all(legal) {
        true => Ok(topic.to_owned()),
        false => Err("a topic has 1 to 249 letters, digits, `.`, `_` or `-`: kafka:TOPIC".to_owned()),
    }
}

/// Records per second of wall time; `max` is infinite.
pub fn pace(text: &str) -> Result<f64, String> {
    if text == "max" { Ok(f64::INFINITY) } else { rate(text).map_err(|reason| format!("{reason}, or `max`")) }
}
