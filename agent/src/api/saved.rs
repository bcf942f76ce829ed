//! What a server saved before its data were replaced.

use serde::{Deserialize, Serialize};

/// Transactions that only a replaced leader had, in a file on its persistent disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The file that a human can read. Beside it lies one with the events as they are, ending in `.binlog`.
    pub file: String,
    /// The last epoch in which the server led.
    pub epoch: u64,
    /// What the leader lacked of this server's history, as the server family writes it.
    pub gtid_set: String,
    /// How many transactions that are.
    pub transactions: u64,
    /// How many of them are more than the agent's own heartbeats and epochs.
    pub of_applications: u64,
}
