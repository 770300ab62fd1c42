//! Metrics and health over HTTP, on a thread of its own.
//!
//! * `GET /metrics`: all figures in the OpenMetrics text format.
//! * `GET /health`: one JSON object. 200 while all goes well or a stop drains; 503 with the reasons while the run has not
//!   started, repeats its log after a restart, has lost a broker, or closes no epoch although work waits.
//! * `GET /ready`: the same, and 503 also while it stops: whether events sent now are scored now.
//!
//! Nothing else is served, and nothing can be changed. Whoever connects is not trusted: one request per connection, no body
//! is read, and header bytes, the time for a header, the time of a connection and the number of connections have limits.
//! Beyond [`CONNECTIONS_MAX`] the oldest connection is closed, so that slow clients never keep out a new one.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::json;
use tokio::task::JoinHandle;

use super::redact::redact;
use crate::metrics::vitals::Phase;
use crate::metrics::{Latency, Metrics};
use crate::source::clock::now_ns;

/// Upper bounds of the latency histogram's buckets, milliseconds.
const LATENCY_BUCKETS_MS: [f64; 17] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 60_000.0,
];

/// The same of the age of events, milliseconds.
const AGE_BUCKETS_MS: [f64; 12] =
    [100.0, 1e3, 5e3, 10e3, 60e3, 300e3, 900e3, 3_600e3, 6.0 * 3_600e3, 86_400e3, 7.0 * 86_400e3, 30.0 * 86_400e3];

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 128;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a client may take for its head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a connection may take, all in all.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Work that waits for so long without an epoch being closed is a fault.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked whether epochs advance.
const PULSE: Duration = Duration::from_millis(500);

/// Starts serving, for the rest of the process. The error says why the address cannot be had.
pub fn serve(address: SocketAddr, metrics: Arc<Metrics>, job: String) -> Result<SocketAddr, String> {
    let failed = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(metrics.clone())));
    let page = Arc::new(Page { registry, metrics, job, pulse: Mutex::new((0, Instant::now())) });
    let serve = move || {
        let served = runtime.block_on(accept(listener, page));
        if let Err(error) = served {
            tracing::error!(%error, "metrics and health are not served any more");
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(serve).map_err(failed)?;
    Ok(bound)
}

/// What is shown.
struct Page {
    registry: Registry,
    metrics: Arc<Metrics>,
    job: String,
    /// Epochs bound when last looked at, and since when it has been as many, or nothing waited.
    pulse: Mutex<(u64, Instant)>,
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, page: Arc<Page>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let beating = page.clone();
    tokio::spawn(async move {
        loop {
            beating.beat();
            tokio::time::sleep(PULSE).await;
        }
    });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /metrics, /health and /ready\n") })
        .with_state(page);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false);
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly a lack of descriptors: some will be free in a moment.
                tracing::debug!(%error, "a reader of the metrics could not connect");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= CONNECTIONS_MAX {
            open.pop_front().inspect(JoinHandle::abort);
        }
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        open.push_back(tokio::spawn(async move {
            match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a reader of the metrics was refused or went away"),
                Err(_) => tracing::debug!("a reader of the metrics was too slow"),
            }
        }));
    }
}

async fn metrics(State(page): State<Arc<Page>>) -> impl IntoResponse {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut text, &page.registry);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

async fn health(State(page): State<Arc<Page>>) -> impl IntoResponse {
    page.health(true)
}

async fn ready(State(page): State<Arc<Page>>) -> impl IntoResponse {
    page.health(false)
}

impl Page {
    /// Looks whether epochs advance.
    fn beat(&self) {
        let metrics = &self.metrics;
        let (bound, waits) = (metrics.bound.get(), self.waiting() > 0);
        let mut pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        if pulse.0 != bound || !waits {
            *pulse = (bound, Instant::now());
        }
    }

    /// Records and keys that wait for an epoch.
    fn waiting(&self) -> u64 {
        self.metrics.stashed.get() + self.metrics.backlog.get()
    }

    /// What is wrong, and the word for it.
    fn state(&self, may_stop: bool) -> (&'static str, Vec<String>) {
        let vitals = &self.metrics.vitals;
        let mut reasons = vitals.troubles();
        let state = match vitals.phase() {
            Phase::Starting(waits) => {
                reasons.insert(0, waits);
                return ("starting", reasons);
            }
            Phase::Stopping if may_stop => "stopping",
            Phase::Stopping => {
                reasons.insert(0, "it was asked to stop".to_owned());
                return ("stopping", reasons);
            }
            Phase::Running => "ok",
        };
        if vitals.repeating() > 0 {
            reasons.insert(0, format!("repeats its log after a restart: {} epochs are left", vitals.repeating()));
            return ("recovering", reasons);
        }
        let since = self.pulse.lock().unwrap_or_else(PoisonError::into_inner).1.elapsed();
        if since >= STALLED_AFTER {
            let (seconds, waiting) = (since.as_secs(), self.waiting());
            reasons.push(format!("no epoch has closed for {seconds} s although {waiting} records or keys wait"));
        }
        if reasons.is_empty() { (state, reasons) } else { ("failing", reasons) }
    }

