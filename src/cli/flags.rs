//! Flags that commands share, as they are typed. What will run is resolved from them in `plan` and `cluster`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::outputs::ExistingFlags;
use super::values::{OutputName, duration_ms, listen, memory, rate, share, time_ms};
use crate::generator::GeneratorConfig;

/// What `run` and `replay` have in common.
#[derive(Args, Debug)]
pub struct JobFlags {
    /// The dataflow; `deltawatch dataflow list` shows them
    #[arg(long, short, value_name = "NAME", default_value = "payments", env = "DELTAWATCH_DATAFLOW")]
    pub dataflow: String,
    /// A parameter of the dataflow; repeatable
    #[arg(long, value_name = "NAME.KEY=VALUE", env = "DELTAWATCH_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
    /// Schema of the events instead of the dataflow's own (TOML)
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_SCHEMA")]
    pub schema: Option<PathBuf>,
    /// Model instead of the dataflow's own; repeatable, the first one decides; `none` for no scores
    #[arg(long, value_name = "NAME[@VERSION]", env = "DELTAWATCH_MODEL", value_delimiter = ',')]
    pub model: Vec<String>,
    /// Directory of the models [default: models, else the one of the source tree]
    #[arg(long, value_name = "DIR", env = "DELTAWATCH_MODELS")]
    pub models: Option<PathBuf>,
    /// Rules that decide with the model (TOML); `deltawatch rules check FILE` tries them
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_RULES")]
    pub rules: Option<PathBuf>,
    /// Messages that change rules, thresholds and models while it runs: a file that is added to, or a topic of one partition
    #[arg(long, value_name = "FILE|kafka:TOPIC", env = "DELTAWATCH_CONTROL", value_parser = OutputName::parse)]
    pub control: Option<OutputName>,
    /// A file that is added to: what became of each control message, a JSON line each
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_CONTROL_REPLIES", requires = "control")]
    pub control_replies: Option<PathBuf>,

    /// Files (.csv or .jsonl, also .gz and .zst), `-`, `generator` or `kafka:TOPIC`; files may be repeated
    #[arg(
        long,
        short,
        value_name = "IN",
        default_value = "generator",
        env = "DELTAWATCH_INPUT",
        value_delimiter = ',',
        help_heading = "Input and output"
    )]
    pub input: Vec<String>,
    /// Where a reference collection comes from: a file (.csv, .jsonl, .mmdb), a compacted topic, or a service's address; repeatable
    #[arg(
        long,
        value_name = "NAME=PATH|kafka:TOPIC",
        env = "DELTAWATCH_REFERENCE",
        value_delimiter = ',',
        help_heading = "Input and output"
    )]
    pub reference: Vec<String>,
    /// Scored diffs and emitted collections: a path, `-` or `kafka:TOPIC`
    #[arg(long, short, value_name = "OUT", default_value = "-", env = "DELTAWATCH_OUTPUT", value_parser = OutputName::parse, help_heading = "Input and output")]
    pub output: OutputName,
    /// Records that were refused or came too late, with the reason
    #[arg(long, value_name = "OUT", env = "DELTAWATCH_REJECTS", value_parser = OutputName::parse, help_heading = "Input and output")]
    pub rejects: Option<OutputName>,
    /// Feature rows, as CSV or JSON lines by the file's ending
    #[arg(long, value_name = "OUT", env = "DELTAWATCH_FEATURES", value_parser = OutputName::parse, help_heading = "Input and output")]
    pub features: Option<OutputName>,
    #[command(flatten)]
    pub existing: ExistingFlags,
    #[command(flatten)]
    pub kafka: KafkaFlags,
    #[command(flatten)]
    pub generator: GeneratorFlags,

    /// How late an event may be and still change scores
    #[arg(long, value_name = "DURATION", default_value = "1h", env = "DELTAWATCH_HORIZON", value_parser = duration_ms, help_heading = "Engine")]
    pub horizon: i64,
    /// How long after its event a label may come
    #[arg(long, value_name = "DURATION", default_value = "30d", env = "DELTAWATCH_LABEL_HORIZON", value_parser = duration_ms, help_heading = "Engine")]
    pub label_horizon: i64,
    /// How long a key must be silent to begin anew in features over all time, whatever the horizon; at least its longest window
    #[arg(long, value_name = "DURATION", default_value = "400d", env = "DELTAWATCH_FORGET", value_parser = duration_ms, help_heading = "Engine")]
    pub forget: i64,
    /// Rows of the past that are corrected per epoch, about, over all workers; as many as the epoch takes in records if those
    /// are more. Keys share them, a key alone gets all; which rows are corrected when does not depend on the number of
    /// workers [default: 64 live, 65536 in a replay]
    #[arg(long, value_name = "ROWS", env = "DELTAWATCH_REPAIR_ROWS", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Engine")]
    pub repair_rows: Option<u32>,
    /// Longest record; longer ones are rejects, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, env = "DELTAWATCH_RECORD_BYTES", help_heading = "Engine")]
    pub record_bytes: usize,
    /// Records of a partition per epoch at most
    #[arg(long, value_name = "RECORDS", default_value_t = 1024, env = "DELTAWATCH_EPOCH_RECORDS", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Engine")]
    pub epoch_records: u32,
    /// How far a partition with a backlog may fall behind the others in event time before a run waits for it
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "DELTAWATCH_SKEW", value_parser = duration_ms, help_heading = "Engine")]
    pub skew: i64,
    /// How far ahead one event's time may be of what the other records of its partition say, and in a run the wall clock, and
    /// still be believed; what is further ahead is a reject
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "DELTAWATCH_FUTURE", value_parser = duration_ms, help_heading = "Engine")]
    pub future: i64,
    /// A partition that has been empty and quiet for so long holds event time back no more
    #[arg(long, value_name = "DURATION", default_value = "500ms", env = "DELTAWATCH_IDLE", value_parser = duration_ms, help_heading = "Engine")]
    pub idle: i64,
    /// Memory to take at start, so that no score waits for the system to clear pages; freed memory is kept
    #[arg(long, value_name = "SIZE", env = "DELTAWATCH_RESERVE_MEMORY", value_parser = memory, help_heading = "Engine")]
    pub reserve_memory: Option<usize>,
    /// Directory of the logs that make a restart repeat the same epochs; a replay repeats what a run has written there, and
    /// writes nothing
    #[arg(long, value_name = "DIR", env = "DELTAWATCH_STATE", help_heading = "Engine")]
    pub state: Option<PathBuf>,

    /// Waits for as long as another run has the state directory, and goes on from there once that one has ended, however it did
    #[arg(long, env = "DELTAWATCH_STANDBY", help_heading = "Engine", requires = "state")]
    pub standby: bool,

    /// What --state keeps of the input: the events, or offsets alone, which trusts the topic to have what a restart needs
    #[arg(long, value_enum, default_value = "events", env = "DELTAWATCH_JOURNAL", help_heading = "Engine")]
    pub journal: Kept,

    /// How often a record may be in a topic after a kill; exactly once needs a state directory, and readers of committed records
    #[arg(long, value_enum, default_value = "at-least-once", env = "DELTAWATCH_DELIVERY", help_heading = "Kafka")]
    pub delivery: Delivery,

    /// How often --state gets a cut of everything that is kept, which a restart goes on from; seldomer where one takes more than a
    /// tenth of that; 0s for never
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "DELTAWATCH_CUT_EVERY", value_parser = duration_ms, help_heading = "Engine")]
    pub cut_every: i64,

    /// How much event time the journal keeps though cuts cover it, for features that are added later
    #[arg(long, value_name = "DURATION", default_value = "35d", env = "DELTAWATCH_JOURNAL_KEEP", value_parser = duration_ms, help_heading = "Engine")]
    pub journal_keep: i64,

    /// How long a stop may take to complete what was read; then it ends with exit code 3 and says what is left
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "DELTAWATCH_DRAIN", value_parser = duration_ms, help_heading = "Engine")]
    pub drain: i64,

    #[command(flatten)]
    pub cluster: ClusterFlags,
    #[command(flatten)]
    pub watch: WatchFlags,
}

