//! What this agent was told: the instance that it runs on, its topology, its passwords and keys, and its peer. Read from
//! `config.json` once; everything that can be wrong with it is said here, before anything is started.

mod parameters;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::config::{Config, LinkedInstance, Secret, Spec, Tls};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::mysql::Family;
pub(crate) use parameters::{Parameters, Workload};

/// The properties of the job `mysql-agent`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Properties {
    topology: Topology,
    admin_password: Secret,
    replication_password: Option<Secret>,
    tls: Tls,
    /// The server's family; the one that is found, MariaDB first, where none is named.
    server: Option<Family>,
    witness: Option<Witness>,
    #[serde(default = "ten_seconds")]
    lease_ttl_in_ms: u64,
    #[serde(default = "without_waiting")]
    replication_mode: Mode,
    #[serde(default = "for_ever")]
    semi_sync_ack_timeout_in_ms: u64,
    #[serde(default)]
    failover: Failover,
    max_failover_loss_in_seconds: Option<u64>,
    replication_wait_timeout_in_seconds: Option<u64>,
    #[serde(default)]
    parameters: Parameters,
}

/// Who starts a failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failover {
    /// An operator.
    #[default]
    Manual,
    /// The follower, when it is known what that loses (`automatic.rs`).
    Automatic,
}

/// The third voter of a pair: the broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Witness {
    /// Its address or DNS name.
    pub(crate) host: String,
    #[serde(default = "witness_port")]
    pub(crate) port: u16,
}

/// What a commit waits for, as the plan has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Nothing.
    Async,
    /// The follower's receipt.
    SemiSync,
}

const REPLICATION_LIMIT: Duration = Duration::from_secs(300);
/// A shorter one would be lost to an ordinary pause of a busy VM.
const SHORTEST_LEASE_MS: u64 = 1_000;
const LONGEST_LEASE_MS: u64 = 600_000;
/// The product's, the longest that both server families take.
const LONGEST_ACK_TIMEOUT_MS: u64 = 9_223_372_036_854_775_807;

/// The last heartbeat may be a second old when the leader dies, and the decision takes a moment.
const SLOWEST_DECISION_MS: u64 = 2_000;

fn ten_seconds() -> u64 {
    10_000
}

fn without_waiting() -> Mode {
    Mode::Async
}

fn for_ever() -> u64 {
    LONGEST_ACK_TIMEOUT_MS
}

fn witness_port() -> u16 {
    agent::api::WITNESS_PORT
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
    pub(crate) server: Option<Family>,
    pub(crate) parameters: Parameters,
    /// The other server of a pair; none on a single node.
    pub(crate) pair: Option<Pair>,
}

/// What only a pair has.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) peer: LinkedInstance,
    pub(crate) replication_password: Secret,
    /// Without one, a promotion needs the other server's agent.
    pub(crate) witness: Option<Witness>,
    /// How long a leader may go on without a word from its follower or the witness.
    pub(crate) lease: Duration,
    pub(crate) mode: Mode,
    /// How long a commit waits for the follower's receipt before it stops waiting for any.
    pub(crate) ack_timeout_ms: u64,
    pub(crate) failover: Failover,
    /// How old the follower's newest heartbeat may be at an automatic failover in async mode.
    pub(crate) max_loss: Option<Duration>,
    /// How long a command waits for replication.
    pub(crate) replication_limit: Duration,
}

/// How commits wait for the follower, where they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) ack_timeout_ms: u64,
}

impl Sync {
    /// Is the follower's receipt the only licence to acknowledge a commit? Where the wait has an end nothing is promised: a
    /// server that gave up waiting acknowledges what only it has, and says so too late.
    pub(crate) fn is_promise(self) -> bool {
        self.ack_timeout_ms == LONGEST_ACK_TIMEOUT_MS
    }
}

impl Instance {
    pub(crate) fn new(config: Config<Properties>) -> Result<Instance> {
        let Config { spec, mut links, properties } = config;
        check_passwords(&properties)?;
        check_times(&properties)?;
        check_failover(&properties)?;
        let linked = links.remove("mysql").map(|link| link.instances).unwrap_or_default();
        let pair = match properties.topology {
            Topology::SingleNode => None,
            Topology::LeaderFollower => {
                let replication_password = properties.replication_password.context(
                    "property replication_password is missing; the topology leader-follower needs it beside admin_password",
                )?;
                Some(Pair {
                    peer: peer(&spec, linked)?,
                    replication_password,
                    witness: properties.witness,
                    lease: Duration::from_millis(properties.lease_ttl_in_ms),
                    mode: properties.replication_mode,
                    ack_timeout_ms: properties.semi_sync_ack_timeout_in_ms,
                    failover: properties.failover,
                    max_loss: properties.max_failover_loss_in_seconds.map(Duration::from_secs),
                    replication_limit: properties
                        .replication_wait_timeout_in_seconds
                        .map_or(REPLICATION_LIMIT, Duration::from_secs),
                })
            }
        };
        Ok(Instance {
            spec,
            admin_password: properties.admin_password,
            tls: properties.tls,
            server: properties.server,
            parameters: properties.parameters,
            pair,
        })
    }

    /// The instance in BOSH's words.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.spec.name, self.spec.id)
    }

    pub(crate) fn peer_address(&self) -> Option<IpAddr> {
        self.pair.as_ref().map(|pair| pair.peer.address)
    }

    /// None where the plan has commits wait for nobody.
    pub(crate) fn sync(&self) -> Option<Sync> {
        let pair = self.pair.as_ref().filter(|pair| pair.mode == Mode::SemiSync)?;
        Some(Sync { ack_timeout_ms: pair.ack_timeout_ms })
    }

    /// The plan promises that a failover loses no acknowledged transaction.
    pub(crate) fn promises_sync(&self) -> bool {
        self.sync().is_some_and(Sync::is_promise)
    }

    /// Only of a pair is there a wait.
    pub(crate) fn replication_limit(&self) -> Duration {
        self.pair.as_ref().map_or(REPLICATION_LIMIT, |pair| pair.replication_limit)
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

fn check_times(properties: &Properties) -> Result<()> {
    for (name, value, least, most) in [
        ("lease_ttl_in_ms", properties.lease_ttl_in_ms, SHORTEST_LEASE_MS, LONGEST_LEASE_MS),
        ("semi_sync_ack_timeout_in_ms", properties.semi_sync_ack_timeout_in_ms, 1, LONGEST_ACK_TIMEOUT_MS),
    ] {
        ensure!((least..=most).contains(&value), "property {name} is {value}; give it {least} to {most} milliseconds");
    }
    Ok(())
}

/// A failover that nobody asks for must know what it loses: nothing, or no more than the plan says.
fn check_failover(properties: &Properties) -> Result<()> {
    if properties.failover == Failover::Manual {
        return Ok(());
    }
    ensure!(properties.witness.is_some(), "property failover is automatic, which needs the property witness");
    match properties.max_failover_loss_in_seconds {
        None => ensure!(
            properties.replication_mode == Mode::SemiSync,
            "property failover is automatic, which needs replication_mode semi-sync, or max_failover_loss_in_seconds"
        ),
        // What the follower has is as old as the lease before the leader is known to be gone.
        Some(seconds) => {
            let least = (properties.lease_ttl_in_ms + SLOWEST_DECISION_MS).div_ceil(1_000);
            ensure!(
                seconds >= least,
                "property max_failover_loss_in_seconds is {seconds}, which no failover can keep with this lease_ttl_in_ms; \
                 give it at least {least}"
            );
        }
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
