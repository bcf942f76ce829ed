//! `GET /v1/inspection`: both servers as one agent sees them, and whether that is well.

use serde::{Deserialize, Serialize};

use super::Status;

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The server of the asked agent.
    pub status: Status,
    /// The other server; none on a single node, and where nobody there gives a status.
    pub peer: Option<Status>,
    /// The other server's agent answers, whatever it says of its server.
    #[serde(default)]
    pub peer_agent_answers: bool,
    /// Accounts on this server, but for the agent's and the operator's own, whose sessions a read-only server does not stop
    /// from writing, or that can make it writable.
    #[serde(default)]
    pub writers_through_read_only: Vec<String>,
    /// What both together mean.
    pub verdict: Verdict,
}

/// Is a service instance well?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// One server takes writes, and where there are two, the other one could take over without a loss that anybody notices.
    pub healthy: bool,
    /// What is the matter, for a human.
    pub sentence: String,
    /// What to do about it, or about what was saved of a former leader; none where there is nothing to do.
    pub next_action: Option<String>,
}
