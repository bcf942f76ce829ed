//! The properties of the job `mysql-broker`, as `manifests/broker.yml` sets them.

use std::path::PathBuf;
use std::time::Duration;

use agent::config::{Secret, Spec, Tls};
use anyhow::{Context, ensure};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::catalog::check_lease;
use crate::store::{Place, Server};

/// The properties.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Properties {
    /// Where the Open Service Broker API listens.
    pub(crate) port: u16,
    /// Where the broker listens as the witness of its pairs.
    #[serde(default = "agent_witness_port")]
    pub(crate) witness_port: u16,
    /// By which address or DNS name the pairs reach it there; its own address where this is not given.
    pub(crate) witness_host: Option<String>,
    /// How long the leader of a pair may go on without a word from its follower or the witness, unless its plan says.
    #[serde(default = "ten_seconds")]
    pub(crate) lease_ttl_in_ms: u64,
    /// Who may call it.
    pub(crate) username: String,
    pub(crate) password: Secret,
    /// What seals the credentials in the state database: one key, or the newest and those before it.
    #[serde(alias = "encryption_key", deserialize_with = "one_or_more")]
    pub(crate) encryption_keys: Vec<Secret>,
    /// The PostgreSQL that several brokers share; a SQLite file on the persistent disk where this is not given.
    state_database: Option<Server>,
    pub(crate) director: Director,
    pub(crate) agent_tls: Tls,
    /// Where `catalog.yml` and the manifests of the topologies are.
    #[serde(default)]
    documents: Option<PathBuf>,
    /// With which keys the Open Service Broker API is served; in the clear where there are none.
    pub(crate) tls: Option<Keys>,
    /// What the clients of the Open Service Broker API may do.
    #[serde(default)]
    pub(crate) clients: Clients,
    /// After how many minutes an operation fails that has not ended.
    #[serde(default = "one_hour")]
    pub(crate) operation_timeout_minutes: u32,
}

/// How to reach the director.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Director {
    pub(crate) url: String,
    pub(crate) ca: String,
    /// Who signed the certificate of the director's UAA; `ca` where this is not given.
    pub(crate) uaa_ca: Option<String>,
    /// A user of the director, or a client of its UAA.
    pub(crate) client: String,
    pub(crate) client_secret: Secret,
}

/// The keys of a server, as PEM text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) certificate: String,
    pub(crate) private_key: Secret,
}

/// What clients may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Clients {
    /// How many of them may be connected at once.
    pub(crate) max_connections: usize,
    /// How long one may take to send the head of a request, as long again for its body, or to begin the next one.
    timeout_in_seconds: u64,
    /// What a request without `X-Broker-API-Version` is answered.
    pub(crate) missing_version_status: MissingVersionStatus,
}

/// The specification allows the first; older checkers and clients want the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) enum MissingVersionStatus {
    BadRequest,
    PreconditionFailed,
}

impl TryFrom<u16> for MissingVersionStatus {
    type Error = &'static str;

    fn try_from(status: u16) -> Result<MissingVersionStatus, &'static str> {
        match status {
            400 => Ok(MissingVersionStatus::BadRequest),
            412 => Ok(MissingVersionStatus::PreconditionFailed),
            _ => Err("`missing_version_status` must be 400 or 412"),
        }
    }
}

impl Default for Clients {
    fn default() -> Clients {
        let missing_version_status = MissingVersionStatus::BadRequest;
        Clients { max_connections: 1024, timeout_in_seconds: 30, missing_version_status }
    }
}

impl Clients {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_in_seconds)
    }
}

