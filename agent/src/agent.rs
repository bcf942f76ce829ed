//! The agent's parts, and how it sees the two servers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agent::Client;
use agent::api::{self, Activity, Role, Status};
use agent::client::Error as ClientError;
use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::busy::Busy;
use crate::fence::{self, MarkerFile};
use crate::instance::{Instance, Secret};
use crate::mysql::{self, Database, Facts};
use crate::mysqld::{Files, Mysqld, State, Supervisor};
use crate::report::sentence;
use crate::topology::{Channel, Observed, Peer, Run, Server};

/// The agent.
pub(crate) struct Agent {
    pub(crate) instance: Instance,
    pub(crate) files: Files,
    pub(crate) database: Database,
    pub(crate) mysqld: Mysqld,
    pub(crate) marker: MarkerFile,
    pub(crate) busy: Busy,
    pub(crate) closing: Closing,
    /// The right to promote this follower that was given last.
    pub(crate) ticket: Mutex<Option<u64>>,
    /// One backup at a time.
    pub(crate) backups: Arc<Semaphore>,
    /// Commands that go on without their client.
    pub(crate) tasks: TaskTracker,
    pair: Option<PeerClient>,
}

/// How to speak with the peer.
pub(crate) struct PeerClient {
    pub(crate) client: Client,
    pub(crate) address: IpAddr,
    pub(crate) replication_password: Secret,
}

/// True while this server turns read-only: from then on it must not be given a connection any more, although for a moment
/// it still is writable.
#[derive(Default)]
pub(crate) struct Closing(AtomicBool);

impl Closing {
    pub(crate) fn begin(&self) -> ClosingGuard<'_> {
        self.0.store(true, Ordering::SeqCst);
        ClosingGuard(self)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) struct ClosingGuard<'a>(&'a Closing);

impl Drop for ClosingGuard<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::SeqCst);
    }
}

impl Agent {
    pub(crate) fn new(instance: Instance) -> Result<(Agent, Supervisor)> {
        let files = Files::new(&instance)?;
        let database = Database::new(&files.socket.for_agent, &instance.admin_password);
        let (mysqld, supervisor) = Mysqld::new(&instance, files.clone(), database.clone());
        let pair = match &instance.pair {
            None => None,
            Some(pair) => Some(PeerClient {
                client: Client::new(pair.peer.address, &instance.spec.deployment, &instance.tls)
                    .context("property tls is not usable")?,
                address: pair.peer.address,
                replication_password: pair.replication_password.clone(),
            }),
        };
        let agent = Agent {
            marker: MarkerFile::new(&files.run),
            instance,
            files,
            database,
            mysqld,
            busy: Busy::default(),
            closing: Closing::default(),
            ticket: Mutex::new(None),
            backups: Arc::new(Semaphore::new(1)),
            tasks: TaskTracker::new(),
            pair,
        };
        Ok((agent, supervisor))
    }

    pub(crate) fn pair(&self) -> Result<&PeerClient> {
        self.pair.as_ref().context("this instance is a single node and has no other server")
    }

    /// May a connection be given to this server? Asked before every connection, so it is one statement.
    pub(crate) async fn is_writable_leader(&self) -> Result<bool> {
        Ok(!self.closing.is_on() && self.database.is_writable().await?)
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        if let State::Down(why) = self.mysqld.state() {
            anyhow::bail!(why);
        }
        let facts = self.database.facts().await?;
        Ok(Status {
            instance: self.instance.name(),
            index: self.instance.spec.index,
            ip_address: self.instance.spec.ip.to_string(),
            role: role(&facts),
            read_only: facts.is_read_only,
            replication_configured: facts.channel.is_some(),
            replication_mode: facts.mode,
            has_data: !facts.executed.is_empty(),
            gtid_executed: facts.executed,
            gtid_purged: facts.purged,
            replication: facts.channel.map(|channel| api::Replication {
                source: channel.source,
                receiver: channel.receiver,
                applier_running: channel.is_applier_running,
                gtid_received: channel.received,
                seconds_behind: channel.seconds_behind,
                receiver_error: channel.receiver_error,
                applier_error: channel.applier_error,
            }),
            busy: self.busy.holder(),
            version: facts.version,
        })
    }

