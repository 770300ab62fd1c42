//! Clients: one request at a time, on a thread of its own.

use std::time::Duration;

use crate::source::tables::ServiceSettings;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Failed(String),
}

/// A connection to a service.
pub(super) trait Client {
    /// The answer to a key as a JSON object; `None` if the service knows nothing of it.
    fn ask(&mut self, key: &str) -> Result<Option<Vec<u8>>, AskError>;
}

/// Says what is missing to ask a service.
pub(super) fn check(settings: &ServiceSettings) -> Result<(), String> {
    let missing = |feature: &str| {
        let ask = &settings.ask;
        Err(format!("this build cannot ask {ask}; build one that can: cargo build --release --features {feature}"))
    };
    match scheme(settings) {
        Scheme::Http if !settings.ask.contains("{key}") => {
            Err("ask has no {key} in its address; put it where the key goes".into())
        }
        Scheme::Http if settings.ask.starts_with("https") && !cfg!(feature = "lookup-https") => missing("lookup-https"),
        Scheme::Http => Ok(()),
        Scheme::Redis if !cfg!(feature = "lookup-redis") => missing("lookup-redis"),
        Scheme::Postgres if !cfg!(feature = "lookup-postgres") => missing("lookup-postgres"),
        Scheme::Redis | Scheme::Postgres if settings.query.is_none() => {
            Err("has no query; give the key pattern (`risk:{key}`) or the SQL (`... where ip = $1`)".into())
        }
        Scheme::Redis | Scheme::Postgres => Ok(()),
    }
}

enum Scheme {
    Http,
    Redis,
    Postgres,
}

fn scheme(settings: &ServiceSettings) -> Scheme {
    match settings.ask.split_once("://") {
        Some(("redis", _)) => Scheme::Redis,
        Some(("postgres" | "postgresql", _)) => Scheme::Postgres,
        _ => Scheme::Http,
    }
}

/// A client for a service; connects when it is first asked.
pub(super) fn open(settings: &ServiceSettings) -> Box<dyn Client> {
    let timeout = Duration::from_millis(settings.timeout_ms);
    match scheme(settings) {
        #[cfg(feature = "lookup-redis")]
        Scheme::Redis => Box::new(redis_client::Redis::new(settings, timeout)),
        #[cfg(feature = "lookup-postgres")]
        Scheme::Postgres => Box::new(postgres_client::Postgres::new(settings, timeout)),
        // What is not built in was refused by `check`.
        _ => Box::new(Http::new(settings, timeout)),
    }
}

/// GET, with the key put into the address; 404 means that nothing is known.
struct Http {
    agent: ureq::Agent,
    address: String,
}

impl Http {
    fn new(settings: &ServiceSettings, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
        // Services stand behind the house's own certificates more often than not: the machine says whom to trust.
        #[cfg(feature = "lookup-https")]
        let config = config
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build());
        Http { agent: config.build().new_agent(), address: settings.ask.clone() }
    }
}

impl Client for Http {
    fn ask(&mut self, key: &str) -> Result<Option<Vec<u8>>, AskError> {
        let failed = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => AskError::Timeout,
            other => AskError::Failed(other.to_string()),
        };
        let mut response = self.agent.get(self.address.replace("{key}", &escaped(key))).call().map_err(failed)?;
        match response.status().as_u16() {
            200 => response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map(Some).map_err(failed),
            204 | 404 => Ok(None),
            other => Err(AskError::Failed(format!("answers {other}"))),
        }
    }
}

/// A key as part of an address: all but unreserved characters as percent and two digits.
fn escaped(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    key.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(feature = "lookup-redis")]
mod redis_client {
    use super::{AskError, Client, Duration, ServiceSettings};

    /// GET of a key made by a pattern; the value is a JSON object.
    pub struct Redis {
        address: String,
        pattern: String,
        timeout: Duration,
        connection: Option<redis::Connection>,
    }

    impl Redis {
        pub fn new(settings: &ServiceSettings, timeout: Duration) -> Self {
            let pattern = settings.query.clone().unwrap_or_default();
            Redis { address: settings.ask.clone(), pattern, timeout, connection: None }
        }

        fn get(&mut self, key: &str) -> redis::RedisResult<Option<Vec<u8>>> {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => {
                    let connection =
                        redis::Client::open(self.address.as_str())?.get_connection_with_timeout(self.timeout)?;
                    connection.set_read_timeout(Some(self.timeout))?;
                    connection.set_write_timeout(Some(self.timeout))?;
                    connection
                }
            };
            let value = redis::cmd("GET").arg(self.pattern.replace("{key}", key)).query(&mut connection)?;
            // Kept only after success: what follows an error may be the answer to another request.
            self.connection = Some(connection);
            Ok(value)
        }
    }

    impl Client for Redis {
        fn ask(&mut self, key: &str) -> Result<Option<Vec<u8>>, AskError> {
            self.get(key).map_err(|error| {
                if error.is_timeout() { AskError::Timeout } else { AskError::Failed(error.to_string()) }
            })
        }
    }
}

#[cfg(feature = "lookup-postgres")]
mod postgres_client {
    use super::{AskError, Client, Duration, ServiceSettings};

    /// A query with the key as text in `$1`; the first column of the first row is a JSON object as text
    /// (`select row_to_json(r)::text from risks r where ip = $1`).
    pub struct Postgres {
        address: String,
        query: String,
        timeout: Duration,
        client: Option<(postgres::Client, postgres::Statement)>,
    }

    impl Postgres {
        pub fn new(settings: &ServiceSettings, timeout: Duration) -> Self {
            let query = settings.query.clone().unwrap_or_default();
            Postgres { address: settings.ask.clone(), query, timeout, client: None }
        }

        fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, postgres::Error> {
            let (mut client, statement) = match self.client.take() {
                Some(client) => client,
                None => {
                    let mut config: postgres::Config = self.address.parse()?;
                    config.connect_timeout(self.timeout).tcp_user_timeout(self.timeout);
                    let mut client = config.connect(postgres::NoTls)?;
                    let limit_ms = self.timeout.as_millis();
                    client.batch_execute(&format!("set statement_timeout = {limit_ms}"))?;
                    let statement = client.prepare_typed(&self.query, &[postgres::types::Type::TEXT])?;
                    (client, statement)
                }
            };
            let row = client.query_opt(&statement, &[&key])?;
            self.client = Some((client, statement));
            row.map(|row| row.try_get::<_, Option<String>>(0))
                .transpose()
                .map(|text| text.flatten().map(String::into_bytes))
        }
    }

    impl Client for Postgres {
        fn ask(&mut self, key: &str) -> Result<Option<Vec<u8>>, AskError> {
            self.get(key).map_err(|error| match error.code() {
                Some(&postgres::error::SqlState::QUERY_CANCELED) => AskError::Timeout,
                _ => AskError::Failed(error.to_string()),
            })
        }
    }
}
