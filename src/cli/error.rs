//! Why a command ended, and what the shell is told.

use std::io::Write;
use std::process::ExitCode;

use crate::dataflow::BuildError;
use crate::event::SchemaError;
use crate::runtime::job::JobError;
use crate::runtime::peers::PeerError;
use crate::runtime::redact::redact;
use crate::runtime::state::StateError;
use crate::score::model::ModelError;
use crate::score::rules::RuleError;
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::source::kafka::KafkaConfigError;

/// A failed command. The message is one line that says what to do.
#[derive(Debug)]
pub enum Failure {
    /// What was typed cannot be done: exit code 2.
    Usage(String),
    /// It could have been done, but something outside failed: exit code 1.
    Failed(String),
    /// It was stopped before it was done: exit code 3.
    Undrained(String),
    /// It was stopped before it had begun: exit code 0, and nothing to say.
    Stopped,
}

impl Failure {
    /// Says it on standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        ExitCode::from(self.say())
    }

    /// Says it on standard error and gives the number of the exit code.
    pub fn say(&self) -> u8 {
        let (message, code) = match self {
            Failure::Usage(message) => (message, 2),
            Failure::Failed(message) => (message, 1),
            Failure::Undrained(message) => (message, 3),
            Failure::Stopped => return 0,
        };
        // One line, whatever a library put into its message.
        let line: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // Whoever read standard error may have gone.
        let _ = writeln!(std::io::stderr(), "error: {}", redact(&line.join(" ")));
        code
    }
}

/// A flag and what is wrong with its value.
pub fn usage(flag: &str, value: impl std::fmt::Display, reason: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("{flag} {value}: {reason}"))
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::User(message) => Failure::Usage(message),
            SourceError::External(message) => Failure::Failed(message),
        }
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::User(message) => Failure::Usage(message),
            other => Failure::Failed(other.to_string()),
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Source(error) => error.into(),
            JobError::Sink(error) => error.into(),
            JobError::Build(error) => error.into(),
            JobError::Schema(error) => error.into(),
            JobError::Peers(PeerError::Stopped(reason)) => Failure::Undrained(reason),
            JobError::State(error) => error.into(),
            // What a panicked worker leaves behind says nothing; the panic has been reported.
            JobError::Cluster(reason) if reason.contains("Any") => {
                Failure::Failed("a worker panicked, see above; please report it with the command and the input".into())
            }
            other => Failure::Failed(other.to_string()),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Lock(reason) => Failure::Usage(reason),
            busy @ StateError::Busy(_) => Failure::Usage(busy.to_string()),
            other => Failure::Failed(other.to_string()),
        }
    }
}

macro_rules! usage_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Usage(error.to_string())
            }
        })+
    };
}

usage_errors!(BuildError, SchemaError, ModelError, RuleError, KafkaConfigError);
