//! The server on a simulated VM: no MySQL, only what an agent says of one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{FILE, Kept, read_file};
use crate::file;

/// What its disk knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    pub(super) role: Role,
    /// Whom it follows.
    pub(super) source: Option<Ipv4Addr>,
    /// The users of the bindings, without their passwords.
    pub(super) users: BTreeSet<String>,
}

/// The agent's word for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Leader,
    Follower,
    #[default]
    Unknown,
}

impl Server {
    pub(super) fn read(disk: &Path) -> anyhow::Result<Self> {
        read_file(&disk.join(FILE))
    }

    pub(super) fn write(&self, disk: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec(self).context("write a simulated server")?;
        file::replace_unflushed(&disk.join(FILE), &text)
    }

    /// A server without a peer leads; one of a pair stays what it was, and waits for its errand at first.
    pub(super) fn start(&mut self, vm: &Kept) {
        if vm.peers().is_empty() {
            self.lead();
        }
    }

    pub(super) fn lead(&mut self) {
        (self.role, self.source) = (Role::Leader, None);
    }

    pub(super) fn follow(&mut self, leader: Ipv4Addr) {
        (self.role, self.source) = (Role::Follower, Some(leader));
    }

    pub(super) fn turn_read_only(&mut self) {
        (self.role, self.source) = (Role::Unknown, None);
    }

    /// `GET /v1/status`, in the words of `agent/src/api.rs`.
    pub(super) fn status(&self, vm: &Kept) -> Value {
        let (spec, properties) = (&vm.config()["spec"], &vm.config()["properties"]);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mode = if properties["replication_mode"] == "semi-sync" { "semisync" } else { "async" };
        let instance = format!("{}/{}", word(&spec["name"]), word(&spec["id"]));
        // Who leads was chosen by the pair's voters; whom a follower's record names, nobody asks.
        let leader = (self.role == Role::Leader).then_some(&instance);
        let replication = self.source.map(|source| {
            json!({"source": source, "receiver": "connected", "applier_running": true, "gtid_received": "0-1-1",
                "seconds_behind": 0, "seconds_since_leader_heartbeat": 0.1, "relay_log_space": 256,
                "receiver_error": "", "applier_error": ""})
        });
        json!({
            "instance": instance,
            "index": spec["index"], "ip_address": vm.address, "role": self.role,
            "read_only": self.role != Role::Leader, "replication_configured": replication.is_some(),
            "replication_mode": mode, "has_data": true, "gtid_executed": "0-1-1", "replication": replication,
            "gtid_purged": "", "gtid_pending": "", "busy": null, "version": "10.11.0-simulated",
            "record": {"epoch": 1, "leader": leader, "lease_ms": 0, "in_sync": true, "withdrawals": 0, "is_vacant": false},
            "lease_ms": null, "semi_sync": null, "led": 0, "saved": [], "trouble": null,
        })
    }
}