/// How to reach Kafka.
#[derive(Args, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaFlags {
    /// Brokers to start from
    #[arg(long, value_name = "HOST:PORT,...", env = "DELTAWATCH_BROKERS")]
    pub brokers: Option<String>,
    /// A librdkafka setting; `consumer.` or `producer.` in front limits it; repeatable
    #[arg(short = 'X', long = "kafka", value_name = "KEY=VALUE", env = "DELTAWATCH_KAFKA", value_delimiter = '\n')]
    pub settings: Vec<String>,
    /// A file of such settings
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_KAFKA_PROPERTIES")]
    pub kafka_properties: Option<PathBuf>,
    /// How long to wait for brokers that do not answer
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "DELTAWATCH_BROKER_TIMEOUT", value_parser = duration_ms)]
    pub broker_timeout: i64,
}

/// Worker threads and processes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterFlags {
    /// Worker threads of this process
    #[arg(long, short = 'w', value_name = "N", default_value_t = 1, env = "DELTAWATCH_WORKERS", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Processes of the cluster
    #[arg(long, short = 'n', value_name = "P", default_value_t = 1, env = "DELTAWATCH_PROCESSES", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub processes: u16,
    /// Which of them this is, from 0
    #[arg(long, short = 'p', value_name = "I", default_value_t = 0, env = "DELTAWATCH_PROCESS")]
    pub process: u16,
    /// File with the address HOST:PORT of each process, one a line [default: localhost:2101, 2102 ...]
    #[arg(long, value_name = "FILE", env = "DELTAWATCH_HOSTS", conflicts_with = "host")]
    pub hosts: Option<PathBuf>,
    /// Address of a process, in their order; repeatable
    #[arg(long, value_name = "HOST:PORT", env = "DELTAWATCH_HOST", value_delimiter = ',')]
    pub host: Vec<String>,
    /// How long to wait for the other processes at the start
    #[arg(long, value_name = "DURATION", default_value = "60s", env = "DELTAWATCH_PEER_TIMEOUT", value_parser = duration_ms)]
    pub peer_timeout: i64,
}

