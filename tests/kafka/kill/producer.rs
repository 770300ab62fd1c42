//! Events that come at a pace, whatever is struck meanwhile: some late, some corrected, some withdrawn, some twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deltawatch::event::{JsonEncoder, Schema};
use deltawatch::generator::{Generator, GeneratorConfig};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

/// The longest that brokers may be away.
const PATIENCE: Duration = Duration::from_secs(120);

/// A thread that writes to a topic.
pub struct Producer {
    allowed: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// A stream that is shorter than every horizon, so that nothing depends on how far event time had come when a record arrived.
fn stream(seed: u64) -> GeneratorConfig {
    GeneratorConfig {
        seed,
        rate_per_s: 25.0,
        late_share: 0.05,
        late_ms_max: 240_000,
        duplicate_share: 0.01,
        correction_share: 0.05,
        withdrawal_share: 0.03,
        ..GeneratorConfig::default()
    }
}

impl Producer {
    /// Begins a stream of so many records, at most so many per second. It waits until it is allowed to send any.
    pub fn start(brokers: &str, topic: &str, seed: u64, events: usize, per_s: usize) -> Self {
        let schema = Schema::parse("payments", include_str!("../../../dataflows/payments.toml")).unwrap();
        let (schema, encoder) = (Arc::new(schema.clone()), JsonEncoder::new(&schema));
        let generator = Generator::new(stream(seed), schema.clone()).unwrap();
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "2");
        // What a broker that is away says is of no interest.
        settings.set("log_level", "0");
        let (producer, topic): (BaseProducer, _) = (settings.create().unwrap(), topic.to_owned());
        let allowed = Arc::new(AtomicUsize::new(0));
        let of_thread = allowed.clone();
        let thread = std::thread::spawn(move || {
            let mut next = Instant::now();
            for (number, generated) in generator.take(events).enumerate() {
                while of_thread.load(Ordering::Relaxed) <= number {
                    producer.poll(Duration::from_millis(1));
                    next = Instant::now();
                }
                if let Some(left) = next.checked_duration_since(Instant::now()) {
                    producer.poll(left);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                next += Duration::from_secs(1) / per_s as u32;
                let mut payload = Vec::new();
                encoder.write(&generated.event, &schema, &mut payload);
                // What is said of one event stays in one partition, and so in order.
                let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic).payload(&payload);
                producer.send(record.partition((generated.number % 2) as i32)).expect("there is room");
            }
            producer.flush(PATIENCE).expect("everything is taken");
        });
        Producer { allowed, thread }
    }

    /// Lets so many more records through.
    pub fn allow(&self, more: usize) {
        self.allowed.fetch_add(more, Ordering::Relaxed);
    }

    /// Waits until the last record is acknowledged.
    pub fn finish(self) {
        self.thread.join().expect("the producer");
    }
}
