//! Client settings: brokers, `-X key=value`, a properties file; secrets from the environment and from files.
//!
//! Keys are librdkafka's. `consumer.` or `producer.` in front limits a key to one side. A value may hold `${env:NAME}`
//! and `${file:PATH}`, so that secrets stand neither on the command line nor in the properties file. Later settings win
//! over earlier ones, and `-X` over the file.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::source::SourceError;

/// How long a start or a bounded replay waits for brokers unless told otherwise.
pub const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a produced record may wait for its broker: a restart, even a slow one, loses nothing.
const DELIVERY_TIMEOUT_MS: &str = "300000";

/// Memory for fetched records per consumer (librdkafka's default is 64 MiB).
const FETCHED_KBYTES_MAX: &str = "16384";

/// Memory for records that are not yet acknowledged, per producer.
const UNSENT_KBYTES_MAX: &str = "131072";

/// Keys that the engine sets itself, each with the reason why no one else may.
const OWNED: &[(&str, &str)] = &[
    ("metadata.broker.list", "name the brokers with --brokers"),
    ("enable.auto.commit", "offsets are kept in the journal, and a commit would promise what is not yet done"),
    ("enable.auto.offset.store", "offsets are kept in the journal"),
    ("auto.offset.reset", "a start is given by --from or the journal, and a jump past lost data must be an error"),
    ("enable.partition.eof", "the end of a partition is how a bounded replay finishes"),
    ("isolation.level", "aborted records must not be scored"),
    ("partition.assignment.strategy", "partitions are assigned to workers by number"),
    ("group.instance.id", "partitions are assigned to workers by number"),
    ("group.protocol", "partitions are assigned to workers by number"),
    ("enable.idempotence", "without it a retry could repeat or reorder records of a key"),
    ("acks", "idempotent delivery needs acknowledgement by all replicas"),
    ("request.required.acks", "idempotent delivery needs acknowledgement by all replicas"),
    ("max.in.flight", "more than 5 would break the order per key"),
    ("max.in.flight.requests.per.connection", "more than 5 would break the order per key"),
    ("transactional.id", "the sink names its own transactions"),
    ("statistics.interval.ms", "lag is taken from the statistics"),
];

/// Settings shared by all Kafka clients of a run.
#[derive(Clone)]
pub struct KafkaConfig {
    brokers: String,
    settings: Vec<Setting>,
    broker_timeout: Duration,
}

/// A setting that cannot be used, and what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KafkaConfigError(String);

impl From<KafkaConfigError> for SourceError {
    fn from(error: KafkaConfigError) -> Self {
        SourceError::User(error.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientSide {
    Both,
    Consumer,
    Producer,
}

#[derive(Clone)]
struct Setting {
    side: ClientSide,
    key: String,
    value: String,
    /// Came from the environment or a file.
    secret: bool,
}

impl KafkaConfig {
    /// Resolves what was typed: `--brokers` (or `bootstrap.servers` in the file), a properties file, `-X` settings.
    ///
    /// Every key is checked here, so that a typing error shows at start and not at the first connection.
    pub fn resolve(
        brokers: Option<&str>,
        properties: Option<&Path>,
        settings: &[String],
    ) -> Result<Self, KafkaConfigError> {
        let mut lines = Vec::new();
        if let Some(path) = properties {
            let text = std::fs::read_to_string(path).map_err(|error| {
                KafkaConfigError(format!("cannot read kafka properties {}: {error}", path.display()))
            })?;
            let kept = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
            lines.extend(kept.map(|line| (line.to_owned(), path.display().to_string())));
        }
        lines.extend(settings.iter().map(|setting| (setting.clone(), "-X".to_owned())));

        let mut config = KafkaConfig { brokers: String::new(), settings: Vec::new(), broker_timeout: BROKER_TIMEOUT };
        for (line, origin) in lines {
            let (key, value) = line.split_once('=').ok_or_else(|| {
                // The line may be a secret with a typing error in front of it: only its beginning is shown.
                let shown: String = line.chars().take(12).collect();
                KafkaConfigError(format!("kafka setting `{shown}...` from {origin} is not key=value"))
            })?;
            config.add(key.trim(), value.trim())?;
        }
        if let Some(brokers) = brokers {
            config.brokers = brokers.to_owned();
        }
        if config.brokers.trim().is_empty() {
            return Err(KafkaConfigError("no kafka brokers: give --brokers HOST:PORT[,HOST:PORT...]".to_owned()));
        }
        for client in [config.consumer(), config.producer()] {
            client.create_native_config().map_err(|error| config.explain(error))?;
        }
        Ok(config)
    }

    /// The same settings with another patience towards brokers that do not answer.
    pub fn with_broker_timeout(mut self, timeout: Duration) -> Self {
        self.broker_timeout = timeout;
        self
    }

    /// The brokers to start from, as given.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// How long to wait for brokers that do not answer.
    pub fn broker_timeout(&self) -> Duration {
        self.broker_timeout
    }

    /// librdkafka's settings for reading: assigned partitions, committed records only, ends reported.
    pub fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            // librdkafka wants a name even though partitions are assigned and nothing is committed.
            .set("group.id", "deltawatch")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", FETCHED_KBYTES_MAX);
        self.apply(&mut client, ClientSide::Consumer);
        client
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed");
        client
    }

    /// librdkafka's settings for writing: idempotent, in order per key, patient with brokers.
    pub fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("linger.ms", "1")
            .set("message.timeout.ms", DELIVERY_TIMEOUT_MS)
            .set("queue.buffering.max.kbytes", UNSENT_KBYTES_MAX)
            // The partitioner of the Java clients, so that a key lands where their joins expect it.
            .set("partitioner", "murmur2_random");
        self.apply(&mut client, ClientSide::Producer);
        client.set("enable.idempotence", "true").set("max.in.flight.requests.per.connection", "5");
        client
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "deltawatch")
            .set("socket.nagle.disable", "true")
            // A broker that comes back is noticed within a second, not ten.
            .set("reconnect.backoff.max.ms", "1000")
            .set("statistics.interval.ms", "1000");
        client
    }