    /// This server, for a decision.
    pub(crate) async fn own_server(&self) -> Result<Server> {
        server(self.status().await.context("failed to fetch status from local node")?, self.instance.spec.ip)
    }

    /// The peer's server, for a decision.
    pub(crate) async fn peer_server(&self) -> Result<Server> {
        let peer = self.pair()?;
        server(peer.client.status().await?, peer.address)
    }

    /// Both servers. A writable one is read last: what the other one has received by then, it has written.
    pub(crate) async fn observe(&self, run: Run) -> Result<Observed> {
        let me = self.own_server().await?;
        let Some(pair) = &self.pair else { return Ok(Observed { me, peer: Peer::None, run }) };
        let peer = match self.peer_server().await {
            Ok(server) => Peer::Answers(server),
            Err(error) => Peer::Silent {
                address: pair.address,
                why: sentence(&error),
                is_writable: self.probe_peer(pair).await == Some(true),
            },
        };
        let me = if me.is_writable { self.own_server().await? } else { me };
        Ok(Observed { me, peer, run })
    }

    /// What the fence must know about the peer.
    pub(crate) async fn fence_view(&self) -> fence::Peer {
        let Some(pair) = &self.pair else { return fence::Peer::None };
        match pair.client.status().await {
            Ok(status) => fence::Peer::Answers { is_writable: !status.read_only, busy: status.busy },
            // Its server does not answer at the moment, but its agent is about to do something with it.
            Err(ClientError::Problem(problem)) if problem.error == "Busy" => {
                fence::Peer::Answers { is_writable: false, busy: Some(Activity::PeerCommand) }
            }
            Err(ClientError::Problem(_)) => fence::Peer::Silent,
            // A server outlives its agent; it can be asked without.
            Err(_) => match self.probe_peer(pair).await {
                Some(is_writable) => fence::Peer::Answers { is_writable, busy: None },
                None => fence::Peer::Silent,
            },
        }
    }

    /// Is the peer's server writable? None when it does not answer either.
    async fn probe_peer(&self, pair: &PeerClient) -> Option<bool> {
        let probed = mysql::is_remote_writable(pair.address, &pair.replication_password).await;
        probed.inspect_err(|error| tracing::debug!("the peer's server does not answer: {}", sentence(error))).ok()
    }

    /// A new right to promote this follower; every earlier one is void.
    pub(crate) fn issue_ticket(&self, ticket: u64) {
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
    }

    /// Use the right up; false where it is not the last one that was given.
    pub(crate) fn redeem_ticket(&self, ticket: u64) -> bool {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take() == Some(ticket)
    }
}

fn role(facts: &Facts) -> Role {
    match (facts.is_read_only, facts.channel.is_some()) {
        (false, false) => Role::Leader,
        (true, true) => Role::Follower,
        (false, true) | (true, false) => Role::Unknown,
    }
}

fn server(status: Status, address: IpAddr) -> Result<Server> {
    let channel = status.replication.map(|replication| {
        anyhow::Ok(Channel {
            source: replication.source,
            receiver: replication.receiver,
            is_applier_running: replication.applier_running,
            received: replication.gtid_received.parse()?,
            seconds_behind: replication.seconds_behind,
            receiver_error: replication.receiver_error,
            applier_error: replication.applier_error,
        })
    });
    Ok(Server {
        instance: status.instance,
        address,
        index: status.index,
        is_writable: !status.read_only,
        executed: status.gtid_executed.parse(),
        purged: status.gtid_purged.parse()?,
        channel: channel.transpose()?,
        busy: status.busy,
    })
}
