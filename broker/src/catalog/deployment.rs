//! The block `deployment` of a plan: what the plan means to the director and to the agents.

use serde::Deserialize;

/// What a plan means to the director.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deployment {
    pub(crate) topology: Topology,
    pub(crate) azs: Vec<String>,
    pub(crate) vm_type: String,
    pub(crate) disk_type: String,
    /// What the cloud config says of the disk type. A plan with another type is an upgrade only where it is known to be no
    /// smaller.
    pub(crate) disk_size_in_mb: Option<u64>,
    /// What the VMs find, MariaDB first, where the plan does not say.
    pub(crate) server: Option<Server>,
    /// Where the user does not say; `async` where the plan does not either. Pairs only, as everything below.
    pub(crate) replication_mode: Option<ReplicationMode>,
    pub(crate) semi_sync_ack_timeout_in_ms: Option<u64>,
    /// The broker's own where the plan has none.
    pub(crate) lease_ttl_in_ms: Option<u64>,
    pub(crate) failover: Option<Failover>,
    /// How much an automatic failover may lose; without it there is none while the mode is async.
    pub(crate) max_failover_loss_in_seconds: Option<u64>,
}

/// A family of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Server {
    MariaDb,
    /// Percona Server as well.
    MySql,
}

impl Server {
    /// The word of catalogs and manifests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::MariaDb => "mariadb",
            Server::MySql => "mysql",
        }
    }
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReplicationMode {
    /// Nothing.
    Async,
    /// The follower's receipt.
    SemiSync,
}

impl ReplicationMode {
    pub(crate) const ALL: [ReplicationMode; 2] = [ReplicationMode::Async, ReplicationMode::SemiSync];

    /// The word of catalogs, parameters and manifests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ReplicationMode::Async => "async",
            ReplicationMode::SemiSync => "semi-sync",
        }
    }
}

/// Who starts a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failover {
    /// An operator.
    Manual,
    /// The pair itself, when it knows what is lost.
    Automatic,
}

impl Deployment {
    /// May a pair of this plan replicate in this mode?
    pub(crate) fn check_mode(&self, mode: ReplicationMode) -> Result<(), &'static str> {
        let is_automatic = self.failover == Some(Failover::Automatic);
        match mode {
            ReplicationMode::Async if is_automatic && self.max_failover_loss_in_seconds.is_none() => {
                Err("automatic failover needs `replication_mode: semi-sync`, by which nothing is lost, or \
                 `max_failover_loss_in_seconds` in the plan")
            }
            ReplicationMode::Async | ReplicationMode::SemiSync => Ok(()),
        }
    }
}

/// Which servers a plan has, and which manifest makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topology {
    SingleNode,
    LeaderFollower,
}

impl Topology {
    /// The manifest beside the catalog.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Topology::SingleNode => "single-node.yml",
            Topology::LeaderFollower => "leader-follower.yml",
        }
    }

    /// Two servers, of which one follows the other.
    pub(crate) fn is_pair(self) -> bool {
        match self {
            Topology::SingleNode => false,
            Topology::LeaderFollower => true,
        }
    }
}
