//! What the two agents of a pair ask each other while one of them carries out a command.

use serde::{Deserialize, Serialize};

/// `POST /v1/steps/follow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// The leader's address.
    pub leader: std::net::IpAddr,
}

/// A position in a leader's history, and how long to wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The last transaction, as the server family writes it; empty for none.
    pub gtid: String,
    /// The longest wait.
    pub timeout_ms: u64,
}

/// The right to one promotion: a later ticket makes the earlier ones void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// A random number.
    pub ticket: u64,
    /// Who gives it, as `group/id`.
    pub instance: String,
}

/// `POST /v1/steps/succeed`: the question of a leader whose server has died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// The epoch of that leader.
    pub epoch: u64,
    /// The follower has received every transaction that was acknowledged.
    pub in_sync: bool,
}

/// The answer of a follower that is fit to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// As in [`Ticket`].
    pub ticket: u64,
    /// Who takes over, as `group/id`.
    pub instance: String,
    /// Everything that it has received, which is applied.
    pub received: String,
}

/// `POST /v1/steps/promote`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// The last ticket that this server gave.
    pub ticket: u64,
    /// The epoch of the new leadership, to which the old leader has agreed.
    pub epoch: u64,
    /// What must be applied first, and the time after which this server must not promote itself any more.
    pub position: Position,
}
