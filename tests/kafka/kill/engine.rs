//! The engine as a process, whose end is told.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::live::health;

/// The longest that a run may take for anything, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// So often in a row nothing must be left to read.
const QUIET: usize = 10;

/// What a run is told.
pub struct Flags {
    pub brokers: String,
    pub input: String,
    pub output: String,
    pub state: PathBuf,
    pub delivery: &'static str,
}

impl Flags {
    /// What a run and a replay of it have in common.
    pub fn common(&self) -> Vec<String> {
        let flags = [
            "--dataflow",
            "payments",
            "--workers",
            "2",
            "--log",
            "error",
            "--brokers",
            &self.brokers,
            "--input",
            &format!("kafka:{}", self.input),
        ];
        flags.map(str::to_owned).to_vec()
    }

    fn run(&self) -> Vec<String> {
        let own = [
            "run",
            "--output",
            &format!("kafka:{}", self.output),
            "--state",
            &self.state.display().to_string(),
            "--delivery",
            self.delivery,
            "--cut-every",
            "150ms",
            "--metrics",
            "0",
        ];
        [own.map(str::to_owned).to_vec(), self.common()].concat()
    }
}

/// The binary, without the environment twins of whoever runs the tests. A file that may not grow is an error and no signal.
pub fn deltawatch(arguments: &[String]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_deltawatch")]).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DELTAWATCH_")) {
        command.env_remove(name);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A run in the background; it ends with the test.
pub struct Engine {
    child: Child,
    /// What it says, and where its page is, on standard error.
    said: Option<JoinHandle<String>>,
    page: std::sync::mpsc::Receiver<String>,
}

impl Engine {
    pub fn start(flags: &Flags) -> Self {
        let mut child = deltawatch(&flags.run()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (found, page) = std::sync::mpsc::channel();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("metrics   http://") {
                    let _ = found.send(rest.split('/').next().unwrap_or_default().to_owned());
                }
                said += &(line + "\n");
            }
            said
        });
        Engine { child, said: Some(said), page }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        // One that has ended by itself cannot be killed, and has said why.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    fn said(&mut self) -> String {
        self.said.take().map_or_else(String::new, |said| said.join().unwrap())
    }

    fn error(&mut self, status: ExitStatus) -> String {
        let said = self.said();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(status.code() == Some(1) && errors.len() == 1, "{status}, not one error: {said}");
        errors[0].to_owned()
    }

    /// Why it has ended, if it has.
    pub fn gave_up(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        Some(self.error(status))
    }

    fn wait(&mut self, what: &str) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// It must end with a line that says that there is no room in its directory.
    pub fn end_without_space(&mut self, state: &Path) {
        let status = self.wait("though its disk is full");
        let error = self.error(status);
        let full = ["No space left on device", "File too large"].iter().any(|words| error.contains(words));
        assert!(full && error.contains(&*state.to_string_lossy()), "not clear: {error}");
    }

    /// Lets it read what there is, and stops it then. The error is why it has ended before.
    pub fn read_to_the_end(&mut self) -> Result<(), String> {
        let (begin, mut quiet) = (Instant::now(), 0);
        let mut page = None;
        while quiet < QUIET {
            if let Some(error) = self.gave_up() {
                return Err(error);
            }
            page = page.or_else(|| self.page.try_recv().ok());
            let body = page.as_ref().map(|address| health(address, "/health").1).unwrap_or_default();
            quiet = if body["status"] == "ok" && body["lag_records"] == 0 { quiet + 1 } else { 0 };
            assert!(begin.elapsed() < PATIENCE, "it does not come to the end: {body}");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap().success());
        let status = self.wait("though it was told to");
        let said = self.said();
        assert!(status.success(), "{status}: {said}");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It has usually ended by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
