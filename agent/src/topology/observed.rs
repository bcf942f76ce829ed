//! PURE. What is known about the two servers when a step is decided.

use std::net::IpAddr;

use agent::api::{Activity, Receiver};
use agent::quorum::Record;

use crate::gtid::{History, ParseError};

/// What a MariaDB leader says, with its error 1236, of an event that is not whole. MySQL ends itself rather than write on behind
/// one, and a copy begins no new binary log there.
const DAMAGED_LOG: [&str; 2] = ["did not pass crc check", "consider out of disk space on master"];

/// Both servers, as their agents see them, and what this run has done already.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) me: Server,
    pub(crate) peer: Peer,
    /// The latest epoch that `me` knows of is its own.
    pub(crate) is_elected: bool,
    pub(crate) run: Run,
}

/// What is done once in each run, whatever the servers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) has_demoted: bool,
    pub(crate) has_synced: bool,
    pub(crate) has_handed_over: bool,
    /// The leadership was taken from the peer, which is to have it back where this run fails.
    pub(crate) has_taken: bool,
    /// The old leader's server was killed to take it, and had its time to come back.
    pub(crate) has_awaited_return: bool,
    pub(crate) has_awaited_rejoin: bool,
    pub(crate) has_changed_sync: bool,
}

/// The other server of a pair.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, for one decision")]
pub(crate) enum Peer {
    /// A single node has none.
    None,
    /// Its agent or its server does not answer, and why. It may be writable all the same.
    Silent {
        address: IpAddr,
        why: String,
        /// Its agent says that the server runs and does not answer.
        has_hung_server: bool,
    },
    Answers(Server),
}

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// As an operator names it.
    pub(crate) instance: String,
    pub(crate) address: IpAddr,
    pub(crate) index: u32,
    pub(crate) is_writable: bool,
    pub(crate) executed: Result<History, ParseError>,
    pub(crate) purged: History,
    /// What it is about to commit, as a leader whose commits wait for the follower; that one may have them already.
    pub(crate) pending: History,
    pub(crate) channel: Option<Channel>,
    pub(crate) busy: Option<Activity>,
    /// What its agent has agreed to about who leads.
    pub(crate) record: Record,
    /// The last epoch in which it was or may have been writable, and has not followed since; 0 for none.
    pub(crate) led: u64,
}

/// A server's replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) source: String,
    pub(crate) receiver: Receiver,
    pub(crate) is_applier_running: bool,
    pub(crate) received: History,
    pub(crate) seconds_behind: Option<u64>,
    pub(crate) receiver_error: String,
    pub(crate) applier_error: String,
}

impl Server {
    /// The latest epoch that its agent knows of is its own.
    pub(crate) fn is_elected(&self) -> bool {
        self.record.leader.as_ref() == Some(&self.instance) && !self.record.is_vacant
    }

    /// Executed, about to be, or received.
    pub(crate) fn known(&self) -> Result<History, ParseError> {
        let executed = self.executed.clone()?.united_with(&self.pending);
        Ok(match &self.channel {
            Some(channel) => executed.united_with(&channel.received),
            None => executed,
        })
    }

    /// Nothing that the other one has executed or received is unknown here.
    pub(crate) fn has_all_of(&self, other: &Server) -> bool {
        self.known().ok().zip(other.known().ok()).is_some_and(|(own, others)| own.contains(&others))
    }

    /// As [`Server::has_all_of`], and applied.
    pub(crate) fn has_applied_all_of(&self, other: &Server) -> bool {
        self.executed.as_ref().ok().zip(other.known().ok()).is_some_and(|(own, others)| own.contains(&others))
    }

    pub(crate) fn has_applied_what_it_received(&self) -> bool {
        let received = self.channel.as_ref().map(|channel| &channel.received);
        self.executed.as_ref().is_ok_and(|executed| received.is_none_or(|received| executed.contains(received)))
    }

    /// Replication from `source` runs, connected or not.
    pub(crate) fn receives_from(&self, source: &Server) -> bool {
        let runs = |channel: &Channel| channel.is_applier_running && channel.receiver != Receiver::Stopped;
        self.channel.as_ref().is_some_and(|channel| runs(channel) && channel.source == source.address.to_string())
    }

