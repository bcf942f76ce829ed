//! A pair in a world: two VMs, the witness, an application's user, and what an operator can see and do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::Client;
use agent::api::{Command, Receiver, Role, Status, User, certificate_name};
use agent::config::Tls;
use anyhow::{Context, Result, bail};
use serde_json::json;
use tests::broker;
use tests::clients::Family;
use tests::eventually;
use tests::history::Side;
use tests::mysql::{self, Credentials};

use crate::cell::{Mode, Part};
use crate::world::ROOT;
use crate::world::authority::Authority;
use crate::world::network::{Network, Node};
use crate::world::vm::{ADMIN_PASSWORD, Plan, Vm};
use crate::world::witness::Witness;

/// The lease of every pair here.
pub(crate) const LEASE: Duration = Duration::from_millis(2000);
const SCHEMA: &str = "chaos";
const START_LIMIT: Duration = Duration::from_secs(120);

/// A pair.
pub(crate) struct Pair {
    pub(crate) number: u8,
    pub(crate) network: Network,
    /// `[A, B]`.
    pub(crate) vms: [Vm; 2],
    pub(crate) witness: Witness,
    /// An application's way to each server.
    pub(crate) servers: [Credentials; 2],
    root: PathBuf,
}

/// The node of a side.
pub(crate) fn node(side: Side) -> Node {
    match side {
        Side::A => Node::A,
        Side::B => Node::B,
    }
}

impl Pair {
    /// Make a pair, configure it, and wait until it works. A leads.
    pub(crate) async fn start(number: u8, family: Family, mode: Mode) -> Result<Pair> {
        let network = Network::build(number)?;
        let root = Path::new(ROOT).join(number.to_string());
        let authority = Authority::new()?;
        let instance = broker::new_id();
        let deployment = broker::deployment_of(&instance);
        let tls = authority.issue(&certificate_name(&deployment))?;
        let witness = Witness::start_for(&instance, root.join("witness"), network, &authority).await?;
        let make = |side: Side| {
            let plan = plan(&root, network, side, (family, mode), (&deployment, &tls));
            Vm::make(plan, &cache(family))
        };
        let vms = [make(Side::A)?, make(Side::B)?];
        let servers = Side::BOTH.map(|side| credentials(&network.address(node(side)).to_string()));
        let mut pair = Pair { number, network, vms, witness, servers, root };
        for vm in &mut pair.vms {
            vm.start()?;
        }
        pair.configure().await.context("configure a new pair")?;
        pair.make_user().await?;
        pair.until_healthy(START_LIMIT).await?;
        Ok(pair)
    }

    pub(crate) fn vm(&self, side: Side) -> &Vm {
        &self.vms[side.index()]
    }

    pub(crate) fn vm_mut(&mut self, side: Side) -> &mut Vm {
        &mut self.vms[side.index()]
    }

    pub(crate) fn client(&self, side: Side) -> Client {
        self.vm(side).client.clone()
    }

    /// The leader, if the pair is as it should be: one leader, and one follower that receives and applies, and in sync mode
    /// has everything that was acknowledged.
    pub(crate) async fn leader(&self) -> Result<Side> {
        let (a, b) = tokio::join!(self.vms[0].client.status(), self.vms[1].client.status());
        let (a, b) = (a.context("A")?, b.context("B")?);
        match (leads(&a), follows(&b), leads(&b), follows(&a)) {
            (true, true, _, _) => Ok(Side::A),
            (_, _, true, true) => Ok(Side::B),
            _ => bail!("A is {}, B is {}", in_short(&a), in_short(&b)),
        }
    }

    /// Wait until the pair is as it should be.
    pub(crate) async fn until_healthy(&self, limit: Duration) -> Result<Side> {
        eventually("the pair has a leader and a follower", limit, async || self.leader().await.map(Some)).await
    }

