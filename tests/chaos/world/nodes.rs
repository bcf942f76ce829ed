//! A pair and its witness in network namespaces of their own. What a director would do for them is done by the schedules.

use std::path::{Path, PathBuf};

use agent::api::certificate_name;
use agent::config::Tls;
use anyhow::{Context, Result};
use serde_json::json;
use tests::broker;
use tests::clients::Family;
use tests::history::Side;
use tests::mysql::Credentials;

use super::ROOT;
use super::network::{Network, Node};
use super::vm::{ADMIN_PASSWORD, Plan, Vm};
use super::witness::Witness;
use crate::cell::{Group, Part};
use crate::pair::LEASE;
use tests::Authority;

const SCHEMA: &str = "chaos";
const USER: &str = "application";

/// Two VMs and the witness.
pub(crate) struct Nodes {
    pub(crate) network: Network,
    /// `[A, B]`.
    pub(crate) vms: [Vm; 2],
    pub(crate) witness: Witness,
    root: PathBuf,
}

/// The node of a side.
pub(crate) fn node(side: Side) -> Node {
    match side {
        Side::A => Node::A,
        Side::B => Node::B,
    }
}

impl Nodes {
    /// Make them and start them.
    pub(crate) async fn start(number: u8, group: Group) -> Result<Nodes> {
        let network = Network::build(number)?;
        let root = Path::new(ROOT).join(number.to_string());
        let authority = Authority::new()?;
        let instance = broker::new_id();
        let deployment = broker::deployment_of(&instance);
        let tls = authority.issue(&certificate_name(&deployment))?;
        let witness = Witness::start_for(&instance, root.join("witness"), network, &authority).await?;
        let make = |side: Side| {
            let plan = plan(&root, network, side, group, (&deployment, &tls));
            Vm::make(plan, &cache(group.family))
        };
        let vms = [make(Side::A)?, make(Side::B)?];
        let mut nodes = Nodes { network, vms, witness, root };
        for vm in &mut nodes.vms {
            vm.start()?;
        }
        Ok(nodes)
    }

    pub(crate) fn vm(&self, side: Side) -> &Vm {
        &self.vms[side.index()]
    }

    pub(crate) fn vm_mut(&mut self, side: Side) -> &mut Vm {
        &mut self.vms[side.index()]
    }

    /// An application's way to each server.
    pub(crate) fn servers(&self) -> [Credentials; 2] {
        Side::BOTH.map(|side| credentials(&self.network.address(node(side)).to_string()))
    }

    /// End everything and give the memory back.
    pub(crate) async fn remove(mut self) -> Result<()> {
        self.witness.kill();
        for vm in &mut self.vms {
            vm.kill(Part::Whole).await?;
            super::run("umount", &["--lazy", &vm.disk().display().to_string()])?;
        }
        std::fs::remove_dir_all(&self.root).with_context(|| format!("remove {}", self.root.display()))
    }
}

/// The template of a data directory, shared by the VMs of a family as a director's VMs share it.
fn cache(family: Family) -> PathBuf {
    Path::new(ROOT).join("cache").join(family.name())
}

fn plan(root: &Path, network: Network, side: Side, group: Group, (deployment, tls): (&str, &Tls)) -> Plan {
    let (root, address) = (root.join(network.namespace(node(side))), network.address(node(side)));
    let instance = |side: Side| {
        let address = network.address(node(side));
        json!({"name": "mysql", "id": format!("{side:?}"), "index": side.index(), "az": "z1", "address": address,
               "bootstrap": side == Side::A})
    };
    let mut config = json!({
        "spec": {"deployment": deployment, "name": "mysql", "id": format!("{side:?}"), "index": side.index(), "az": "z1",
                 "ip": address, "address": address, "bootstrap": side == Side::A, "root": root, "persistent_disk": 5120,
                 "vm_resources": {"cpu": 1, "ram": 256}},
        "links": {"mysql": {"instances": [instance(Side::A), instance(Side::B)]}},
        "properties": {"topology": "leader-follower", "admin_password": ADMIN_PASSWORD,
                       "replication_password": "replication-of-the-chaos", "tls": tls,
                       "witness": {"host": network.address(Node::Witness)},
                       "replication_mode": group.mode.name(), "lease_ttl_in_ms": LEASE.as_millis() as u64},
    });
    if group.family == Family::Mysql {
        config["properties"]["server"] = json!(group.family.name());
    }
    let (deployment, tls) = (deployment.to_owned(), tls.clone());
    Plan { namespace: network.namespace(node(side)), root, address, config, deployment, tls }
}

fn credentials(address: &str) -> Credentials {
    Credentials {
        hostname: address.to_owned(),
        port: agent::api::MYSQL_PORT,
        name: SCHEMA.to_owned(),
        username: USER.to_owned(),
        password: USER.to_owned(),
        uri: String::new(),
        jdbc_url: String::new(),
    }
}
