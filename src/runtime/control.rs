//! The control desk: a thread per process that makes deployments, and in the first process reads the control stream.
//!
//! ```text
//!  stream ─► [desk: parse, try] ─ group ─► authority ─ Prepare ─► [desk of every process: make] ─ made ─► authority ─ Bind ─► workers
//!                  └──── refused, applied ─► replies
//! ```
//!
//! One group is under way at a time: the next one is tried on the deployment that it makes. Messages that wait meanwhile become one group.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde_json::json;

use crate::epoch::ControlNext;
use crate::flow::{ControlGroup, DeploymentNumber, Epoch};
use crate::metrics::Metrics;
use crate::score::control::{ControlMessage, Deployments};
use crate::source::SourceError;
use crate::source::control::{ControlInput, ControlReader};

/// How often a stream is looked at that has nothing new.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often a stream is opened again that could not be.
const OPEN_EVERY: Duration = Duration::from_secs(1);

/// Messages of a group at most: they are parts of one binding.
const GROUP_MESSAGES_MAX: usize = 1_000;

/// Bytes of them, about.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Where control messages come from, and where it is said what became of them.
#[derive(Clone, Debug)]
pub struct ControlStream {
    /// What is read.
    pub input: ControlInput,
    /// A file that replies are added to, a line each.
    pub replies: Option<PathBuf>,
    /// What is there at the start is all, and takes effect by its time.
    pub bounded: bool,
}

enum Order {
    /// What was recorded is repeated: read the stream from where that has come to.
    Begin,
    Prepare(ControlGroup),
    Bound(DeploymentNumber, Epoch),
    Refused(DeploymentNumber, String),
}

/// The thread.
pub struct ControlDesk {
    end: ControlEnd,
    thread: JoinHandle<Result<(), SourceError>>,
}

/// A worker's end.
#[derive(Clone)]
pub struct ControlEnd {
    orders: Sender<Order>,
    next: Receiver<ControlNext>,
    begun: Arc<AtomicBool>,
    deployments: Deployments,
}

impl ControlDesk {
    /// Starts it. Only the first process has a stream.
    ///
    /// # Errors
    /// If the system has no thread, or replies cannot be written.
    pub fn start(
        deployments: Deployments,
        stream: Option<ControlStream>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceError> {
        let replies = stream.as_ref().and_then(|stream| stream.replies.clone());
        let replies = replies.map(|path| {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.map_err(|error| SourceError::User(format!("--control-replies {}: {error}", path.display())))
        });
        let replies = replies.transpose()?;
        let ((orders, ordered), (say, next)) = (unbounded(), unbounded());
        let end = ControlEnd { orders, next, begun: Arc::default(), deployments: deployments.clone() };
        let desk = Desk {
            deployments,
            stream,
            reader: None,
            replies,
            metrics,
            say,
            waiting: Vec::new(),
            tried: None,
            begun: false,
            trouble: None,
            told: false,
            failed: None,
        };
        let thread = thread::Builder::new().name("control".into()).spawn(move || desk.run(&ordered));
        let thread = thread.map_err(|error| SourceError::External(format!("cannot start a thread: {error}")))?;
        Ok(ControlDesk { end, thread })
    }

    /// A worker's end.
    pub fn end(&self) -> ControlEnd {
        self.end.clone()
    }

    /// Waits until it has said what became of all messages. All ends must be gone.
    ///
    /// # Errors
    /// If a replay could not read its stream to the end.
    pub fn finish(self) -> Result<(), SourceError> {
        drop(self.end);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(SourceError::External("the thread of the control stream panicked".into())))
    }
}

impl ControlEnd {
    /// What was recorded is repeated: the stream may be read.
    pub fn begin(&self) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            self.send(Order::Begin);
        }
    }

    /// What comes next, if there is something new.
    pub fn next(&self) -> Option<ControlNext> {
        self.next.try_recv().ok()
    }

    /// Has the deployment of a group made.
    pub fn prepare(&self, group: ControlGroup) {
        self.send(Order::Prepare(group));
    }

    /// An epoch has this deployment.
    pub fn bound(&self, number: DeploymentNumber, epoch: Epoch) {
        self.send(Order::Bound(number, epoch));
    }

    /// A process could not make this deployment.
    pub fn refused(&self, number: DeploymentNumber, reason: String) {
        self.send(Order::Refused(number, reason));
    }

    /// The deployments of this process.
    pub fn deployments(&self) -> &Deployments {
        &self.deployments
    }

    fn send(&self, order: Order) {
        // The thread goes on for as long as there are ends.
        let _ = self.orders.send(order);
    }
}

struct Desk {
    deployments: Deployments,
    stream: Option<ControlStream>,
    reader: Option<ControlReader>,
    replies: Option<File>,
    metrics: Arc<Metrics>,
    say: Sender<ControlNext>,
    /// Messages that were read and not tried yet.
    waiting: Vec<(u64, String)>,
    /// The group that is under way, with its messages.
    tried: Option<(ControlGroup, Vec<(u64, ControlMessage)>)>,
    /// The stream may be read.
    begun: bool,
    /// Why it cannot be, just now.
    trouble: Option<String>,
    /// It was said that nothing comes any more.
    told: bool,
    /// Why the stream of a replay could not be read to its end.
    failed: Option<SourceError>,
}

