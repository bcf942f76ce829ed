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
    /// What to do about it; none where it is healthy.
    pub next_action: Option<String>,
}
