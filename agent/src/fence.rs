//! May this server be writable now? The decision is pure; the only file that it rests on is beside it.
//!
//! The rule of this release. A single node: yes. A server of a pair: only if it was made the leader since its VM was made
//! (its *marker* says so, a file in `sys/run`, which survives the server and the agent but not the VM), and the peer,
//! asked after this agent's busy flag went up, is not writable. Both agents raise the flag before they look, so when both
//! want to lead at once, at least one of them sees the other's flag and holds back; looking first would let both through.
//!
//! An agent whose server does not answer says whether that was made the leader (`LeaderUnavailable`), so a leader that
//! returns waits for a newer one that is only down for a moment.
//!
//! Not guarded yet: a peer of which nothing can be reached counts as gone. So a leader that is cut off from its follower
//! stays writable while an operator promotes the follower, and an old leader that returns while the new one is away opens
//! without the new one's transactions. Epochs and leases close that gap and will have their place here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use agent::api::Activity;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::gtid::History;
use crate::mysqld::{remove_file_if_there, write_private};

/// What this server was made since its VM was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Marker {
    Leader,
    Follower { source: IpAddr },
}

/// What is known of the peer, after this agent's flag went up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A single node has none.
    None,
    /// Nobody is there: no agent answers, and no server takes a connection.
    Gone,
    /// Somebody is there; its server may be writable, or was made the leader and will be again.
    Unclear,
    Answers {
        is_writable: bool,
        busy: Option<Activity>,
        /// Executed or received. None where its server is down and was not made the leader: it has nothing of its own.
        known: Option<History>,
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

/// After a start of the server or the agent. `own` is what this server has executed or received.
pub(crate) fn after_start(marker: Option<Marker>, own: &History, peer: &Peer) -> Recovery {
    let Some(marker) = marker else {
        return match peer {
            Peer::None => Recovery::Open,
            Peer::Gone | Peer::Unclear | Peer::Answers { .. } => Recovery::Stay(
                "it was not made leader or follower since its VM was made; run configure-leader-follower",
            ),
        };
    };
    match (marker, peer) {
        (_, Peer::None) | (Marker::Leader, Peer::Gone) => Recovery::Open,
        (_, Peer::Answers { busy: Some(_), .. }) => Recovery::Wait(PEER_BUSY),
        (_, Peer::Unclear) => Recovery::Wait("the peer is there and does not say what its server is"),
        (Marker::Leader, Peer::Answers { is_writable: true, .. }) => {
            Recovery::Forget("the peer is the writable leader now; run configure-leader-follower to follow it")
        }
        (Marker::Leader, Peer::Answers { is_writable: false, known, .. }) => {
            if known.as_ref().is_none_or(|known| own.contains(known)) {
                return Recovery::Open;
            }
            Recovery::Stay(
                "the peer has transactions that this server lacks, so it led since; run configure-leader-follower",
            )
        }
        (Marker::Follower { .. }, Peer::Answers { is_writable: true, known: Some(known), .. }) => {
            // Starting the threads empties the relay log, so the leader must have all of it.
            if known.contains(own) {
                return Recovery::Follow;
            }
            Recovery::Stay("this server has transactions that the leader lacks; run configure-leader-follower")
        }
        (Marker::Follower { .. }, Peer::Gone | Peer::Answers { .. }) => Recovery::Wait("the leader is not there"),
    }
}

/// May a command make this server writable? Its own flag is up; a command of the peer has this server's word as well.
pub(crate) fn may_lead(peer: &Peer) -> Result<(), &'static str> {
    match peer {
        Peer::Answers { is_writable: true, .. } => Err("the other server is writable; make it read-only first"),
        Peer::Unclear => Err(
            "the other VM is there and does not say whether its server is writable; wait until it does, or stop that VM",
        ),
        Peer::None | Peer::Gone | Peer::Answers { is_writable: false, .. } => Ok(()),
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

/// The note that an operator took the leadership from this server, kept on the persistent disk until it leads or follows
/// again: meanwhile the other server may have led, and only that one can say so.
#[derive(Clone, Debug)]
pub(crate) struct Demoted(PathBuf);

impl Demoted {
    pub(crate) fn new(store: &Path) -> Demoted {
        Demoted(store.join("demoted"))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.exists()
    }

    pub(crate) fn set(&self) -> Result<()> {
        write_private(&self.0, "")
    }

    pub(crate) fn clear(&self) -> Result<()> {
        remove_file_if_there(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_server_becomes_what_it_was_only_where_that_is_safe() {
        let own = "0-1-5".parse().unwrap();
        let leader = Some(Marker::Leader);
        let follower = Some(Marker::Follower { source: "127.1.0.1".parse().unwrap() });
        let knows = |is_writable, known: &str| answers(is_writable, None, Some(known));
        let busy = |is_writable| answers(is_writable, Some(Activity::PeerCommand), Some(""));
        let is_down = answers(false, None, None);
        for (marker, peer, expected) in [
            (None, Peer::None, "Open"),
            (None, Peer::Gone, "Stay"),
            (None, Peer::Unclear, "Stay"),
            (None, knows(false, ""), "Stay"),
            (leader, Peer::None, "Open"),
            (leader, Peer::Gone, "Open"),
            (leader, Peer::Unclear, "Wait"),
            (leader, is_down.clone(), "Open"),
            (leader, knows(false, "0-1-5"), "Open"),
            (leader, knows(false, "0-1-5,0-2-6"), "Stay"),
            (leader, knows(true, "0-1-5"), "Forget"),
            (leader, busy(false), "Wait"),
            (leader, busy(true), "Wait"),
            (follower, Peer::Gone, "Wait"),
            (follower, Peer::Unclear, "Wait"),
            (follower, is_down, "Wait"),
            (follower, knows(false, "0-1-5"), "Wait"),
            (follower, knows(true, "0-1-6"), "Follow"),
            (follower, knows(true, "0-1-4"), "Stay"),
            (follower, busy(true), "Wait"),
        ] {
            let verdict = format!("{:?}", after_start(marker, &own, &peer));
            assert!(verdict.starts_with(expected), "{marker:?} {peer:?}: {verdict}");
        }
    }

    #[test]
    fn nobody_leads_beside_a_peer_that_is_writable_or_may_be() {
        assert!(may_lead(&answers(true, None, None)).is_err());
        assert!(may_lead(&Peer::Unclear).is_err());
        assert!(may_lead(&answers(false, None, None)).is_ok());
        assert!(may_lead(&Peer::Gone).is_ok());
    }

    fn answers(is_writable: bool, busy: Option<Activity>, known: Option<&str>) -> Peer {
        Peer::Answers { is_writable, busy, known: known.map(|known| known.parse().unwrap()) }
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
