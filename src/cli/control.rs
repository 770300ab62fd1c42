//! Control messages on their way to a running engine: added to a file, or to a topic.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::error::{Failure, usage};
use super::flags::KafkaFlags;
use super::values::OutputName;
use crate::score::control::{ControlChange, ControlMessage, MESSAGE_VERSION};
use crate::sink::kafka::KafkaWriter;
use crate::sink::{Headers, OutputRecord, Writer};

/// How long a broker may take to acknowledge messages.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where messages go, and what they say of themselves.
#[derive(Args, Debug)]
pub struct ControlFlags {
    /// The control stream of the engine: a file that is added to, `-` to print them, or a topic
    #[arg(long, value_name = "FILE|-|kafka:TOPIC", env = "DELTAWATCH_CONTROL", value_parser = OutputName::parse)]
    control: OutputName,
    /// Who sends it; the reply repeats it
    #[arg(long, value_name = "NAME", env = "DELTAWATCH_BY", default_value = "")]
    by: String,
    /// What the message is called; the reply repeats it
    #[arg(long, value_name = "NAME", env = "DELTAWATCH_MESSAGE_ID", default_value = "")]
    message_id: String,
    /// When it takes effect in a replay of files
    #[arg(long, value_name = "TIME", env = "DELTAWATCH_TIME")]
    time: Option<jiff::Timestamp>,
    #[command(flatten)]
    kafka: KafkaFlags,
}

impl ControlFlags {
    /// Sends changes, a message each, in order.
    pub fn send(&self, changes: impl IntoIterator<Item = ControlChange>) -> Result<(), Failure> {
        let message = |change| {
            let (id, by, time) = (self.message_id.clone(), self.by.clone(), self.time);
            ControlMessage { version: MESSAGE_VERSION, id, by, time, change }.to_json()
        };
        let messages: Vec<String> = changes.into_iter().map(message).collect();
        let count = messages.len();
        match &self.control {
            OutputName::Path(path) => add(path, &messages)?,
            OutputName::Kafka(topic) => self.produce(topic, messages)?,
        }
        if count != 1 {
            eprintln!("{count} messages sent");
        }
        Ok(())
    }

    fn produce(&self, topic: &str, messages: Vec<String>) -> Result<(), Failure> {
        let mut writer = KafkaWriter::open(&self.kafka.resolve()?, topic, None)?;
        for message in messages {
            let headers = Headers::default();
            let payload = Some(message.into_bytes());
            writer.write(OutputRecord { key: Vec::new(), payload, last_line: Vec::new(), headers, arrived_ns: 0 })?;
        }
        writer.commit(0)?;
        let begin = Instant::now();
        while writer.acknowledged().is_none() {
            writer.poll()?;
            if begin.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!(
                    "--control kafka:{topic}: the broker does not acknowledge the messages"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Adds lines to a file in one write, so that whoever reads it never sees half of one.
fn add(path: &str, messages: &[String]) -> Result<(), Failure> {
    let text: String = messages.iter().map(|message| format!("{message}\n")).collect();
    if path == "-" {
        return std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::Failed(error.to_string()));
    }
    let failed = |error| usage("--control", path, format!("cannot add to it: {error}"));
    let mut file = OpenOptions::new().create(true).append(true).open(Path::new(path)).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
