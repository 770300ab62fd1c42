//! Threads that write: one per output and process, behind a bounded channel.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::flow::Epoch;
use crate::metrics::Metrics;
use crate::sink::features::{FeatureLog, FeatureRows};
use crate::sink::port::Port;
use crate::sink::{Acknowledged, Acknowledgements, OutputRecord, Refused, SinkError, Writer};

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
    /// Everything of epochs up to this one has been written, and nothing of later ones.
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError>;
    /// The last epoch that was committed and is acknowledged.
    fn acknowledged(&self) -> Option<Acknowledged>;
    /// What is written to.
    fn target(&self) -> String;
    /// How long its file was when it was opened, bytes.
    fn begins(&self) -> u64;
    /// Returns once everything is acknowledged.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// What workers send to an outlet.
#[derive(Debug)]
pub enum Parcel<B> {
    /// Something of an epoch.
    Batch(Epoch, B),
    /// All workers have sent everything of epochs up to this one.
    Closed(Epoch),
}

/// How an outlet reports how far it has come.
pub struct Reporting {
    /// The flag that names the output.
    pub flag: &'static str,
    /// What an earlier run has written: to come as far again is no news.
    pub done: Option<Epoch>,
    /// To whom.
    pub to: Arc<Acknowledgements>,
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

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        Writer::commit(&mut **self, epoch)
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        Writer::acknowledged(&**self)
    }

    fn target(&self) -> String {
        Writer::target(&**self)
    }

    fn begins(&self) -> u64 {
        Writer::begins(&**self)
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

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        FeatureLog::commit(self, epoch)
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        FeatureLog::acknowledged(self)
    }

    fn target(&self) -> String {
        FeatureLog::target(self).to_owned()
    }

    fn begins(&self) -> u64 {
        FeatureLog::begins(self)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        FeatureLog::finish(self)
    }
}

/// A running writer thread.
pub struct Outlet<B> {
    sender: Sender<Parcel<B>>,
    thread: JoinHandle<Result<(), SinkError>>,
}

impl<B: Send + 'static> Outlet<B> {
    /// Starts the thread. `refuse` is told of records that cannot be written. If writing fails, `stop` is set and what still comes is
    /// discarded; `join` returns the error. With `reporting`, epochs are written one after the other, each once it is closed.
    pub fn spawn(
        name: &str,
        outbound: impl Outbound<Batch = B>,
        stop: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
        refuse: impl FnMut(Refused) + Send + 'static,
        reporting: Option<Reporting>,
    ) -> std::io::Result<Self> {
        let delivery = EpochDelivery::new(outbound, reporting);
        let (sender, receiver) = bounded(BATCHES_MAX);
        let who = name.to_owned();
        let run = move || {
            let say = |why| metrics.vitals.trouble(&who, why);
            let result = write_all(delivery, &receiver, say, refuse);
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
    pub fn sender(&self) -> Sender<Parcel<B>> {
        self.sender.clone()
    }

    /// Waits until everything is written and acknowledged. All other senders must be gone.
    pub fn join(self) -> Result<(), SinkError> {
        drop(self.sender);
        self.thread.join().unwrap_or_else(|_| Err(SinkError::External("an output thread panicked".into())))
    }
}

fn write_all<O: Outbound>(
    mut delivery: EpochDelivery<O>,
    receiver: &Receiver<Parcel<O::Batch>>,
    say: impl Fn(Option<String>),
    mut refuse: impl FnMut(Refused),
) -> Result<(), SinkError> {
    let mut said = None;
    loop {
        delivery.outbound.refused().into_iter().for_each(&mut refuse);
        let trouble = delivery.outbound.trouble();
        if trouble != said {
            said = trouble.clone();
            say(trouble);
        }
        delivery.report()?;
        match receiver.try_recv().or_else(|_| {
            delivery.idle()?;
            receiver.recv_timeout(IDLE).map_err(Waited::from)
        }) {
            Ok(parcel) => delivery.take(parcel)?,
            Err(Waited::Timeout) => {}
            Err(Waited::Disconnected) => return delivery.end(refuse),
            Err(Waited::Failed(error)) => return Err(error),
        }
    }
}

/// What an outlet's thread does: epochs one after the other, each once it is closed.
pub struct EpochDelivery<O: Outbound> {
    outbound: O,
    reporting: Option<Reporting>,
    /// What has come of epochs that are not closed.
    held: BTreeMap<Epoch, Vec<O::Batch>>,
    reported: Option<Acknowledged>,
    /// The last epoch that was closed.
    last: Epoch,
}

impl<O: Outbound> EpochDelivery<O> {
    /// To an output, which begins. Without `reporting` what comes is written at once.
    pub fn new(outbound: O, reporting: Option<Reporting>) -> Self {
        if let Some(Reporting { flag, done, to }) = &reporting {
            to.begin(flag, &outbound.target(), Acknowledged { epoch: *done, bytes: outbound.begins() });
        }
        EpochDelivery { outbound, reporting, held: BTreeMap::new(), reported: None, last: 0 }
    }

    /// Takes a parcel.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn take(&mut self, parcel: Parcel<O::Batch>) -> Result<(), SinkError> {
        match parcel {
            Parcel::Batch(epoch, batch) if self.reporting.is_some() => self.held.entry(epoch).or_default().push(batch),
            Parcel::Batch(_, batch) => self.outbound.write(batch)?,
            Parcel::Closed(epoch) => {
                self.last = epoch;
                self.write_closed()?;
                self.outbound.commit(epoch)?;
            }
        }
        Ok(())
    }

    fn write_closed(&mut self) -> Result<(), SinkError> {
        let open = self.held.split_off(&(self.last + 1));
        let closed = std::mem::replace(&mut self.held, open);
        closed.into_values().flatten().try_for_each(|batch| self.outbound.write(batch))
    }

    /// Makes progress while nothing comes.
    ///
    /// # Errors
    /// If that fails.
    pub fn idle(&mut self) -> Result<(), SinkError> {
        self.outbound.idle()
    }

    /// Says how far the output has come, if that is news.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn report(&mut self) -> Result<(), SinkError> {
        let Some(Reporting { flag, done, to }) = &self.reporting else { return Ok(()) };
        match self.outbound.acknowledged() {
            Some(acknowledged) if acknowledged.epoch > *done && self.reported != Some(acknowledged) => {
                self.reported = Some(acknowledged);
                to.note(flag, &self.outbound.target(), acknowledged).map_err(not_noted)
            }
            _ => Ok(()),
        }
    }

    /// Nothing comes any more. What an open epoch has is written after a restart; what another output could not write belongs to a
    /// closed one.
    ///
    /// # Errors
    /// If what is left cannot be written.
    pub fn end(mut self, refuse: impl FnMut(Refused)) -> Result<(), SinkError> {
        self.write_closed()?;
        self.outbound.finish()?;
        self.outbound.refused().into_iter().for_each(refuse);
        self.report()?;
        // The last word; a failure here only means that more is said again after a restart.
        self.reporting.map_or(Ok(()), |reporting| reporting.to.settle().map_err(not_noted))
    }
}