    /// What a promotion that was cut off leaves behind: the other server is the source still, and there is nothing to apply.
    pub(crate) fn has_spent_source(&self, other: &Peer) -> bool {
        let address = match other {
            Peer::None => return false,
            Peer::Silent { address, .. } => address,
            Peer::Answers(other) => &other.address,
        };
        let is_spent = |channel: &Channel| {
            let is_whole = channel.is_applier_running || channel.is_stopped_without_error();
            channel.source == address.to_string() && is_whole && self.has_applied_what_it_received()
        };
        self.channel.as_ref().is_some_and(is_spent)
    }

    /// Replication from `source` is set up and stopped; nothing that was received would be lost when it starts.
    pub(crate) fn could_receive_from(&self, source: &Server) -> bool {
        let channel = self.channel.as_ref().filter(|channel| channel.is_stopped_without_error());
        let has_source = channel.is_some_and(|channel| channel.source == source.address.to_string());
        // Starting the threads empties the relay log, so the source must have all of it.
        has_source && source.has_all_of(self)
    }

    /// It led, and the voters chose the other one later, which has opened since.
    pub(crate) fn was_replaced_by(&self, leader: &Server) -> bool {
        let Record { epoch, leader: chosen, is_vacant, .. } = &leader.record;
        let is_chosen = chosen.as_ref() == Some(&leader.instance) && !is_vacant;
        let has_closed = !self.is_writable && self.led > 0 && self.led < *epoch;
        has_closed && is_chosen && leader.is_writable
    }

    /// Replication from `leader` works.
    pub(crate) fn follows(&self, leader: &Server) -> bool {
        let works = |channel: &Channel| {
            channel.source == leader.address.to_string()
                && channel.receiver == Receiver::Connected
                && channel.is_applier_running
        };
        !self.is_writable && self.channel.as_ref().is_some_and(works)
    }

    /// For a refusal: who, in what state, with what history.
    pub(super) fn describe(&self) -> String {
        let state = if self.is_writable { "writable" } else { "read-only" };
        let history = match &self.executed {
            Ok(history) => history.to_string(),
            Err(error) => error.to_string(),
        };
        let replication = self.channel.as_ref().map(|channel| format!(", {}", channel.describe())).unwrap_or_default();
        format!("{} at {} ({state}, GTID executed {history}{replication})", self.instance, self.address)
    }
}

impl Channel {
    /// Why the applier does not run although nobody has stopped replication; empty where the server does not say.
    pub(crate) fn broken_applier(&self) -> Option<&str> {
        let is_stopped = self.receiver == Receiver::Stopped;
        let is_broken = !self.is_applier_running && (!is_stopped || !self.applier_error.is_empty());
        is_broken.then_some(self.applier_error.as_str())
    }

    pub(crate) fn is_stopped_without_error(&self) -> bool {
        self.receiver == Receiver::Stopped && !self.is_applier_running && self.applier_error.is_empty()
    }

    /// The receiver stands at a place of the leader's binary log that cannot be read.
    pub(crate) fn stands_before_damage(&self, leader: &Server) -> bool {
        let is_of_damage = DAMAGED_LOG.iter().any(|words| self.receiver_error.contains(words));
        is_of_damage && self.receiver == Receiver::Stopped && self.source == leader.address.to_string()
    }

    /// Both threads run, and the leader is not reached yet.
    pub(crate) fn is_connecting_to(&self, leader: &Server) -> bool {
        self.receiver == Receiver::Connecting && self.is_applier_running && self.source == leader.address.to_string()
    }

    pub(crate) fn describe(&self) -> String {
        let receiver = match self.receiver {
            Receiver::Connected => "connected",
            Receiver::Connecting => "connecting",
            Receiver::Stopped => "stopped",
        };
        let applier = if self.is_applier_running { "running" } else { "stopped" };
        let mut text = format!("replicates from {}: receiver {receiver}, applier {applier}", self.source);
        for (name, error) in [("receiver", &self.receiver_error), ("applier", &self.applier_error)] {
            if !error.is_empty() {
                text.push_str(&format!(", last {name} error: {error}"));
            }
        }
        text
    }
}