/// How a run is watched.
#[derive(Args, Debug)]
#[command(next_help_heading = "Watching")]
pub struct WatchFlags {
    /// Serve Prometheus metrics and /health on PORT (this machine only) or IP:PORT
    #[arg(long, value_name = "ADDR", env = "DELTAWATCH_METRICS", value_parser = listen)]
    pub metrics: Option<SocketAddr>,
    /// The closing summary as one JSON object
    #[arg(long, env = "DELTAWATCH_JSON")]
    pub json: bool,
    #[command(flatten)]
    pub log: LogFlags,
}

/// What is logged on standard error.
#[derive(Args, Debug)]
pub struct LogFlags {
    /// error, warn, info, debug, trace, or a filter like info,deltawatch::source=debug
    #[arg(long, value_name = "LEVEL", default_value = "warn", env = "DELTAWATCH_LOG", help_heading = "Watching")]
    pub log: String,
    /// How log lines are written
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        env = "DELTAWATCH_LOG_FORMAT",
        help_heading = "Watching"
    )]
    pub log_format: LogFormat,
}

/// How log lines are written.
/// What is promised of the records in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// None is lost; (id, revision, diff) tells those that are there twice.
    AtLeastOnce,
    /// Each is there once, for readers of committed records.
    ExactlyOnce,
}

/// What a journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kept {
    /// Records as they were read.
    Events,
    /// Their offsets alone.
    Offsets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What the generator makes. Shares are between 0 and 1.
#[derive(Args, Debug)]
#[command(next_help_heading = "Generator")]
pub struct GeneratorFlags {
    /// Decides everything that is left to chance
    #[arg(long, value_name = "S", default_value_t = 1, env = "DELTAWATCH_SEED")]
    pub seed: u64,
    /// Records in all [default: no end; `replay` and `generate` need a number]
    #[arg(long, value_name = "N", env = "DELTAWATCH_EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub events: Option<u64>,
    /// Records per second of event time, on average
    #[arg(long, value_name = "R", default_value = "5", env = "DELTAWATCH_RATE", value_parser = rate)]
    pub rate: f64,
    /// Event time of the first record
    #[arg(long, value_name = "TIME", default_value = "2024-04-01T00:00:00Z", env = "DELTAWATCH_START", value_parser = time_ms)]
    pub start: i64,
    /// Honest customers
    #[arg(long, value_name = "N", default_value_t = 30_000, env = "DELTAWATCH_CUSTOMERS")]
    pub customers: u32,
    /// Honest merchants
    #[arg(long, value_name = "N", default_value_t = 2_000, env = "DELTAWATCH_MERCHANTS")]
    pub merchants: u32,
    /// Share of fraud among payments
    #[arg(long, value_name = "SHARE", default_value = "0.01", env = "DELTAWATCH_FRAUD_SHARE", value_parser = share)]
    pub fraud_share: f64,
    /// Share of events planted as event patterns, or as what narrowly misses them
    #[arg(long, value_name = "SHARE", default_value = "0.002", env = "DELTAWATCH_PATTERN_SHARE", value_parser = share)]
    pub pattern_share: f64,
    /// Share of honest payments that get a label
    #[arg(long, value_name = "SHARE", default_value = "0.05", env = "DELTAWATCH_LABEL_SHARE", value_parser = share)]
    pub label_share: f64,
    /// Share of events that arrive late
    #[arg(long, value_name = "SHARE", default_value = "0.01", env = "DELTAWATCH_LATE_SHARE", value_parser = share)]
    pub late_share: f64,
    /// How late at most, in event time
    #[arg(long, value_name = "DURATION", default_value = "10m", env = "DELTAWATCH_LATE_MAX", value_parser = duration_ms)]
    pub late_max: i64,
    /// Share of events that are sent twice
    #[arg(long, value_name = "SHARE", default_value = "0.002", env = "DELTAWATCH_DUPLICATE_SHARE", value_parser = share)]
    pub duplicate_share: f64,
    /// Share of payments that are corrected
    #[arg(long, value_name = "SHARE", default_value = "0.002", env = "DELTAWATCH_CORRECTION_SHARE", value_parser = share)]
    pub correction_share: f64,
    /// Share of payments that are withdrawn
    #[arg(long, value_name = "SHARE", default_value = "0.001", env = "DELTAWATCH_WITHDRAWAL_SHARE", value_parser = share)]
    pub withdrawal_share: f64,
}

impl GeneratorFlags {
    /// The generator's configuration.
    pub fn resolve(&self) -> GeneratorConfig {
        GeneratorConfig {
            seed: self.seed,
            rate_per_s: self.rate,
            start_ms: self.start,
            customers: self.customers,
            merchants: self.merchants,
            fraud_share: self.fraud_share,
            pattern_share: self.pattern_share,
            label_share: self.label_share,
            late_share: self.late_share,
            late_ms_max: self.late_max,
            duplicate_share: self.duplicate_share,
            correction_share: self.correction_share,
            withdrawal_share: self.withdrawal_share,
        }
    }
}