fn not_noted(error: std::io::Error) -> SinkError {
    SinkError::External(format!("cannot write down in --state how far the outputs have come: {error}"))
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

/// A port that encodes items on the worker and sends them to an outlet. What belongs to epochs up to `done` an earlier run has
/// written already: it goes nowhere.
pub fn port<T: 'static, B: Send + 'static>(
    sender: Sender<Parcel<B>>,
    done: Option<Epoch>,
    mut encode: impl FnMut(Epoch, Vec<T>) -> B + 'static,
) -> Port<T> {
    let mut waiting = VecDeque::new();
    Box::new(move |items| {
        if let Some((epoch, items)) = items
            && !items.is_empty()
            && done.is_none_or(|done| epoch > done)
        {
            waiting.push_back(Parcel::Batch(epoch, encode(epoch, items)));
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

/// Tells an outlet that an epoch is closed; false if there is no room now.
pub type Close = Box<dyn Fn(Epoch) -> bool>;

/// Tells the outlets of a process which epochs are closed; held by one of its workers.
pub struct Closing {
    /// Each with the last epoch that it was told of.
    outlets: Vec<(Close, Option<Epoch>)>,
}

impl Closing {
    /// Of these outlets.
    pub fn new(outlets: impl IntoIterator<Item = Close>) -> Self {
        Closing { outlets: outlets.into_iter().map(|outlet| (outlet, None)).collect() }
    }

    /// All epochs up to this one have left the graph. Says whether every outlet knows it.
    pub fn close(&mut self, epoch: Epoch) -> bool {
        let mut all = true;
        for (send, told) in &mut self.outlets {
            if *told < Some(epoch) {
                if send(epoch) {
                    *told = Some(epoch);
                } else {
                    all = false;
                }
            }
        }
        all
    }
}

/// How an outlet is told that an epoch is closed.
pub fn closing<B: Send + 'static>(sender: Sender<Parcel<B>>) -> Close {
    Box::new(move |epoch| !matches!(sender.try_send(Parcel::Closed(epoch)), Err(TrySendError::Full(_))))
}