impl Properties {
    /// What the types cannot say.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let url = &self.director.url;
        ensure!(url.starts_with("https://"), "property `director.url` is `{url}`, but must start with https://");
        ensure!(!self.username.is_empty(), "property `username` must not be empty");
        ensure!(!self.username.contains(':'), "property `username` must not contain `:` (basic authentication)");
        ensure!(!self.password.reveal().is_empty(), "property `password` must not be empty");
        let is_long = |key: &Secret| key.reveal().len() >= 16;
        let are_long = !self.encryption_keys.is_empty() && self.encryption_keys.iter().all(is_long);
        ensure!(are_long, "property `encryption_keys` must list keys that have at least 16 characters");
        ensure!(self.operation_timeout_minutes > 0, "property `operation_timeout_minutes` must be at least 1");
        ensure!(self.witness_host.as_deref() != Some(""), "property `witness_host` must not be empty");
        ensure!(self.clients.max_connections > 0, "property `clients.max_connections` must be at least 1");
        ensure!(self.clients.timeout_in_seconds > 0, "property `clients.timeout_in_seconds` must be at least 1");
        check_lease(self.lease_ttl_in_ms).context("read the properties")?;
        if let Some(server) = &self.state_database {
            server.check()?;
        }
        Ok(())
    }

    /// Where the wishes are kept.
    pub(crate) fn state_database(&self, spec: &Spec) -> Place {
        match &self.state_database {
            Some(server) => Place::Server(server.clone()),
            None => Place::File(spec.store().join("mysql-broker/state.db")),
        }
    }

    /// Where the documents are: with the package, unless the manifest says otherwise.
    pub(crate) fn documents(&self, spec: &Spec) -> PathBuf {
        self.documents.clone().unwrap_or_else(|| spec.packages().join("tandem/manifests"))
    }
}

/// One secret, or a list.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Keys {
        One(Secret),
        More(Vec<Secret>),
    }
    Ok(match Keys::deserialize(deserializer).map_err(|_| D::Error::custom("not a key, or a list of keys"))? {
        Keys::One(key) => vec![key],
        Keys::More(keys) => keys,
    })
}

fn one_hour() -> u32 {
    60
}

fn ten_seconds() -> u64 {
    10_000
}

fn agent_witness_port() -> u16 {
    agent::api::WITNESS_PORT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(change: impl FnOnce(&mut serde_json::Value)) -> Result<Properties, serde_json::Error> {
        let mut value = serde_json::json!({
            "port": 8080, "username": "broker", "password": "p4ss", "encryption_key": "0123456789abcdef",
            "director": {"url": "https://127.0.0.1:25555", "ca": "", "client": "admin", "client_secret": "s3cret"},
            "agent_tls": {"ca": "", "certificate": "", "private_key": "k3y"},
        });
        change(&mut value);
        serde_json::from_value(value)
    }

    #[test]
    fn the_properties_of_the_manifest_are_accepted_and_print_no_secret() {
        let properties = properties(|_| {}).unwrap();
        properties.check().unwrap();
        let printed = format!("{properties:?}");
        for secret in ["p4ss", "s3cret", "k3y", "0123456789abcdef"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    #[test]
    fn a_key_may_be_followed_by_the_ones_before_it() {
        let keys =
            |keys: serde_json::Value| properties(|value| value["encryption_key"] = keys).map(|p| p.check().is_ok());
        assert!(keys(serde_json::json!(["fedcba9876543210", "0123456789abcdef"])).unwrap());
        assert!(!keys(serde_json::json!(["fedcba9876543210", "short"])).unwrap());
        assert!(!keys(serde_json::json!([])).unwrap());
        assert!(!keys(serde_json::json!(17)).unwrap_err().to_string().contains("17"));
    }

    #[test]
    fn a_property_that_is_not_known_is_refused_by_name() {
        let error = properties(|value| value["prot"] = 8080.into()).unwrap_err();
        assert!(error.to_string().contains("unknown field `prot`"), "{error}");
    }

    #[test]
    fn a_lease_that_agents_would_refuse_is_refused() {
        let properties = properties(|value| value["lease_ttl_in_ms"] = 999.into()).unwrap();
        let complaint = format!("{:#}", properties.check().unwrap_err());
        assert!(complaint.contains("`lease_ttl_in_ms` is 999, but must be from 1000"), "{complaint}");
    }

    #[test]
    fn a_director_without_tls_is_refused() {
        let properties = properties(|value| value["director"]["url"] = "http://127.0.0.1".into()).unwrap();
        assert!(properties.check().unwrap_err().to_string().contains("must start with https://"));
    }
}