    fn apply(&self, client: &mut ClientConfig, side: ClientSide) {
        for setting in self.settings.iter().filter(|setting| setting.side == ClientSide::Both || setting.side == side) {
            client.set(&setting.key, &setting.value);
        }
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), KafkaConfigError> {
        let (side, key) = match key.split_once('.') {
            Some(("consumer", rest)) => (ClientSide::Consumer, rest),
            Some(("producer", rest)) => (ClientSide::Producer, rest),
            _ => (ClientSide::Both, key),
        };
        if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == key) {
            return Err(KafkaConfigError(format!("kafka setting {key} is not yours to set: {reason}")));
        }
        let (value, secret) = expand(key, value)?;
        if key == "bootstrap.servers" {
            self.brokers = value;
            return Ok(());
        }
        let secure = key.starts_with("ssl.")
            || key.starts_with("sasl.")
            || key == "security.protocol" && !value.eq_ignore_ascii_case("plaintext");
        if secure && !cfg!(feature = "kafka-tls") {
            return Err(KafkaConfigError(format!(
                "kafka setting {key} needs TLS/SASL, which this binary lacks: build with --features kafka-tls"
            )));
        }
        self.settings.push(Setting { side, key: key.to_owned(), value, secret });
        Ok(())
    }

    /// Says what librdkafka dislikes without repeating a secret.
    pub(crate) fn explain(&self, error: KafkaError) -> KafkaConfigError {
        KafkaConfigError(match error {
            KafkaError::ClientConfig(_, reason, key, value) if self.is_secret(&key) => {
                let reason = if value.is_empty() { reason } else { reason.replace(&value, "[redacted]") };
                format!("kafka setting {key}: {reason}")
            }
            KafkaError::ClientConfig(_, reason, key, value) => {
                format!("kafka setting {key}={value}: {reason} (keys are librdkafka's, not those of the Java client)")
            }
            other => format!("kafka settings are refused: {other}"),
        })
    }

    fn is_secret(&self, key: &str) -> bool {
        secret_by_name(key) || self.settings.iter().any(|setting| setting.key == key && setting.secret)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka {}", self.brokers)?;
        for Setting { side, key, value, .. } in &self.settings {
            let side = match side {
                ClientSide::Both => "",
                ClientSide::Consumer => "consumer.",
                ClientSide::Producer => "producer.",
            };
            let value = if self.is_secret(key) { "[redacted]" } else { value };
            write!(f, " {side}{key}={value}")?;
        }
        Ok(())
    }
}

fn secret_by_name(key: &str) -> bool {
    key.starts_with("sasl.") || ["password", "secret", "key", "token", "pem"].iter().any(|word| key.contains(word))
}

/// Replaces `${env:NAME}` and `${file:PATH}`; says whether there was any.
fn expand(key: &str, value: &str) -> Result<(String, bool), KafkaConfigError> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let length = rest[start..]
            .find('}')
            .ok_or_else(|| KafkaConfigError(format!("kafka setting {key}: `${{` without `}}` in its value")))?;
        let reference = &rest[start + 2..start + length];
        let content = match reference.split_once(':') {
            Some(("env", name)) => std::env::var(name).map_err(|_| {
                KafkaConfigError(format!("kafka setting {key}: environment variable {name} is not set"))
            })?,
            Some(("file", path)) => std::fs::read_to_string(path)
                .map_err(|error| KafkaConfigError(format!("kafka setting {key}: cannot read {path}: {error}")))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            _ => {
                return Err(KafkaConfigError(format!(
                    "kafka setting {key}: write ${{env:NAME}} or ${{file:PATH}}, not ${{{reference}}}"
                )));
            }
        };
        expanded.push_str(&rest[..start]);
        expanded.push_str(&content);
        rest = &rest[start + length + 1..];
    }
    let secret = rest.len() < value.len();
    expanded.push_str(rest);
    Ok((expanded, secret))
}
