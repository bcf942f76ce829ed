//! A client of one voter: an agent, or the witness. Every question has its own time limit, because whoever asks counts a
//! lease meanwhile.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, authenticated, json};
use crate::api::{BROKER_NAME, PORT, certificate_name};
use crate::config::Tls;
use crate::quorum::{Answer, Ballot, Release, Renewal};

/// Shorter than any voter keeps an idle connection, so that a question seldom meets one that is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A client of one voter.
#[derive(Clone, Debug)]
pub struct VoterClient {
    http: reqwest::Client,
    base: String,
    server: String,
}

impl VoterClient {
    /// A client of the agent at `address` in `deployment`.
    ///
    /// # Errors
    /// The keys are not usable.
    pub fn agent(address: IpAddr, deployment: &str, tls: &Tls) -> Result<VoterClient, Error> {
        let place = Place { host: address.to_string(), port: PORT };
        VoterClient::new(format!("agent at {address}:{PORT}"), &certificate_name(deployment), place, tls)
    }

    /// A client of the witness. `host` is an address or a DNS name, which is looked up anew for each connection: a broker
    /// that was made again may have another address.
    ///
    /// # Errors
    /// The keys are not usable.
    pub fn witness(host: &str, port: u16, tls: &Tls) -> Result<VoterClient, Error> {
        let place = Place { host: host.into(), port };
        VoterClient::new(format!("witness at {host}:{port}"), BROKER_NAME, place, tls)
    }

    fn new(server: String, name: &str, place: Place, tls: &Tls) -> Result<VoterClient, Error> {
        let base = format!("https://{name}:{}", place.port);
        let builder = authenticated(tls)?.dns_resolver(Arc::new(place)).pool_idle_timeout(IDLE_LIMIT);
        Ok(VoterClient { http: builder.build().map_err(Error::Keys)?, base, server })
    }

    /// Ask whether our epoch is still the latest.
    ///
    /// # Errors
    /// No answer came within the limit, and the voter may have confirmed; or it does not know this pair.
    pub async fn renew(&self, renewal: &Renewal, limit: Duration) -> Result<Answer, Error> {
        self.ask("renew", renewal, limit).await
    }

    /// Ask for an epoch.
    ///
    /// # Errors
    /// No answer came within the limit, and the voter may have given it; or it does not know this pair.
    pub async fn vote(&self, ballot: &Ballot, limit: Duration) -> Result<Answer, Error> {
        self.ask("vote", ballot, limit).await
    }

    /// Say that our leadership is over.
    ///
    /// # Errors
    /// No answer came within the limit, and the voter may have heard it; or it does not know this pair.
    pub async fn release(&self, release: &Release, limit: Duration) -> Result<(), Error> {
        self.ask::<serde_json::Value>("release", release, limit).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize, limit: Duration) -> Result<T, Error> {
        let request = self.http.post(format!("{}/v1/voter/{what}", self.base)).json(body);
        json(&self.server, request, limit).await
    }
}

/// Where a voter is, whatever the name in its certificate.
#[derive(Clone, Debug)]
struct Place {
    host: String,
    port: u16,
}

impl Resolve for Place {
    fn resolve(&self, _: Name) -> Resolving {
        let Place { host, port } = self.clone();
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
