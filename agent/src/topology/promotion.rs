//! PURE. `make-leader`: chosen first, then everything that can be had is received and applied, then writable.

use agent::api::Receiver;

use super::{Channel, Observed, Peer, Refusal, Server, Step};
use crate::gtid::History;

pub(super) fn make_leader(observed: &Observed) -> Result<Step, Refusal> {
    let Observed { me, peer, is_elected, .. } = observed;
    if let Peer::Answers(peer) = peer
        && peer.is_writable
    {
        return Err(Refusal::LeaderAccessible { why: format!("{} is writable", peer.instance) });
    }
    if me.is_writable {
        return match &me.channel {
            None => Ok(Step::Done),
            Some(_) if me.has_spent_source(peer) => Ok(Step::ForgetSource),
            Some(_) => Err(Refusal::LeaderReplicates { leader: me.instance.clone() }),
        };
    }
    if let Some(error) = me.channel.as_ref().and_then(Channel::broken_applier) {
        return Err(Refusal::ApplierStopped { error: error.into() });
    }
    check_empty(me, peer)?;
    match &me.channel {
        // The old leader is asked for its vote only when nothing is left behind by it.
        None => check_losses(me, peer).map(|()| if *is_elected { Step::Promote } else { Step::Campaign }),
        Some(_) if !is_elected => Ok(Step::Campaign),
        Some(channel) => drain(me, channel, peer),
    }
}

/// What a follower that was chosen does before it is writable: have everything that it can have, and apply it. An old leader
/// that answers is closed, and its rest is received first, also where it came back only now.
fn drain(me: &Server, channel: &Channel, peer: &Peer) -> Result<Step, Refusal> {
    let is_applied = me.has_applied_what_it_received();
    let rest = match peer {
        Peer::Answers(peer) if !me.has_all_of(peer) && channel.source == peer.address.to_string() => true,
        Peer::Answers(_) | Peer::Silent { .. } | Peer::None => false,
    };
    match (channel.is_applier_running, channel.receiver) {
        (true, Receiver::Connected | Receiver::Connecting) if rest => Ok(Step::ReceiveRest),
        (true, Receiver::Connected | Receiver::Connecting) => Ok(Step::StopReceiving),
        (true, Receiver::Stopped) if !is_applied => Ok(Step::ApplyReceived),
        // Both are stopped after a restart of the server, and after a promotion that was cut off.
        (false, Receiver::Stopped) if !is_applied => Ok(Step::ApplyRelayLog),
        (true | false, Receiver::Stopped) if rest => Ok(Step::ReceiveAgain),
        (true | false, Receiver::Stopped) => promote(me, peer),
        (false, Receiver::Connected | Receiver::Connecting) => {
            Err(Refusal::ApplierStopped { error: channel.applier_error.clone() })
        }
    }
}

fn promote(me: &Server, peer: &Peer) -> Result<Step, Refusal> {
    check_losses(me, peer).map(|()| Step::Promote)
}

/// A promotion must not leave behind what a server that answers still has, nor make a server the leader that never had data.
fn check_losses(me: &Server, peer: &Peer) -> Result<(), Refusal> {
    let own = me.executed.clone().map_err(|cause| Refusal::Unreadable { of: "follower", cause })?;
    match peer {
        Peer::Answers(peer) => match peer.known() {
            Ok(others) if own.contains(&others) => Ok(()),
            Ok(_) => Err(Refusal::WouldLose { me: me.instance.clone(), peer: peer.instance.clone() }),
            Err(cause) => Err(Refusal::Unreadable { of: "leader", cause }),
        },
        Peer::None | Peer::Silent { .. } => check_empty(me, peer),
    }
}

fn check_empty(me: &Server, peer: &Peer) -> Result<(), Refusal> {
    match peer {
        Peer::Silent { address, .. } if me.channel.is_none() && me.executed.as_ref().is_ok_and(History::is_empty) => {
            Err(Refusal::Empty { peer: *address })
        }
        Peer::None | Peer::Silent { .. } | Peer::Answers(_) => Ok(()),
    }
}
