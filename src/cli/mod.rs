//! The command line: one file per subcommand.
//!
//! ```text
//!  argv, DELTAWATCH_* ──► flags (typed, as they were written) ──► plan, cluster (what will run) ──► runtime::job
//! ```
//!
//! What holds: data goes to standard output, everything said about it to standard error. Exit code 0 is done (also after
//! an interrupt that was drained), 1 failed, 2 wrong usage, 3 stopped before everything that was read was done. An error is
//! one line that names the flag and how to mend it.
//!
//! A binary of one's own dataflows is `fn main() -> ExitCode { deltawatch::cli::main(&my::all()) }`.

mod ask;
mod cluster;
mod control;
mod dataflow;
mod error;
mod explain;
mod flags;
mod generate;
mod interrupt;
mod lists;
mod models;
mod outputs;
mod plan;
mod progress;
mod rejects;
mod replay;
mod rules;
mod run;
mod state;
mod values;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::dataflow::Dataflow;
use crate::runtime::logging;
use crate::runtime::redact::redact;
use crate::score::model::threads::pin_threads;

use error::{Failure, usage};
use flags::{LogFlags, LogFormat};

/// Scores transactions for fraud while they happen
#[derive(Parser, Debug)]
#[command(
    name = "deltawatch",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Start here:\n  deltawatch run                         score generated payments, diffs as JSON lines\n  \
                  deltawatch dataflow list               what can be computed\n  \
                  deltawatch replay --help               backtest files and topics\n\n\
                  Every flag has an environment twin: --label-horizon is DELTAWATCH_LABEL_HORIZON."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::RunFlags),
    Replay(replay::ReplayFlags),
    Generate(generate::GenerateFlags),
    Rejects(rejects::RejectsFlags),
    Dataflow(dataflow::DataflowFlags),
    Rules(rules::RulesFlags),
    Lists(lists::ListsFlags),
    Models(models::ModelsFlags),
    State(state::StateFlags),
    Verify(verify::VerifyFlags),
    Explain(explain::ExplainFlags),
}

/// A peer is lost, and some thread says so.
static LOST: AtomicBool = AtomicBool::new(false);

/// Parses the command line and does what it says. To be called first in `main`, before any thread is started: it pins the
/// threads of the models' library through the environment.
pub fn main(dataflows: &[Arc<dyn Dataflow>]) -> ExitCode {
    main_from(std::env::args_os(), dataflows)
}

/// The same with another command line, whose first word is the program's name.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>, dataflows: &[Arc<dyn Dataflow>]) -> ExitCode {
    pin_threads();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        if let Some(why) = lost(panic, thread.name()) {
            // The threads that read and write a connection find out at once; one of them says it and ends the process.
            while LOST.swap(true, Ordering::Relaxed) {
                std::thread::park();
            }
            let _ = writeln!(std::io::stderr(), "error: {why}");
            // What was written so far reaches its files meanwhile.
            std::thread::sleep(FLUSHED);
            std::process::exit(1);
        }
        // Whoever read standard error may have gone.
        let name = thread.name().unwrap_or("without a name");
        let _ = writeln!(std::io::stderr(), "deltawatch has a bug: thread {name}: {}", redact(&panic.to_string()));
    }));
    let parsed =
        hidden(Cli::command()).try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return complain(&error),
    };
    let done = match cli.command {
        Command::Run(flags) => flags.run(dataflows),
        Command::Replay(flags) => flags.run(dataflows),
        Command::Generate(flags) => flags.run(dataflows),
        Command::Rejects(flags) => flags.run(),
        Command::Dataflow(flags) => flags.run(dataflows),
        Command::Rules(flags) => flags.run(dataflows),
        Command::Lists(flags) => flags.run(),
        Command::Models(flags) => flags.run(),
        Command::State(flags) => flags.run(),
        Command::Verify(flags) => flags.run(dataflows),
        Command::Explain(flags) => flags.run(dataflows),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help names the environment twins and not what they hold: that may be a secret.
fn hidden(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(hidden)
}

/// How long writers get to hand on what they have.
const FLUSHED: Duration = Duration::from_millis(100);

/// What is said if a panic is timely's way of saying that a process of the cluster has gone.
fn lost(panic: &std::panic::PanicHookInfo<'_>, thread: Option<&str>) -> Option<String> {
    let says = panic.payload().downcast_ref::<String>()?;
    let cause = says.strip_prefix("timely communication error: ")?;
    let peer = thread.and_then(|name| name.rsplit('-').next()).unwrap_or("?");
    Some(format!("process {peer} of the cluster was lost ({cause}); it says why itself; start all processes again"))
}

/// Help and version go to standard output; a wrong flag is one line like every other error.
fn complain(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Whoever asked for help has gone if this fails.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let said: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")).collect();
    let said = said.join(" ");
    let said = said.split("For more information").next().unwrap_or(&said).trim();
    Failure::Usage(format!("{said} (see --help)")).report()
}

impl LogFlags {
    fn start(&self) -> Result<(), Failure> {
        logging::start(&self.log, self.log_format == LogFormat::Json)
            .map_err(|reason| usage("--log", &self.log, reason))
    }
}
