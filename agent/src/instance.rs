//! What this agent was told: the instance that it runs on, its topology, its passwords and keys, and its peer. Read from
//! `config.json` once; everything that can be wrong with it is said here, before anything is started.

use std::net::IpAddr;
use std::path::PathBuf;

use agent::config::{Config, LinkedInstance, Secret, Spec, Tls};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The properties of the job `mysql-agent`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Properties {
    topology: Topology,
    admin_password: Secret,
    replication_password: Option<Secret>,
    tls: Tls,
}

/// How many servers make one service instance, and how they work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topology {
    SingleNode,
    LeaderFollower,
}

/// The instance, checked.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) spec: Spec,
    pub(crate) admin_password: Secret,
    pub(crate) tls: Tls,
    /// The other server of a pair; none on a single node.
    pub(crate) pair: Option<Pair>,
}

/// What only a pair has.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) peer: LinkedInstance,
    pub(crate) replication_password: Secret,
}

impl Instance {
    pub(crate) fn new(config: Config<Properties>) -> Result<Instance> {
        let Config { spec, mut links, properties } = config;
        check_passwords(&properties)?;
        let linked = links.remove("mysql").map(|link| link.instances).unwrap_or_default();
        let pair = match properties.topology {
            Topology::SingleNode => None,
            Topology::LeaderFollower => {
                let replication_password = properties.replication_password.context(
                    "property replication_password is missing; the topology leader-follower needs it beside admin_password",
                )?;
                Some(Pair { peer: peer(&spec, linked)?, replication_password })
            }
        };
        Ok(Instance { spec, admin_password: properties.admin_password, tls: properties.tls, pair })
    }

    /// The instance in BOSH's words.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.spec.name, self.spec.id)
    }

    pub(crate) fn peer_address(&self) -> Option<IpAddr> {
        self.pair.as_ref().map(|pair| pair.peer.address)
    }

    /// The server's directory on the persistent disk.
    pub(crate) fn store(&self) -> PathBuf {
        self.spec.store().join("mysql")
    }

    /// The server's run directory.
    pub(crate) fn run(&self) -> PathBuf {
        self.spec.run().join("mysql")
    }

    /// The server's log directory.
    pub(crate) fn log(&self) -> PathBuf {
        self.spec.log().join("mysql")
    }
}

fn check_passwords(properties: &Properties) -> Result<()> {
    ensure!(!properties.admin_password.reveal().is_empty(), "property admin_password is empty; give it a password");
    if let Some(password) = &properties.replication_password {
        // MariaDB cuts a longer one when it writes master.info, and then cannot log in after a restart.
        let length = password.reveal().len();
        ensure!((1..=96).contains(&length), "property replication_password has {length} bytes; give it 1 to 96");
    }
    Ok(())
}

fn peer(spec: &Spec, linked: Vec<LinkedInstance>) -> Result<LinkedInstance> {
    let count = linked.len();
    let (own, mut others): (Vec<_>, Vec<_>) = linked.into_iter().partition(|instance| instance.id == spec.id);
    let (1, 1, Some(peer)) = (own.len(), others.len(), others.pop()) else {
        bail!(
            "Expected exactly two instances in current deployment, this one and another, but the link mysql has {count}; \
             give the instance group `instances: 2`, or the topology single-node"
        );
    };
    ensure!(
        peer.address != spec.ip && peer.index != spec.index,
        "the link mysql gives {} the same address or index as this instance; every instance needs its own",
        peer.id
    );
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(topology: &str, linked: &[(&str, u32)], extra: &str) -> Result<Instance> {
        let instances: Vec<_> = linked
            .iter()
            .map(|(id, index)| serde_json::json!({"name": "mysql", "id": id, "index": index, "az": "z1", "address": format!("127.1.0.{index}"), "bootstrap": false}))
            .collect();
        let text = format!(
            r#"{{"spec": {{"deployment": "d", "name": "mysql", "id": "a", "index": 0, "az": "z1", "ip": "127.1.0.0", "address": "127.1.0.0", "bootstrap": true}},
                 "links": {{"mysql": {{"instances": {}}}}},
                 "properties": {{"topology": "{topology}", "admin_password": "p"{extra}, "tls": {{"ca": "", "certificate": "", "private_key": ""}}}}}}"#,
            serde_json::to_string(&instances)?
        );
        Instance::new(serde_json::from_str(&text)?)
    }

    #[test]
    fn a_pair_knows_its_peer() {
        let instance =
            read("leader-follower", &[("a", 0), ("b", 1)], r#", "replication_password": "secret-r""#).unwrap();

        assert_eq!(instance.peer_address().unwrap().to_string(), "127.1.0.1");
        assert_eq!(instance.name(), "mysql/a");
        assert!(!format!("{instance:?}").contains("secret-r"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let password = r#", "replication_password": "r""#;
        for (topology, linked, extra, expected) in [
            ("leader-follower", vec![("a", 0), ("b", 1)], "", "property replication_password is missing"),
            ("leader-follower", vec![("a", 0)], password, "Expected exactly two instances in current deployment"),
            ("leader-follower", vec![("b", 1), ("c", 2)], password, "Expected exactly two"),
            ("leader-follower", vec![("a", 0), ("b", 0)], password, "the same address or index"),
            ("galera", vec![], "", "unknown variant `galera`"),
            ("single-node", vec![], r#", "colour": 1"#, "unknown field `colour`"),
        ] {
            let error = format!("{:#}", read(topology, &linked, extra).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
