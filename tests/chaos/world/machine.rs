//! A pair on one machine, as `make up` has it: the built director makes the VMs, makes lost ones anew, and has the stable
//! address; the built broker, on a VM of its own, is the witness. All of it is on the loopback addresses of the world.

use std::path::PathBuf;

use agent::Client;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use tests::director::Instance;
use tests::history::Side;
use tests::mysql::Credentials;
use tests::processes;
use tests::stack::{BROKER_DEPLOYMENT, Wiring};
use tests::{Service, Stack};

use super::vm::SERVERS;
use crate::cell::{Group, Part};
use crate::pair::LEASE;

const PLAN: &str = "c2f0a9de-8a53-4a53-9a0f-77d1c5e5c001";
const AGENT: &str = "mysql-agent";
const BROKER: &str = "mysql-broker";

/// A stack with one pair.
pub(crate) struct Machine {
    pub(crate) stack: Stack,
    /// `[A, B]`. They keep their names and addresses when their VMs are made anew.
    instances: [Instance; 2],
    id: String,
    /// The application's way to whoever leads.
    pub(crate) stable: Credentials,
}

impl Machine {
    /// Start a stack, have it make a pair, and bind.
    pub(crate) async fn start(group: Group) -> Result<Machine> {
        let stack = Stack::start_offering(Wiring::Direct, &[plan(group)]).await?;
        let service = Service::provision(&stack, PLAN).await?;
        let stable = service.bind().await?.credentials;
        let instances = service.instances().await?.try_into();
        let instances = instances.map_err(|found| anyhow::anyhow!("not a pair: {found:?}"))?;
        let id = service.id();
        Ok(Machine { stack, instances, id, stable })
    }

    /// An application's way to each server.
    pub(crate) fn servers(&self) -> [Credentials; 2] {
        [0, 1].map(|at| self.stable.at(self.instances[at].ip()))
    }

    pub(crate) fn client(&self, side: Side) -> Result<Client> {
        self.service()?.agent(self.instance(side))
    }

    /// A session of the agent's own account.
    pub(crate) async fn admin(&self, side: Side) -> Result<MySqlConnection> {
        self.service()?.administrator(self.instance(side)).await
    }

    /// Where a replaced leader saves what only it has.
    pub(crate) fn saved(&self, side: Side) -> Result<PathBuf> {
        Ok(self.vm_root(side)?.join("store/mysql/saved"))
    }

    /// The processes of a part, whoever would start them again first.
    pub(crate) fn pids(&self, part: Part, side: Side) -> Result<Vec<i32>> {
        let root = self.vm_root(side)?;
        let cid = root.file_name().and_then(|name| name.to_str()).context("read the VM's CID")?;
        let mut found = processes::of_vm(self.stack.directory(), cid);
        found.retain(|process| match part {
            Part::Server => SERVERS.contains(&process.program.as_str()),
            Part::Agent => process.program == AGENT,
            Part::Whole => true,
        });
        found.sort_by_key(|process| process.program != "tandem-director");
        Ok(found.into_iter().map(|process| process.pid).collect())
    }

    /// The broker's process, which its VM starts again.
    pub(crate) fn broker_pid(&self) -> Result<i32> {
        let all = processes::of_stack(self.stack.directory());
        let broker = all.into_iter().find(|process| process.program == BROKER);
        Ok(broker.context("find the broker's process")?.pid)
    }

    /// What each program said.
    pub(crate) fn logs(&self) -> Vec<(&'static str, PathBuf)> {
        let agents = [("A", Side::A), ("B", Side::B)].into_iter();
        let log = |job: &str| format!("sys/log/{job}/stdout.log");
        let mut logs: Vec<_> =
            agents.filter_map(|(name, side)| Some((name, self.vm_root(side).ok()?.join(log(AGENT))))).collect();
        let servers = [("A's server", Side::A), ("B's server", Side::B)].into_iter();
        let server_log = "sys/log/mysql/mysqld.log";
        logs.extend(servers.filter_map(|(name, side)| Some((name, self.vm_root(side).ok()?.join(server_log)))));
        let broker = self.stack.director.job_config(BROKER_DEPLOYMENT, BROKER).ok();
        let root = broker.and_then(|config| config["spec"]["root"].as_str().map(PathBuf::from));
        logs.extend(root.map(|root| ("witness", root.join(log(BROKER)))));
        logs.push(("director", self.stack.directory().join("director.log")));
        logs
    }

    /// End everything.
    pub(crate) fn remove(self) -> Result<()> {
        self.stack.shutdown()
    }

    fn vm_root(&self, side: Side) -> Result<PathBuf> {
        self.stack.director.vm_root(self.instance(side))
    }

    fn instance(&self, side: Side) -> &Instance {
        &self.instances[side.index()]
    }

    fn service(&self) -> Result<Service<'_>> {
        Service::of(&self.stack, &self.id, PLAN)
    }
}

/// A plan with the short lease of every pair here.
fn plan(group: Group) -> Value {
    json!({
        "id": PLAN, "name": "chaos", "description": "A pair that things happen to",
        "deployment": {"topology": "leader-follower", "server": group.family.name(), "replication_mode": group.mode.name(),
                       "lease_ttl_in_ms": LEASE.as_millis() as u64, "azs": ["z1", "z2"], "vm_type": "small",
                       "disk_type": "5GB"},
    })
}
