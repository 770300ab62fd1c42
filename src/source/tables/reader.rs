//! The worker's end of its references' threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::WantedTable;
use crate::event::{Lane, Limits, Partition};
use crate::flow::reference::Body;
use crate::flow::{Decoded, ReferenceRecord, Reject};
use crate::source::SourceError;

/// Batches that may wait between a thread and the worker.
const CHANNEL_BATCHES_MAX: usize = 16;

/// Records in one batch.
pub(super) const BATCH_RECORDS_MAX: usize = 4_096;

/// What a thread reads, and for whom.
pub(super) struct Share {
    pub wanted: WantedTable,
    pub state: Option<PathBuf>,
    pub bounded: bool,
    pub limits: Limits,
    /// The reference's number among those of the job.
    pub table: u32,
    pub worker: usize,
    pub workers: usize,
}

impl Share {
    /// A lane of this reference.
    pub fn lane(&self, partition: Partition) -> Lane {
        Lane::of_table(self.table, partition)
    }

    /// A record of this reference.
    pub fn record(&self, partition: Partition, offset: u64, time: i64, body: Body) -> Decoded {
        let (tag, lane) = (self.wanted.tag, self.lane(partition));
        Decoded::Reference(ReferenceRecord { to: 0, tag, time, lane, offset, body })
    }

    /// A record that is no row, as a reject of this reference.
    pub fn reject(&self, partition: Partition, reject: Reject) -> Decoded {
        let message = format!("reference '{}': {}", self.wanted.reference.name(), reject.message);
        Decoded::Reject(Reject { lane: self.lane(partition), message, ..reject })
    }
}

enum Message {
    Batch(Vec<Decoded>),
    /// What was there at the start has been sent.
    Loaded,
    Failed(SourceError),
}

/// The thread's end: sends, and knows when the worker has gone.
pub(super) struct Handover {
    sender: Sender<Message>,
    worker: Thread,
    stopped: Arc<AtomicBool>,
}

/// The worker has gone: end quietly.
pub(super) struct Gone;

impl Handover {
    /// Hands records over, and waits while the channel is full.
    pub fn send(&self, records: Vec<Decoded>) -> Result<(), Gone> {
        if records.is_empty() {
            return Ok(());
        }
        self.put(Message::Batch(records))
    }

    /// Says that the initial content is complete.
    pub fn loaded(&self) -> Result<(), Gone> {
        self.put(Message::Loaded)
    }

    /// Waits. An error if the worker has gone meanwhile.
    pub fn sleep(&self, time: Duration) -> Result<(), Gone> {
        thread::park_timeout(time);
        if self.stopped.load(Ordering::Relaxed) { Err(Gone) } else { Ok(()) }
    }

    fn put(&self, message: Message) -> Result<(), Gone> {
        self.sender.send(message).map_err(|_| Gone)?;
        self.worker.unpark();
        Ok(())
    }
}

struct TableThread {
    receiver: Receiver<Message>,
    loaded: bool,
    /// Nothing more will come.
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

/// Reads one worker's share of all references.
#[derive(Default)]
pub struct ReferenceReader {
    sources: Vec<TableThread>,
    stopped: Arc<AtomicBool>,
}

impl ReferenceReader {
    /// Moves what is ready into `into`, in offset order per lane, without blocking.
    pub fn poll(&mut self, into: &mut Vec<Decoded>) -> Result<(), SourceError> {
        for source in &mut self.sources {
            while !source.ended {
                match source.receiver.try_recv() {
                    Ok(Message::Batch(records)) => into.extend(records),
                    Ok(Message::Loaded) => source.loaded = true,
                    Ok(Message::Failed(error)) => return Err(error),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => (source.ended, source.loaded) = (true, true),
                }
            }
        }
        Ok(())
    }

    /// Whether everything that was there at the start has been handed out.
    pub fn is_loaded(&self) -> bool {
        self.sources.iter().all(|source| source.loaded)
    }

    /// Starts a thread that reads a share. The caller is the worker that will poll.
    pub(super) fn start(
        &mut self,
        share: Share,
        run: impl FnOnce(&Share, &Handover) -> Result<Result<(), Gone>, SourceError> + Send + 'static,
    ) -> Result<(), SourceError> {
        let (sender, receiver) = bounded(CHANNEL_BATCHES_MAX);
        let outlet = Handover { sender, worker: thread::current(), stopped: self.stopped.clone() };
        let name = format!("reference-{}", share.wanted.reference.name());
        let body = move || {
            if let Err(error) = run(&share, &outlet) {
                // A worker that has gone needs no error.
                let _ = outlet.put(Message::Failed(error));
            }
            outlet.worker.unpark();
        };
        let thread = thread::Builder::new().name(name).spawn(body);
        let thread = thread.map_err(|error| SourceError::External(format!("cannot start a thread: {error}")))?;
        self.sources.push(TableThread { receiver, loaded: false, ended: false, thread: Some(thread) });
        Ok(())
    }
}

impl Drop for ReferenceReader {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for source in &mut self.sources {
            // A full channel is closed by this, a sleep ended by the other.
            source.receiver = bounded(0).1;
            let Some(thread) = source.thread.take() else { continue };
            thread.thread().unpark();
            // It has no result; a panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
