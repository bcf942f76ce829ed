//! The properties of the job `mysql-broker`, as `manifests/broker.yml` sets them.

use std::path::PathBuf;

use agent::config::{Secret, Spec, Tls};
use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::catalog::check_lease;

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
    /// What seals the credentials in the state database.
    pub(crate) encryption_key: Secret,
    pub(crate) director: Director,
    pub(crate) agent_tls: Tls,
    /// Where `catalog.yml` and the manifests of the topologies are.
    #[serde(default)]
    documents: Option<PathBuf>,
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
    pub(crate) client: String,
    pub(crate) client_secret: Secret,
}

impl Properties {
    /// What the types cannot say.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let url = &self.director.url;
        ensure!(url.starts_with("https://"), "property `director.url` is `{url}`, but must start with https://");
        ensure!(!self.username.is_empty(), "property `username` must not be empty");
        ensure!(!self.username.contains(':'), "property `username` must not contain `:` (basic authentication)");
        ensure!(!self.password.reveal().is_empty(), "property `password` must not be empty");
        ensure!(self.encryption_key.reveal().len() >= 16, "property `encryption_key` must have at least 16 characters");
        ensure!(self.operation_timeout_minutes > 0, "property `operation_timeout_minutes` must be at least 1");
        ensure!(self.witness_host.as_deref() != Some(""), "property `witness_host` must not be empty");
        check_lease(self.lease_ttl_in_ms).context("read the properties")?;
        Ok(())
    }

    /// Where the documents are: with the package, unless the manifest says otherwise.
    pub(crate) fn documents(&self, spec: &Spec) -> PathBuf {
        self.documents.clone().unwrap_or_else(|| spec.packages().join("tandem/manifests"))
    }
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
