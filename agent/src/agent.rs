//! The agent's parts, and how it sees the two servers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use agent::Client;
use agent::api::{self, Role, Status};
use agent::config::Secret;
use anyhow::{Context, Result};
use tokio::sync::{Mutex, RwLock, Semaphore};
use tokio_util::task::TaskTracker;

use crate::automatic::Automatic;
use crate::busy::Busy;
use crate::instance::Instance;
use crate::journal::Journal;
use crate::leadership::Leadership;
use crate::mysql::{self, Database, Facts};
use crate::mysqld::{Files, Mysqld, State, Supervisor};
use crate::report::sentence;
use crate::salvage;
use crate::topology::{Channel, Observed, Peer, Run, Server};

/// How often a relay log that cannot be read is looked at again.
const LOOKS: usize = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A promotion waits for this when the other VM is cut off. Who is silent for longer is not thereby dead: the voters decide.
const PEER_LIMIT: Duration = Duration::from_secs(2);
/// An agent whose server hangs says so within the above.
const PEER_SERVER_LIMIT: Duration = Duration::from_secs(1);

/// The agent.
pub(crate) struct Agent {
    pub(crate) instance: Instance,
    pub(crate) files: Files,
    pub(crate) database: Database,
    pub(crate) mysqld: Mysqld,
    pub(crate) leadership: Leadership,
    pub(crate) journal: Journal,
    pub(crate) automatic: Automatic,
    pub(crate) busy: Busy,
    pub(crate) closing: Closing,
    /// Why the server is not what it should be, for its status.
    pub(crate) trouble: std::sync::Mutex<Option<String>>,
    /// Held for reading while a binding's user is made or dropped, for writing while the server turns read-only: the
    /// agent's own statements pass `read_only`, so one in flight would become a transaction that the next leader lacks.
    pub(crate) users: RwLock<()>,
    /// Held while it changes whether commits wait for the follower.
    pub(crate) sync: Mutex<()>,
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
        let database = Database::new(&files.socket.for_agent, &files.data, &instance.admin_password);
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
            journal: Journal::new(&instance.store()),
            leadership: Leadership::new(&instance).context("take up the leadership where it was")?,
            automatic: Automatic::new(&instance).context("read which failovers there were")?,
            instance,
            files,
            database,
            mysqld,
            busy: Busy::default(),
            closing: Closing::default(),
            trouble: std::sync::Mutex::default(),
            users: RwLock::new(()),
            sync: Mutex::new(()),
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

    /// A server that does not run is not writable. One that this agent has not found or started yet may run. Says whether it
    /// was open.
    pub(crate) fn forget_a_server_that_ended(&self) -> bool {
        let was_open = self.mysqld.is_not_running() && self.leadership.is_open();
        if was_open {
            self.leadership.closed();
        }
        was_open
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        if let State::Down(why) = self.mysqld.state() {
            anyhow::bail!(why);
        }
        let facts = self.facts().await?;
        let heartbeat_age = self.heartbeat_age(&facts).await;
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
            gtid_pending: facts.pending,
            replication: facts.channel.map(|channel| api::Replication {
                source: channel.source,
                receiver: channel.receiver,
                applier_running: channel.is_applier_running,
                gtid_received: channel.received,
                seconds_behind: channel.seconds_behind,
                seconds_since_leader_heartbeat: heartbeat_age,
                relay_log_space: channel.relay_log_bytes,
                receiver_error: channel.receiver_error,
                applier_error: channel.applier_error,
            }),
            semi_sync: self.semi_sync(&facts.semi_sync),
            busy: self.busy.holder(),
            version: facts.version,
            record: self.leadership.record(),
            lease_ms: self.leadership.lease_left().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            led: self.leadership.led(),
            saved: salvage::list(&self.files.saved())?,
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }

    fn semi_sync(&self, said: &mysql::SemiSync) -> Option<api::SemiSync> {
        let plan = self.instance.sync();
        (plan.is_some() || said.is_source_on).then(|| api::SemiSync {
            wanted: plan.is_some(),
            on: said.is_source_on,
            in_sync: self.leadership.in_sync(),
            waiting_sessions: said.waiting_sessions,
            ack_timeout_ms: plan.map_or(said.timeout_ms, |plan| plan.ack_timeout_ms),
            degraded: self.leadership.is_degraded(),
        })
    }

    /// What the server says; and of a channel whose threads are stopped, what its files say, because after a restart the
    /// server does not know what it received. A channel that is changed meanwhile has no files for a moment.
    async fn facts(&self) -> Result<Facts> {
        let mut looks = 0;
        loop {
            let mut facts = self.database.facts().await?;
            let Some(channel) = facts.channel.as_mut().filter(|channel| channel.is_stopped()) else {
                return Ok(facts);
            };
            match self.database.received_on_disk().await {
                Ok(received) => {
                    channel.received = received.in_order();
                    return Ok(facts);
                }
                Err(error) if looks == LOOKS => return Err(error),
                Err(_) => looks += 1,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// On a follower. A heartbeat that cannot be read is no reason to know nothing else of the server.
    async fn heartbeat_age(&self, facts: &Facts) -> Option<f64> {
        facts.channel.as_ref()?;
        let age = self.database.seconds_since_leader_heartbeat().await;
        age.inspect_err(|error| tracing::debug!("the heartbeat is not known: {}", sentence(error))).ok().flatten()
    }

    /// This server, for a decision.
    pub(crate) async fn own_server(&self) -> Result<Server> {
        server(self.status().await.context("failed to fetch status from local node")?, self.instance.spec.ip)
    }

    /// The peer's server, for a decision.
    pub(crate) async fn peer_server(&self) -> Result<Server> {
        let peer = self.pair()?;
        let status = peer.client.status().await?;
        self.database.check_peer(&status.version)?;
        server(status, peer.address)
    }

    /// Both servers. A writable one is read last: what the other one has received by then, it has written.
    pub(crate) async fn observe(&self, run: Run) -> Result<Observed> {
        let me = self.own_server().await?;
        let peer = self.look_at_peer().await?;
        let me = if me.is_writable { self.own_server().await? } else { me };
        let is_elected = self.leadership.own_epoch().is_some();
        Ok(Observed { me, peer, is_elected, run })
    }

    /// The other server, as its agent sees it.
    pub(crate) async fn look_at_peer(&self) -> Result<Peer> {
        let Some(pair) = &self.pair else { return Ok(Peer::None) };
        Ok(match tokio::time::timeout(PEER_LIMIT, pair.client.status_within(PEER_SERVER_LIMIT)).await {
            Ok(Ok(status)) => {
                self.database.check_peer(&status.version)?;
                Peer::Answers(server(status, pair.address)?)
            }
            Ok(Err(error)) => Peer::Silent {
                address: pair.address,
                why: error.to_string(),
                has_hung_server: error.is_of_hung_server(),
            },
            Err(_) => Peer::Silent {
                address: pair.address,
                why: format!("its agent did not answer within {} s", PEER_LIMIT.as_secs()),
                has_hung_server: false,
            },
        })
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
        pending: status.gtid_pending.parse()?,
        channel: channel.transpose()?,
        busy: status.busy,
        record: status.record,
        led: status.led,
    })
}
