//! Metrics and health over HTTP, on a thread of its own.
//!
//! `GET /metrics` answers in the OpenMetrics text format, `GET /health` with one JSON object. Nothing else is served, and
//! nothing can be changed. Requests are answered one after the other; each costs well under a millisecond.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::json;
use tiny_http::{Header, Method, Response, Server};

use super::clock::now_ns;
use super::metrics::{Latency, Metrics};

/// Upper bounds of the latency histogram's buckets, milliseconds.
const LATENCY_BUCKETS_MS: [f64; 17] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 60_000.0,
];

/// Starts serving, for the rest of the process. The error says why the address cannot be had.
pub fn serve(address: SocketAddr, metrics: Arc<Metrics>, job: String) -> Result<SocketAddr, String> {
    let server = Server::http(address).map_err(|error| error.to_string())?;
    let bound = server.server_addr().to_ip().unwrap_or(address);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(metrics.clone())));
    let answer = move || {
        for request in server.incoming_requests() {
            let path = request.url().split('?').next().unwrap_or_default();
            let sent = match (request.method(), path) {
                (Method::Get | Method::Head, "/metrics") => {
                    let mut page = String::new();
                    // Writing to a string cannot fail.
                    let _ = text::encode(&mut page, &registry);
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    request.respond(page_of(page, kind))
                }
                (Method::Get | Method::Head, "/health") => {
                    request.respond(page_of(health(&metrics, &job), "application/json"))
                }
                _ => {
                    let page = page_of("there is /metrics and /health\n".to_owned(), "text/plain");
                    request.respond(page.with_status_code(404))
                }
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "a reader of the metrics went away");
            }
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(answer).map_err(|error| error.to_string())?;
    Ok(bound)
}

fn page_of(body: String, kind: &str) -> Response<io::Cursor<Vec<u8>>> {
    let response = Response::from_string(body);
    match Header::from_bytes("Content-Type", kind) {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    }
}

fn health(metrics: &Metrics, job: &str) -> String {
    json!({
        "status": "ok",
        "job": job,
        "up_s": now_ns() / 1_000_000_000,
        "events": metrics.events.get(),
        "rejects": metrics.rejects.get(),
        "scored": metrics.scored.get(),
        "revised": metrics.revised.get(),
        "acknowledged": metrics.acknowledged.get(),
        "lag_records": metrics.lag.get(),
        "backlog_keys": metrics.backlog.get(),
        "epochs": metrics.epochs.get(),
    })
    .to_string()
        + "\n"
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
        let help = "Bytes of entries and keys, by key kind";
        let mut bytes = encoder.encode_descriptor("deltawatch_retained_bytes_by_key", help, None, MetricType::Gauge)?;
        for (key, count) in self.0.retained_bytes_by_key.get() {
            ConstGauge::new(count as i64).encode(bytes.encode_family(&[("key", key)])?)?;
        }
        let by_name = [
            ("deltawatch_reference_rows", "Rows of reference collections, by look-up", &self.0.reference_rows),
            ("deltawatch_family_backlog", "Keys with rows to repair, by look-up", &self.0.backlog_of),
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
            &self.0.service_latency,
        )?;
        Self::latency(&mut encoder, "deltawatch_latency", "From arrival to acknowledged output", &self.0.latency)
    }
}

impl Collected {
    fn latency(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        latency: &Latency,
    ) -> Result<(), std::fmt::Error> {
        let bounds_ns = LATENCY_BUCKETS_MS.map(|ms| (ms * 1e6) as u64);
        let (count, mean_ns, below) = latency.buckets(&bounds_ns);
        // The encoder wants the records of each bucket alone and adds them up itself.
        let mut before = 0;
        let mut buckets = Vec::with_capacity(below.len() + 1);
        for (ms, below) in LATENCY_BUCKETS_MS.iter().zip(below) {
            buckets.push((ms / 1_000.0, below.saturating_sub(before)));
            before = below.max(before);
        }
        buckets.push((f64::INFINITY, count.saturating_sub(before)));
        encoder
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(mean_ns * count as f64 / 1e9, count, &buckets, None)
    }
}