    /// The leader, if the other server is read-only and at rest and does not follow it.
    pub(crate) async fn diverged(&self) -> Option<Side> {
        let (a, b) = tokio::join!(self.vms[0].client.status(), self.vms[1].client.status());
        let (a, b) = (a.ok()?, b.ok()?);
        let rests = |status: &Status| status.read_only && status.busy.is_none() && !follows(status);
        match (leads(&a) && rests(&b), leads(&b) && rests(&a)) {
            (true, _) => Some(Side::A),
            (_, true) => Some(Side::B),
            (false, false) => None,
        }
    }

    /// What an operator would do who finds the pair in pieces.
    pub(crate) async fn configure(&self) -> Result<()> {
        eventually("the pair is configured", START_LIMIT, async || {
            self.vms[0].client.command(Command::ConfigureLeaderFollower, |_| {}).await?;
            Ok(Some(()))
        })
        .await
    }

    /// End everything and give the memory back.
    pub(crate) async fn remove(mut self) -> Result<()> {
        self.witness.kill();
        for vm in &mut self.vms {
            vm.kill(Part::Whole).await?;
            crate::world::run("umount", &["--lazy", &vm.disk().display().to_string()])?;
        }
        std::fs::remove_dir_all(&self.root).with_context(|| format!("remove {}", self.root.display()))
    }

    async fn make_user(&self) -> Result<()> {
        let user = User { password: self.servers[0].password.clone(), schema: SCHEMA.into() };
        let name = &self.servers[0].username;
        eventually("the application's user is made", START_LIMIT, async || {
            Ok(Some(self.vms[0].client.put_user(name, &user).await?))
        })
        .await?;
        // The clients write down under which leadership they wrote.
        let grant = format!("GRANT SELECT ON replication_monitoring.* TO '{name}'@'%'");
        mysql::execute(&mut self.vms[0].admin().await?, &grant).await.map(drop)
    }
}

fn leads(status: &Status) -> bool {
    let is_redundant = status.semi_sync.as_ref().is_none_or(|sync| sync.in_sync || !sync.wanted);
    status.role == Role::Leader && !status.read_only && status.busy.is_none() && is_redundant
}

fn follows(status: &Status) -> bool {
    let channel = status.replication.as_ref();
    let runs = channel.is_some_and(|channel| channel.receiver == Receiver::Connected && channel.applier_running);
    status.role == Role::Follower && runs && status.busy.is_none()
}

fn in_short(status: &Status) -> String {
    let writes = if status.read_only { "read-only" } else { "writable" };
    let busy = status.busy.map(|activity| format!(" busy with {activity}")).unwrap_or_default();
    let channel = status.replication.as_ref().map(|channel| {
        format!(" receiver {:?} {:?} applier {}", channel.receiver, channel.receiver_error, channel.applier_running)
    });
    let sync =
        status.semi_sync.as_ref().filter(|sync| sync.wanted).map(|sync| format!(" {sync:?}")).unwrap_or_default();
    format!("{} {writes}{busy}{sync}{} at {}", status.role, channel.unwrap_or_default(), status.gtid_executed)
}

/// The template of a data directory, shared by the VMs of a family as a director's VMs share it.
fn cache(family: Family) -> PathBuf {
    Path::new(ROOT).join("cache").join(family.name())
}

fn plan(
    root: &Path,
    network: Network,
    side: Side,
    (family, mode): (Family, Mode),
    (deployment, tls): (&str, &Tls),
) -> Plan {
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
                       "replication_mode": mode.name(), "lease_ttl_in_ms": LEASE.as_millis() as u64},
    });
    if family == Family::Mysql {
        config["properties"]["server"] = json!(family.name());
    }
    let (deployment, tls) = (deployment.to_owned(), tls.clone());
    Plan { namespace: network.namespace(node(side)), root, address, config, deployment, tls }
}

fn credentials(address: &str) -> Credentials {
    Credentials {
        hostname: address.to_owned(),
        port: agent::api::MYSQL_PORT,
        name: SCHEMA.to_owned(),
        username: "application".to_owned(),
        password: "application".to_owned(),
        uri: String::new(),
        jdbc_url: String::new(),
    }
}
