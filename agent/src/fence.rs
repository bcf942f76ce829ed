//! May this server be writable now? The decision is pure; the only file that it rests on is beside it.
//!
//! The rule of this release. A single node: yes. A server of a pair: only if it was made the leader since its VM was made
//! (its *marker* says so, a file in `sys/run`, which survives the server and the agent but not the VM), and the peer,
//! asked after this agent's busy flag went up, is not writable. Both agents raise the flag before they look, so when both
//! want to lead at once, at least one of them sees the other's flag and holds back; looking first would let both through.
//!
//! Not guarded yet: a peer of which neither agent nor server can be reached counts as not writable, so a leader that is cut off from its follower
//! stays writable while an operator promotes the follower. Epochs and leases close that gap and will have their place here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use agent::api::Activity;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::mysqld::{remove_file_if_there, write_private};

/// What this server was made since its VM was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Marker {
    Leader,
    Follower { source: IpAddr },
}

/// What the peer answered, after this agent's flag went up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A single node has none.
    None,
    /// Neither its agent nor its server answered, or the agent says that the server does not.
    Silent,
    Answers {
        is_writable: bool,
        busy: Option<Activity>,
    },
}

/// What a server that has just started may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    Open,
    /// Go on replicating from the source.
    Follow,
    /// Ask again soon.
    Wait(&'static str),
    /// Stay read-only until a command says otherwise.
    Stay(&'static str),
    /// As `Stay`, and the marker is no longer true.
    Forget(&'static str),
}

/// Why a recovery waits that will not wait long.
pub(crate) const PEER_BUSY: &str = "the peer is busy";

/// After a start of the server or the agent.
pub(crate) fn after_start(marker: Option<Marker>, peer: Peer) -> Recovery {
    match (marker, peer) {
        (_, Peer::None) => Recovery::Open,
        (None, _) => {
            Recovery::Stay("it was not made leader or follower since its VM was made; run configure-leader-follower")
        }
        (Some(_), Peer::Answers { busy: Some(_), .. }) => Recovery::Wait(PEER_BUSY),
        (Some(Marker::Leader), Peer::Silent) => Recovery::Open,
        (Some(Marker::Leader), Peer::Answers { is_writable: false, .. }) => Recovery::Open,
        (Some(Marker::Leader), Peer::Answers { is_writable: true, .. }) => {
            Recovery::Forget("the peer is the writable leader now; run configure-leader-follower to follow it")
        }
        (Some(Marker::Follower { .. }), Peer::Answers { is_writable: true, .. }) => Recovery::Follow,
        (Some(Marker::Follower { .. }), Peer::Silent | Peer::Answers { is_writable: false, .. }) => {
            Recovery::Wait("the leader is not there")
        }
    }
}

/// May a command make this server writable? Its own flag is up; a command of the peer has this server's word as well.
pub(crate) fn may_lead(peer: Peer) -> Result<(), &'static str> {
    match peer {
        Peer::Answers { is_writable: true, .. } => Err("the other server is writable; make it read-only first"),
        Peer::None | Peer::Silent | Peer::Answers { is_writable: false, .. } => Ok(()),
    }
}

/// The marker's file.
#[derive(Clone, Debug)]
pub(crate) struct MarkerFile(PathBuf);

impl MarkerFile {
    pub(crate) fn new(run: &Path) -> MarkerFile {
        MarkerFile(run.join("role.json"))
    }

    /// A marker that cannot be read is none: the safe side.
    pub(crate) fn read(&self) -> Option<Marker> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        serde_json::from_str(&text).inspect_err(|error| tracing::warn!(%error, "the role marker is not readable")).ok()
    }

    pub(crate) fn write(&self, marker: Marker) -> Result<()> {
        write_private(&self.0, &serde_json::to_string(&marker).context("write the role marker")?)
    }

    pub(crate) fn remove(&self) -> Result<()> {
        remove_file_if_there(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_server_becomes_what_it_was_only_where_that_is_safe() {
        let follower = Some(Marker::Follower { source: "127.1.0.1".parse().unwrap() });
        let answers = |is_writable| Peer::Answers { is_writable, busy: None };
        let busy = |is_writable| Peer::Answers { is_writable, busy: Some(Activity::PeerCommand) };
        for (marker, peer, expected) in [
            (None, Peer::None, "Open"),
            (None, Peer::Silent, "Stay"),
            (None, answers(false), "Stay"),
            (Some(Marker::Leader), Peer::Silent, "Open"),
            (Some(Marker::Leader), answers(false), "Open"),
            (Some(Marker::Leader), answers(true), "Forget"),
            (Some(Marker::Leader), busy(false), "Wait"),
            (Some(Marker::Leader), busy(true), "Wait"),
            (follower, Peer::Silent, "Wait"),
            (follower, answers(false), "Wait"),
            (follower, answers(true), "Follow"),
            (follower, busy(true), "Wait"),
        ] {
            let verdict = format!("{:?}", after_start(marker, peer));
            assert!(verdict.starts_with(expected), "{marker:?} {peer:?}: {verdict}");
        }
    }

    #[test]
    fn nobody_leads_beside_a_writable_peer() {
        assert!(may_lead(Peer::Answers { is_writable: true, busy: None }).is_err());
        assert!(may_lead(Peer::Answers { is_writable: false, busy: None }).is_ok());
        assert!(may_lead(Peer::Silent).is_ok());
    }

    #[test]
    fn the_marker_survives_in_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = MarkerFile::new(directory.path());
        let marker = Marker::Follower { source: "127.1.0.1".parse().unwrap() };

        assert_eq!(file.read(), None);
        file.write(marker).unwrap();
        assert_eq!(file.read(), Some(marker));
        file.remove().unwrap();
        assert_eq!(file.read(), None);
    }
}