impl Desk {
    fn run(mut self, orders: &Receiver<Order>) -> Result<(), SourceError> {
        loop {
            // Whoever has no stream waits for orders alone.
            let ordered = match self.reader {
                Some(_) => orders.recv_timeout(LOOK_EVERY),
                None if self.begun => orders.recv_timeout(OPEN_EVERY),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match ordered {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.failed.map_or(Ok(()), Err),
            }
            orders.try_iter().for_each(|order| self.obey(order));
            if self.tried.is_none() && self.begun {
                match self.look() {
                    Ok(()) => self.trouble = None,
                    Err(error) => self.fail(error),
                }
                self.metrics.vitals.trouble("control", self.trouble.clone());
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Begin => self.begun = self.stream.is_some(),
            Order::Prepare(group) => self.deployments.make(&group),
            Order::Bound(number, epoch) => {
                if let Some((group, messages)) = self.tried.take_if(|(group, _)| group.number == number) {
                    for (offset, message) in messages {
                        self.reply(offset, Some(&message), &Ok((group.number, epoch)));
                    }
                }
            }
            Order::Refused(number, reason) => {
                // Before the next one is tried on it.
                self.deployments.give_up(number);
                if let Some((_, messages)) = self.tried.take_if(|(group, _)| group.number == number) {
                    for (offset, message) in messages {
                        self.reply(offset, Some(&message), &Err(reason.clone()));
                    }
                }
            }
        }
    }

    /// The stream cannot be read. A run goes on with what is deployed, says so, and tries again; a replay ends with the error.
    fn fail(&mut self, error: SourceError) {
        let why = error.to_string();
        if self.trouble.as_ref() != Some(&why) {
            tracing::error!(why, "the control stream cannot be read");
        }
        self.trouble = Some(why);
        if self.stream.as_ref().is_some_and(|stream| stream.bounded) {
            (self.reader, self.begun) = (None, false);
            self.failed = Some(error);
            self.tell(ControlNext::Nothing);
        }
    }

    /// Tries what has come, and says what is next.
    fn look(&mut self) -> Result<(), SourceError> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(stream.input.open(self.deployments.upper(), stream.bounded)?),
        };
        let all = reader.poll(GROUP_MESSAGES_MAX, &mut self.waiting)?;
        let bounded = stream.bounded;
        while !self.waiting.is_empty() {
            let (messages, upper, ms) = self.take(bounded);
            let (group, tried) = self.deployments.try_next(messages.clone(), upper);
            let mut taken = Vec::new();
            for ((offset, message), (_, refused)) in messages.into_iter().zip(tried) {
                match refused {
                    Some(reason) => self.reply(offset, Some(&message), &Err(reason)),
                    None => taken.push((offset, message)),
                }
            }
            if let Some(group) = group {
                self.tried = Some((group.clone(), taken));
                self.tell(ControlNext::Group(group, ms));
                return Ok(());
            }
        }
        if all && bounded && !std::mem::replace(&mut self.told, true) {
            self.tell(ControlNext::Nothing);
        }
        Ok(())
    }

    /// The messages that take effect together next, the offset after them, and when, milliseconds. Those that are none are refused.
    fn take(&mut self, bounded: bool) -> (Vec<(u64, ControlMessage)>, u64, i64) {
        let (mut messages, mut count, mut upper, mut together_ms) = (Vec::new(), 0, 0, i64::MIN);
        let mut bytes = 0;
        for (offset, text) in &self.waiting[..self.waiting.len().min(GROUP_MESSAGES_MAX)] {
            let parsed = ControlMessage::parse(text);
            let time = parsed.as_ref().ok().and_then(|message| message.time);
            // One that names an earlier time than those before it comes behind them all the same.
            let ms = time.filter(|_| bounded).map_or(i64::MIN, |time| time.as_millisecond()).max(together_ms);
            bytes += text.len();
            if !messages.is_empty() && (ms > together_ms || bytes > GROUP_BYTES_MAX) {
                break;
            }
            match parsed {
                Ok(message) => {
                    together_ms = ms;
                    messages.push((*offset, message));
                }
                Err(reason) => {
                    say(&mut self.replies, &self.metrics, *offset, None, &Err(reason));
                }
            }
            (count, upper) = (count + 1, offset + 1);
        }
        self.waiting.drain(..count);
        (messages, upper, together_ms)
    }

    fn tell(&self, next: ControlNext) {
        // Whoever would hear it has gone at the end.
        let _ = self.say.send(next);
    }

    fn reply(&mut self, offset: u64, message: Option<&ControlMessage>, became: &Became) {
        say(&mut self.replies, &self.metrics, offset, message, became);
    }
}

/// What became of a message: the deployment that has it, and from which epoch on; or why it was refused.
type Became = Result<(DeploymentNumber, Epoch), String>;

fn say(replies: &mut Option<File>, metrics: &Metrics, offset: u64, message: Option<&ControlMessage>, became: &Became) {
    let (id, by) = message.map_or(("", ""), |message| (&message.id, &message.by));
    let mut reply = json!({"offset": offset, "id": id, "by": by});
    match became {
        Ok((deployment, epoch)) => {
            metrics.control_applied.add(1);
            tracing::info!(offset, id, by, deployment, epoch, "a control message takes effect");
            reply["status"] = json!("applied");
            reply["deployment"] = json!(deployment);
            reply["epoch"] = json!(epoch);
        }
        Err(reason) => {
            metrics.control_refused.add(1);
            tracing::error!(offset, id, by, reason, "a control message is refused");
            reply["status"] = json!("refused");
            reply["reason"] = json!(reason);
        }
    }
    if let Some(file) = replies
        // In one write, so that whoever reads it never sees half a line.
        && let Err(error) = file.write_all(format!("{reply}\n").as_bytes())
    {
        tracing::error!(%error, "a reply to a control message cannot be written");
        metrics.vitals.trouble("control", Some(format!("--control-replies: {error}")));
    }
}
