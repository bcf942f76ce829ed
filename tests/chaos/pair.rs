//! A pair in a world: its servers, an application's user, and what an operator can see and do.

use std::path::PathBuf;
use std::time::Duration;

use agent::Client;
use agent::api::{Access, Command, Receiver, Role, Status, User};
use anyhow::{Context, Result, bail};
use sqlx::mysql::MySqlConnection;
use tests::eventually;
use tests::history::Side;
use tests::mysql::{self, Credentials};

use crate::cell::{Group, Place};
use crate::world::machine::Machine;
use crate::world::nodes::Nodes;

/// The lease of every pair here.
pub(crate) const LEASE: Duration = Duration::from_millis(2000);
const START_LIMIT: Duration = Duration::from_secs(120);

/// A pair.
pub(crate) struct Pair {
    pub(crate) number: u8,
    pub(crate) ground: Ground,
    clients: [Client; 2],
    /// An application's way to each server, `[A, B]`.
    pub(crate) servers: [Credentials; 2],
    /// And to whoever leads, where there is a stable address.
    pub(crate) stable: Option<Credentials>,
}

/// What a pair stands on.
pub(crate) enum Ground {
    Network(Box<Nodes>),
    Machine(Box<Machine>),
}

impl Pair {
    /// Make a pair, configure it, and wait until it works.
    pub(crate) async fn start(number: u8, group: Group) -> Result<Pair> {
        let pair = match group.place {
            Place::Network => Pair::in_the_network(number, group).await?,
            Place::Machine => Pair::on_the_machine(number, group).await?,
        };
        let leader = pair.until_healthy(START_LIMIT).await?;
        // The clients write down under which leadership they wrote.
        let grant = format!("GRANT SELECT ON replication_monitoring.* TO '{}'@'%'", pair.servers[0].username);
        mysql::execute(&mut pair.admin(leader).await?, &grant).await?;
        Ok(pair)
    }

    async fn in_the_network(number: u8, group: Group) -> Result<Pair> {
        let nodes = Nodes::start(number, group).await?;
        let (clients, servers) = (Side::BOTH.map(|side| nodes.vm(side).client.clone()), nodes.servers());
        let pair = Pair { number, ground: Ground::Network(Box::new(nodes)), clients, servers, stable: None };
        pair.configure().await.context("configure a new pair")?;
        pair.make_user().await?;
        Ok(pair)
    }

    async fn on_the_machine(number: u8, group: Group) -> Result<Pair> {
        let machine = Machine::start(group).await?;
        let clients = [machine.client(Side::A)?, machine.client(Side::B)?];
        let (servers, stable) = (machine.servers(), Some(machine.stable.clone()));
        Ok(Pair { number, ground: Ground::Machine(Box::new(machine)), clients, servers, stable })
    }

    /// A session of the agent's own account.
    pub(crate) async fn admin(&self, side: Side) -> Result<MySqlConnection> {
        match &self.ground {
            Ground::Network(nodes) => nodes.vm(side).admin().await,
            Ground::Machine(machine) => machine.admin(side).await,
        }
    }

    pub(crate) fn client(&self, side: Side) -> Client {
        self.clients[side.index()].clone()
    }

    /// Where a replaced leader saves what only it has.
    pub(crate) fn saved(&self, side: Side) -> Result<PathBuf> {
        match &self.ground {
            Ground::Network(nodes) => Ok(nodes.vm(side).saved()),
            Ground::Machine(machine) => machine.saved(side),
        }
    }

    /// What each program said.
    pub(crate) fn logs(&self) -> Vec<(&'static str, PathBuf)> {
        match &self.ground {
            Ground::Network(nodes) => {
                let [a, b] = &nodes.vms;
                let servers = [("A's server", a.server_log()), ("B's server", b.server_log())];
                [("A", a.log()), ("B", b.log()), ("witness", nodes.witness.log())].into_iter().chain(servers).collect()
            }
            Ground::Machine(machine) => machine.logs(),
        }
    }

    /// The leader, if the pair is as it should be: one leader, and one follower that receives and applies, and in sync mode
    /// has everything that was acknowledged.
    pub(crate) async fn leader(&self) -> Result<Side> {
        let (a, b) = tokio::join!(self.clients[0].status(), self.clients[1].status());
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
        let (a, b) = tokio::join!(self.clients[0].status(), self.clients[1].status());
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
            self.clients[0].command(Command::ConfigureLeaderFollower, |_| {}).await?;
            Ok(Some(()))
        })
        .await
    }

    /// End everything and give the memory back.
    pub(crate) async fn remove(self) -> Result<()> {
        match self.ground {
            Ground::Network(nodes) => nodes.remove().await,
            Ground::Machine(machine) => machine.remove(),
        }
    }

    async fn make_user(&self) -> Result<()> {
        let user = User {
            password: self.servers[0].password.clone(),
            schema: self.servers[0].name.clone(),
            access: Access::Full,
        };
        let name = &self.servers[0].username;
        eventually("the application's user is made", START_LIMIT, async || {
            Ok(Some(self.clients[0].put_user(name, &user).await?))
        })
        .await
        .map(drop)
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