    fn health(&self, may_stop: bool) -> impl IntoResponse + use<> {
        let (status, reasons) = self.state(may_stop);
        let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let metrics = &self.metrics;
        let body = json!({
            "status": status,
            "reasons": reasons.iter().map(|reason| redact(reason)).collect::<Vec<_>>(),
            "job": redact(&self.job),
            "up_s": now_ns() / 1_000_000_000,
            "events": metrics.events.get(),
            "rejects": metrics.rejects.get(),
            "scored": metrics.scored.get(),
            "revised": metrics.revised.get(),
            "acknowledged": metrics.acknowledged.get(),
            "lag_records": metrics.lag.get(),
            "backlog_keys": metrics.backlog.get(),
            "epochs": metrics.epochs.get(),
        });
        (code, [(header::CONTENT_TYPE, "application/json")], body.to_string() + "\n")
    }
}

/// Reads the engine's counters when asked.
#[derive(Debug)]
struct Collected(Arc<Metrics>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for (name, help, grows, value) in self.0.all() {
            let name = format!("deltawatch_{name}");
            let help = help.trim_end_matches('.');
            if grows {
                let metric = ConstCounter::new(value);
                metric.encode(encoder.encode_descriptor(&name, help, None, MetricType::Counter)?)?;
            } else {
                let metric = ConstGauge::new(value as i64);
                metric.encode(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?)?;
            }
        }
        let mut rejects =
            encoder.encode_descriptor("deltawatch_rejects", "Records refused, by reason", None, MetricType::Counter)?;
        for (reason, count) in self.0.rejects.by_reason() {
            ConstCounter::new(count).encode(rejects.encode_family(&[("reason", reason)])?)?;
        }
        let help = "Transactions decided, by action";
        let mut decisions = encoder.encode_descriptor("deltawatch_decisions", help, None, MetricType::Counter)?;
        for (action, count) in self.0.decisions.by_action() {
            ConstCounter::new(count).encode(decisions.encode_family(&[("action", action)])?)?;
        }
        let help = "Transactions that a rule matched when they came, by rule";
        let mut rules = encoder.encode_descriptor("deltawatch_rule_hits", help, None, MetricType::Counter)?;
        for (rule, count) in self.0.rule_hits.by_rule() {
            ConstCounter::new(count).encode(rules.encode_family(&[("rule", &*rule)])?)?;
        }
        let help = "Bytes of entries and keys, by key kind";
        let mut bytes = encoder.encode_descriptor("deltawatch_retained_bytes_by_key", help, None, MetricType::Gauge)?;
        for (key, count) in self.0.retained_bytes_by_key.get() {
            ConstGauge::new(count as i64).encode(bytes.encode_family(&[("key", key)])?)?;
        }
        let by_name = [
            ("deltawatch_reference_rows", "Rows of reference collections, by look-up", &self.0.reference_rows),
            ("deltawatch_view_backlog", "Keys with rows to repair, by view", &self.0.backlog_of),
            ("deltawatch_service_in_flight", "Keys that services are being asked for", &self.0.service_in_flight),
        ];
        for (name, help, values) in by_name {
            let mut gauges = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (key, count) in values.get() {
                ConstGauge::new(count as i64).encode(gauges.encode_family(&[("name", key)])?)?;
            }
        }
        Self::latency(
            &mut encoder,
            "deltawatch_service_latency",
            "From a request to a service to its answer",
            &LATENCY_BUCKETS_MS,
            &self.0.service_latency,
        )?;
        let help = "From an event's own time to its first assessment";
        Self::latency(&mut encoder, "deltawatch_event_age", help, &AGE_BUCKETS_MS, &self.0.event_age)?;
        let help = "From arrival to acknowledged output";
        Self::latency(&mut encoder, "deltawatch_latency", help, &LATENCY_BUCKETS_MS, &self.0.latency)
    }
}

impl Collected {
    fn latency(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        bounds_ms: &[f64],
        latency: &Latency,
    ) -> Result<(), std::fmt::Error> {
        let bounds_ns: Vec<u64> = bounds_ms.iter().map(|ms| (ms * 1e6) as u64).collect();
        let (count, mean_ns, below) = latency.buckets(&bounds_ns);
        // The encoder wants the records of each bucket alone and adds them up itself.
        let mut before = 0;
        let mut buckets = Vec::with_capacity(below.len() + 1);
        for (ms, below) in bounds_ms.iter().zip(below) {
            buckets.push((ms / 1_000.0, below.saturating_sub(before)));
            before = below.max(before);
        }
        buckets.push((f64::INFINITY, count.saturating_sub(before)));
        encoder
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(mean_ns * count as f64 / 1e9, count, &buckets, None)
    }
}
