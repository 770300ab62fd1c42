//! One service at one worker: who waits for which key, and whether it is asked at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, Thread};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::AskedService;
use super::cache::Cache;
use super::client::{self, AskError};
use crate::event::{Limits, Payload, Record, Stand};
use crate::flow::reference::Cells;
use crate::metrics::Metrics;
use crate::source::SourceError;
use crate::source::clock::now_ns;
use crate::source::tables::RowDecoder;

/// What a service says of a key; `None`: it knows nothing.
pub(super) type Answer = Option<Cells>;

/// What an event gets when it asks.
pub(super) enum AnswerState {
    /// The answer is known.
    Now(Answer),
    /// The answer will come by [`Desk::receive`].
    Wait,
    /// Nobody is asked now: the fallback.
    Fallback,
}

struct Query {
    key: String,
    asked_ns: u64,
}

struct Response {
    key: String,
    result: Result<Answer, AskError>,
}

/// A service, as one worker sees it. `W` says who waits.
pub(super) struct Desk<W> {
    name: String,
    /// Absent if the service is not called at all.
    requests: Option<Sender<Query>>,
    responses: Receiver<Response>,
    waiting: HashMap<String, Vec<W>>,
    cache: Cache,
    breaker: Breaker,
    /// Keys waited for, as the metric has it.
    reported: usize,
    metrics: Arc<Metrics>,
}

impl<W> Desk<W> {
    /// Starts the threads that ask, if the service is to be called.
    pub fn open(asked: &AskedService, live: bool, metrics: Arc<Metrics>) -> Result<Self, SourceError> {
        let settings = &asked.settings;
        let (requests, queue) = bounded(settings.queue_max);
        // Each request gives one response, so this never fills.
        let (done, responses) = bounded(settings.queue_max + settings.in_flight_max);
        let threads = if live { settings.in_flight_max } else { 0 };
        for index in 0..threads {
            let (asked, queue, done, worker) = (asked.clone(), queue.clone(), done.clone(), thread::current());
            let metrics = metrics.clone();
            let thread = thread::Builder::new().name(format!("ask-{}-{index}", asked.name));
            let started = thread.spawn(move || serve(&asked, &queue, &done, &worker, &metrics));
            started.map_err(|error| SourceError::External(format!("cannot start a thread: {error}")))?;
        }
        Ok(Desk {
            name: asked.name.clone(),
            requests: live.then_some(requests),
            responses,
            waiting: HashMap::new(),
            cache: Cache::new(settings.cache_entries_max, settings.cache_ms),
            breaker: Breaker::new(settings.failures_max, settings.pause_ms),
            reported: 0,
            metrics,
        })
    }

    /// Asks for a key on behalf of `waiter`. One request serves all who wait for the same key.
    pub fn ask(&mut self, key: String, waiter: W, now_ns: u64) -> AnswerState {
        let Some(requests) = &self.requests else { return AnswerState::Fallback };
        if let Some(answer) = self.cache.get(&key, now_ns) {
            self.metrics.service_hits.add(1);
            return AnswerState::Now(answer.clone());
        }
        if let Some(waiters) = self.waiting.get_mut(&key) {
            self.metrics.service_hits.add(1);
            waiters.push(waiter);
            return AnswerState::Wait;
        }
        if !self.breaker.lets_through(now_ns)
            || requests.try_send(Query { key: key.clone(), asked_ns: now_ns }).is_err()
        {
            return AnswerState::Fallback;
        }
        self.breaker.asked();
        self.waiting.insert(key, vec![waiter]);
        AnswerState::Wait
    }

    /// Takes the answers that have come, with those who waited; `None`: the request failed.
    pub fn receive(&mut self, now_ns: u64, mut each: impl FnMut(W, Option<&Answer>)) {
        while let Ok(Response { key, result }) = self.responses.try_recv() {
            let waiters = self.waiting.remove(&key).unwrap_or_default();
            match &result {
                Ok(answer) => {
                    self.breaker.succeeded();
                    self.cache.put(key, answer.clone(), now_ns);
                }
                Err(error) => {
                    match error {
                        AskError::Timeout => self.metrics.service_timeouts.add(1),
                        AskError::Failed(_) => self.metrics.service_errors.add(1),
                    }
                    if self.breaker.failed(now_ns) {
                        tracing::warn!(
                            service = self.name,
                            %error,
                            "a service fails again and again; it is left alone for a while"
                        );
                    }
                }
            }
            waiters.into_iter().for_each(|waiter| each(waiter, result.as_ref().ok()));
        }
        if self.reported != self.waiting.len() {
            self.reported = self.waiting.len();
            self.metrics.service_in_flight.set_own(&self.name, self.reported as u64);
        }
    }
}

/// A thread that asks, until the worker has gone.
fn serve(asked: &AskedService, queue: &Receiver<Query>, done: &Sender<Response>, worker: &Thread, metrics: &Metrics) {
    let mut client = client::open(&asked.settings);
    let mut decoder = RowDecoder::new(asked.reference.clone(), Limits::default());
    let timeout_ns = asked.settings.timeout_ms.saturating_mul(1_000_000);
    while let Ok(Query { key, asked_ns }) = queue.recv() {
        let start_ns = now_ns();
        let result = if start_ns.saturating_sub(asked_ns) > timeout_ns {
            // Nobody waits any more, and those behind it should not wait for it either.
            Err(AskError::Timeout)
        } else {
            metrics.service_requests.add(1);
            let result = client.ask(&key).and_then(|answer| answer.map(|json| cells(&mut decoder, json)).transpose());
            metrics.service_latency.record_ns(now_ns().saturating_sub(start_ns));
            result
        };
        if done.send(Response { key, result }).is_err() {
            return;
        }
        worker.unpark();
    }
}

fn cells(decoder: &mut RowDecoder, json: Vec<u8>) -> Result<Cells, AskError> {
    let payload = Payload::Json(json);
    let record = Record { partition: 0, offset: 0, timestamp_ms: 0, arrived_ns: 0, stand: Stand::default(), payload };
    decoder.cells(&record).map_err(|reject| AskError::Failed(format!("answers what is no row: {}", reject.message)))
}

/// Keeps events from waiting for a service that fails.
struct Breaker {
    failures_max: u32,
    pause_ns: u64,
    failures: u32,
    closed_until_ns: u64,
    /// The one request that tries again.
    trying: bool,
}

impl Breaker {
    fn new(failures_max: u32, pause_ms: u64) -> Self {
        let pause_ns = pause_ms.saturating_mul(1_000_000);
        Breaker { failures_max, pause_ns, failures: 0, closed_until_ns: 0, trying: false }
    }

    fn lets_through(&self, now_ns: u64) -> bool {
        self.failures < self.failures_max || (now_ns >= self.closed_until_ns && !self.trying)
    }

    fn asked(&mut self) {
        self.trying = self.failures >= self.failures_max;
    }

    fn succeeded(&mut self) {
        (self.failures, self.trying) = (0, false);
    }

    /// Notes a failure; says whether the service is left alone from now on.
    fn failed(&mut self, now_ns: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.trying = false;
        if self.failures >= self.failures_max {
            self.closed_until_ns = now_ns.saturating_add(self.pause_ns);
        }
        self.failures == self.failures_max
    }
}
