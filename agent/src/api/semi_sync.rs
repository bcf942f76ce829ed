//! What a status says about commits that wait for the follower.

use serde::{Deserialize, Serialize};

/// How commits wait for the follower: what the plan wants, and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemiSync {
    /// The plan has them wait.
    pub wanted: bool,
    /// This server's commits do wait: it is the leader, and has not given up.
    pub on: bool,
    /// The follower has everything that was acknowledged, and nothing is acknowledged without it: a failover loses nothing.
    pub in_sync: bool,
    /// Commits that wait for the follower now.
    pub waiting_sessions: u64,
    /// How long each waits at most. Where that is less than the longest time there is, nothing is promised.
    pub ack_timeout_ms: u64,
    /// A command has switched the wait off, and another one must switch it on again.
    pub degraded: bool,
}
