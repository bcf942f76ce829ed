//! What a server says about itself.

use agent::api::{Receiver, ReplicationMode};
use anyhow::Result;
use sqlx::mysql::MySqlRow;

use super::SemiSync;
use super::family::Words;
use super::statements::text;

/// What the server says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) is_read_only: bool,
    /// The state of the binary log.
    pub(crate) executed: String,
    /// The position before the oldest transaction that is still in the binary log.
    pub(crate) purged: String,
    /// What a writable MySQL server is about to commit: in its binary log perhaps, and perhaps received. MariaDB's history has it.
    pub(crate) pending: String,
    pub(crate) version: String,
    pub(crate) mode: ReplicationMode,
    pub(crate) semi_sync: SemiSync,
    pub(crate) channel: Option<Channel>,
}

/// What the server says about its replication.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) source: String,
    pub(crate) receiver: Receiver,
    pub(crate) is_applier_running: bool,
    pub(crate) received: String,
    pub(crate) seconds_behind: Option<u64>,
    /// The size of the relay log.
    pub(crate) relay_log_bytes: Option<u64>,
    pub(crate) receiver_error: String,
    pub(crate) applier_error: String,
}

impl Channel {
    pub(super) fn read(row: &MySqlRow, words: &Words) -> Result<Channel> {
        let column = |name: String| text(row, &name);
        let receiver = match column(format!("{}_IO_Running", words.replica))?.as_str() {
            "Yes" => Receiver::Connected,
            "No" => Receiver::Stopped,
            _ => Receiver::Connecting,
        };
        Ok(Channel {
            source: column(format!("{}_Host", words.source))?,
            receiver,
            is_applier_running: column(format!("{}_SQL_Running", words.replica))? == "Yes",
            received: column(words.received.to_owned())?.replace('\n', ""),
            seconds_behind: column(format!("Seconds_Behind_{}", words.source))?.parse().ok(),
            relay_log_bytes: column("Relay_Log_Space".to_owned())?.parse().ok(),
            receiver_error: column("Last_IO_Error".to_owned())?,
            applier_error: column("Last_SQL_Error".to_owned())?,
        })
    }

    /// Neither thread runs.
    pub(crate) fn is_stopped(&self) -> bool {
        self.receiver == Receiver::Stopped && !self.is_applier_running
    }
}
