//! The agents of the service instances, over mutual TLS.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent::Client;
use agent::config::Tls;
use anyhow::Context;
use futures_util::future::join_all;

use crate::bosh::Instance;
use crate::lifecycle::Answer;

/// A server that is well answers within milliseconds; one on a lost VM never does.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes clients of agents with the broker's own certificate.
#[derive(Debug)]
pub(crate) struct Agents {
    tls: Tls,
}

impl Agents {
    /// Keys that cannot be used are found now, not at the first binding.
    pub(crate) fn new(tls: Tls) -> anyhow::Result<Agents> {
        let agents = Agents { tls };
        agents.client("try", IpAddr::V4(Ipv4Addr::LOCALHOST)).context("read property `agent_tls`")?;
        Ok(agents)
    }

    /// A client of the agent at an address of a deployment.
    pub(crate) fn client(&self, deployment: &str, address: IpAddr) -> anyhow::Result<Client> {
        Client::new(address, deployment, &self.tls).context("prepare a client of an agent")
    }

    /// What the agents of these instances say, all at once.
    pub(crate) async fn ask(&self, deployment: &str, instances: &[Instance]) -> Vec<Answer> {
        let addresses = instances.iter().filter_map(|instance| instance.ips.first());
        join_all(addresses.map(|address| self.ask_one(deployment, *address))).await
    }

    async fn ask_one(&self, deployment: &str, address: IpAddr) -> Answer {
        let status = async { anyhow::Ok(self.client(deployment, address)?.status().await?) };
        let status = match tokio::time::timeout(STATUS_TIMEOUT, status).await {
            Ok(Ok(status)) => Some(status),
            Ok(Err(error)) => {
                tracing::debug!(%address, cause = format!("{error:#}"), "an agent has no status to tell");
                None
            }
            Err(_) => {
                tracing::debug!(%address, "an agent does not answer in time");
                None
            }
        };
        Answer { address, status }
    }
}
