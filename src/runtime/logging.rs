//! Structured logs on standard error, without secrets.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::redact::Redacted;

/// Starts logging. `filter` is a level or a list like `info,deltawatch::source=debug`; the error says what is wrong with
/// it. A second call changes nothing.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|_| "write error, warn, info, debug, trace or a list like info,deltawatch::source=debug".to_owned())?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Redacted(std::io::stderr()));
    // Colours are for people, not for files.
    let logs = logs.with_ansi(std::io::stderr().is_terminal());
    let started = if json { logs.json().try_init() } else { logs.try_init() };
    // Someone else's logging is as good.
    drop(started);
    Ok(())
}
