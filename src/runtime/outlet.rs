//! Threads that write: one per output and process, behind a bounded channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::metrics::Metrics;
use crate::sink::features::{FeatureLog, FeatureRows};
use crate::sink::port::Port;
use crate::sink::{OutputRecord, Refused, SinkError, Writer};

/// Batches on their way to a writer. When the channel is full, epochs stay open and the sources wait.
const BATCHES_MAX: usize = 64;
/// How long a writer thread waits for a batch before it lets the writer make progress.
const IDLE: Duration = Duration::from_millis(1);

/// Something that batches are written to.
pub trait Outbound: Send + 'static {
    /// What is written at once.
    type Batch: Send + 'static;
    /// Writes a batch; may block.
    fn write(&mut self, batch: Self::Batch) -> Result<(), SinkError>;
    /// Makes progress; called when nothing is waiting.
    fn idle(&mut self) -> Result<(), SinkError>;
    /// What keeps it from writing just now.
    fn trouble(&self) -> Option<String> {
        None
    }
    /// Records that cannot be written, since the last call.
    fn refused(&mut self) -> Vec<Refused> {
        Vec::new()
    }
    /// Returns once everything is acknowledged.
    fn finish(&mut self) -> Result<(), SinkError>;
}

impl Outbound for Box<dyn Writer> {
    type Batch = Vec<OutputRecord>;

    fn write(&mut self, batch: Self::Batch) -> Result<(), SinkError> {
        batch.into_iter().try_for_each(|record| Writer::write(&mut **self, record))
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.poll()
    }

    fn trouble(&self) -> Option<String> {
        Writer::trouble(&**self)
    }

    fn refused(&mut self) -> Vec<Refused> {
        Writer::refused(&mut **self)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.flush()
    }
}

impl Outbound for FeatureLog {
    type Batch = FeatureRows;

    fn write(&mut self, batch: Self::Batch) -> Result<(), SinkError> {
        FeatureLog::write(self, &batch)
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.flush()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        FeatureLog::finish(self)
    }
}

/// A running writer thread.
pub struct Outlet<B> {
    sender: Sender<B>,
    thread: JoinHandle<Result<(), SinkError>>,
}

impl<B: Send + 'static> Outlet<B> {
    /// Starts the thread. `refuse` is told of records that cannot be written. If writing fails, `stop` is set and what still comes is discarded; `join` returns the error.
    pub fn spawn(
        name: &str,
        outbound: impl Outbound<Batch = B>,
        stop: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
        refuse: impl FnMut(Refused) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = bounded(BATCHES_MAX);
        let who = name.to_owned();
        let run = move || {
            let result = write_all(outbound, &receiver, |why| metrics.vitals.trouble(&who, why), refuse);
            metrics.vitals.trouble(&who, None);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
                receiver.iter().for_each(drop);
            }
            result
        };
        Ok(Outlet { sender, thread: thread::Builder::new().name(name.to_owned()).spawn(run)? })
    }

    /// Where workers send batches.
    pub fn sender(&self) -> Sender<B> {
        self.sender.clone()
    }

    /// Waits until everything is written and acknowledged. All other senders must be gone.
    pub fn join(self) -> Result<(), SinkError> {
        drop(self.sender);
        self.thread.join().unwrap_or_else(|_| Err(SinkError::External("an output thread panicked".into())))
    }
}

fn write_all<O: Outbound>(
    mut outbound: O,
    receiver: &Receiver<O::Batch>,
    say: impl Fn(Option<String>),
    mut refuse: impl FnMut(Refused),
) -> Result<(), SinkError> {
    let mut said = None;
    loop {
        outbound.refused().into_iter().for_each(&mut refuse);
        let trouble = outbound.trouble();
        if trouble != said {
            said = trouble.clone();
            say(trouble);
        }
        match receiver.try_recv().or_else(|_| {
            outbound.idle()?;
            receiver.recv_timeout(IDLE).map_err(Waited::from)
        }) {
            Ok(batch) => outbound.write(batch)?,
            Err(Waited::Timeout) => {}
            Err(Waited::Disconnected) => {
                outbound.finish()?;
                outbound.refused().into_iter().for_each(&mut refuse);
                return Ok(());
            }
            Err(Waited::Failed(error)) => return Err(error),
        }
    }
}

enum Waited {
    Timeout,
    Disconnected,
    Failed(SinkError),
}

impl From<RecvTimeoutError> for Waited {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::Timeout => Waited::Timeout,
            RecvTimeoutError::Disconnected => Waited::Disconnected,
        }
    }
}

impl From<SinkError> for Waited {
    fn from(error: SinkError) -> Self {
        Waited::Failed(error)
    }
}

/// A port that encodes items on the worker and sends them to an outlet.
pub fn port<T: 'static, B: Send + 'static>(
    sender: Sender<B>,
    mut encode: impl FnMut(Vec<T>) -> B + 'static,
) -> Port<T> {
    let mut waiting = VecDeque::new();
    Box::new(move |items| {
        if !items.is_empty() {
            waiting.push_back(encode(items));
        }
        while let Some(batch) = waiting.pop_front() {
            match sender.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => {
                    waiting.push_front(batch);
                    return false;
                }
                // The outlet has failed and said so; its error ends the run.
                Err(TrySendError::Disconnected(_)) => waiting.clear(),
            }
        }
        true
    })
}

/// A port to nowhere.
pub fn discard<T: 'static>() -> Port<T> {
    Box::new(|_| true)
}
