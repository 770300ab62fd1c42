//! From flags to a cluster of timely workers.

use timely::{CommunicationConfig, Config};

use crate::pipeline::worker_config;

use super::error::{Failure, usage};
use super::flags::ClusterFlags;

/// The first port when no addresses are given, as timely's own.
const PORT_FIRST: u32 = 2101;

impl ClusterFlags {
    /// The configuration of this process.
    pub fn resolve(&self) -> Result<Config, Failure> {
        let threads = usize::from(self.workers);
        let addresses = self.addresses()?;
        if self.process >= self.processes {
            let last = self.processes - 1;
            return Err(usage(
                "--process",
                self.process,
                format!("with --processes {} it is 0 to {last}", self.processes),
            ));
        }
        let communication = match (self.processes, threads) {
            (1, 1) => CommunicationConfig::Thread,
            (1, threads) => CommunicationConfig::Process(threads),
            _ => CommunicationConfig::Cluster {
                threads,
                process: usize::from(self.process),
                addresses,
                report: false,
                zerocopy: false,
            },
        };
        Ok(Config { communication, worker: worker_config() })
    }

    fn addresses(&self) -> Result<Vec<String>, Failure> {
        let wanted = usize::from(self.processes);
        let (named, flag) = match &self.hosts {
            Some(path) => {
                let flag = format!("--hosts {}", path.display());
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::Usage(format!("{flag}: cannot read it: {error}")))?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                (lines.map(str::to_owned).collect(), flag)
            }
            None if self.host.is_empty() => {
                let local = |index| format!("localhost:{}", PORT_FIRST + u32::from(index));
                return Ok((0..self.processes).map(local).collect());
            }
            None => (self.host.clone(), "--host".to_owned()),
        };
        if named.len() < wanted {
            let found = named.len();
            return Err(Failure::Usage(format!(
                "{flag}: names {found} addresses, --processes {wanted} needs {wanted}; write one HOST:PORT for each process"
            )));
        }
        for address in &named {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(Failure::Usage(format!("{flag}: `{address}` is not an address; write HOST:PORT")));
            }
        }
        Ok(named.into_iter().take(wanted).collect())
    }
}
