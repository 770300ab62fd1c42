//! Settings: precedence, secrets, refusals. No broker needed.

use deltawatch::source::kafka::KafkaConfig;

fn resolve(settings: &[&str]) -> Result<KafkaConfig, String> {
    let settings: Vec<String> = settings.iter().map(|setting| setting.to_string()).collect();
    KafkaConfig::resolve(Some("h:9092"), None, &settings).map_err(|error| error.to_string())
}

#[test]
fn sides_and_precedence() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "# a comment\n\nbootstrap.servers = file:1\nlinger.ms=7\nproducer.compression.type = zstd\nconsumer.fetch.min.bytes=2\n",
    )
    .unwrap();
    let config = KafkaConfig::resolve(None, Some(file.path()), &["linger.ms=9".to_owned()]).unwrap();
    assert_eq!(config.brokers(), "file:1");
    let (consumer, producer) = (config.consumer(), config.producer());
    assert_eq!(producer.get("linger.ms"), Some("9"), "-X wins over the file, the file over our default");
    assert_eq!(producer.get("compression.type"), Some("zstd"));
    assert_eq!(consumer.get("compression.type"), None);
    assert_eq!(consumer.get("fetch.min.bytes"), Some("2"));
    assert_eq!(producer.get("fetch.min.bytes"), None);
    assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    assert_eq!(producer.get("enable.idempotence"), Some("true"));
    let config = KafkaConfig::resolve(Some("flag:2"), Some(file.path()), &[]).unwrap();
    assert_eq!(config.brokers(), "flag:2", "--brokers wins over the file");
}

#[test]
fn keys_we_own_are_refused_with_the_reason() {
    for (setting, reason) in [
        ("enable.auto.commit=true", "journal"),
        ("consumer.auto.offset.reset=latest", "--from"),
        ("isolation.level=read_uncommitted", "aborted"),
        ("producer.enable.idempotence=false", "retry"),
        ("acks=1", "replicas"),
        ("transactional.id=x", "sink"),
    ] {
        let error = resolve(&[setting]).unwrap_err();
        assert!(error.contains("not yours to set") && error.contains(reason), "{error}");
    }
}

#[test]
fn mistakes_are_named() {
    for (setting, words) in [
        ("linger.ms", "is not key=value"),
        ("no.such.key=1", "no.such.key"),
        ("linger.ms=soon", "linger.ms=soon"),
        ("client.id=${env:DELTAWATCH_NO_SUCH_VARIABLE}", "DELTAWATCH_NO_SUCH_VARIABLE is not set"),
        ("client.id=${file:/no/such/file}", "cannot read /no/such/file"),
        ("client.id=${vault:x}", "${env:NAME} or ${file:PATH}"),
        ("client.id=${env:HOME", "without `}`"),
    ] {
        let error = resolve(&[setting]).unwrap_err();
        assert!(error.contains(words), "{setting}: {error}");
    }
    let error = KafkaConfig::resolve(None, None, &[]).unwrap_err().to_string();
    assert!(error.contains("--brokers"), "{error}");
}

#[test]
fn secrets_are_read_and_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let config = resolve(&[&format!("client.id=a-${{file:{}}}-b", file.path().display())]).unwrap();
    assert_eq!(config.consumer().get("client.id"), Some("a-hunter2-b"));
    let shown = format!("{config:?}");
    assert!(shown.contains("client.id=[redacted]") && !shown.contains("hunter2"), "{shown}");
    // A value that librdkafka refuses is not repeated either if it came from a secret.
    let error = resolve(&[&format!("linger.ms=${{file:{}}}", file.path().display())]).unwrap_err();
    assert!(error.contains("linger.ms") && !error.contains("hunter2"), "{error}");
    let shown = format!("{:?}", resolve(&["linger.ms=3"]).unwrap());
    assert!(shown.contains("linger.ms=3"), "what is not secret is shown: {shown}");
}

#[test]
fn tls_and_sasl_name_the_missing_feature() {
    let settings = ["security.protocol=SASL_SSL", "sasl.mechanism=SCRAM-SHA-512", "sasl.password=hunter2"];
    if cfg!(feature = "kafka-tls") {
        let shown = format!("{:?}", resolve(&settings).unwrap());
        assert!(shown.contains("sasl.password=[redacted]") && !shown.contains("hunter2"), "{shown}");
        return;
    }
    for setting in settings {
        let error = resolve(&[setting]).unwrap_err();
        assert!(error.contains("--features kafka-tls") && !error.contains("hunter2"), "{error}");
    }
    resolve(&["security.protocol=plaintext"]).unwrap();
}
