//! PURE. What a server becomes that is not what it should be: after a start, a lost lease, or a change of the leader.
//!
//! What this agent has agreed to (`quorum.rs` of the library) says whose the leadership is; what both servers say decides what
//! follows from it.
//!
//! ```text
//! the epoch is this server's     lease held, nothing lacks -> Open           laid down -> Stay;
//!                                                                               for the other one -> TakeBack when that has failed
//! the epoch is the other one's   it is writable -> Follow, with what only this server has saved first; else Wait
//! a later epoch is heard of      -> Adopt it (closed first), then as above
//! nobody's                       Stay until an operator chooses
//! a single node                  Open, unless it is left of a pair that the other one led: Stay
//! ```

use agent::quorum::Record;

use crate::topology::{Peer, Server};

/// What is known when it is decided.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    /// What this agent has agreed to.
    pub(crate) record: Record,
    /// The last epoch in which this server was or may have been writable, and has not followed since; 0 for none.
    pub(crate) led: u64,
    /// The lease, or that there is no witness and so no lease.
    pub(crate) may_write: bool,
    /// The leadership was this server's and was laid down for the other one.
    pub(crate) has_yielded: bool,
    pub(crate) me: Server,
    pub(crate) peer: Peer,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Nothing is to be done.
    Keep,
    /// Become writable: the leadership is this server's.
    Open,
    /// Be chosen again: the other server, for which this one laid its leadership down, did not take it.
    TakeBack,
    /// Turn read-only: it is not.
    Close,
    /// Agree to a later epoch.
    Adopt(Record),
    /// Forget the source that a promotion which was cut off at its end has left on the leader.
    ForgetSource,
    /// Receive what the old leader, which is closed, has more than this server, which was chosen.
    CatchUp,
    /// Go on replicating from where it stopped.
    Resume,
    /// Replicate from the leader; with its data copied first where this server cannot go on from its own.
    Follow,
    /// As `Follow`, after what only this server has was saved: it led, and another one leads since.
    Rejoin,
    /// Ask again soon.
    Wait(&'static str),
    /// Stay read-only until a command says otherwise.
    Stay(&'static str),
}

/// What becomes of this server.
pub(crate) fn recovery(situation: &Situation) -> Recovery {
    let Situation { record, me, peer, .. } = situation;
    if let Peer::None = peer {
        return alone(situation);
    }
    if let Peer::Answers(other) = peer
        && other.record.epoch > record.epoch
    {
        return later_epoch(me, other);
    }
    match &record.leader {
        None => Recovery::Stay("it was never made leader or follower; run configure-leader-follower"),
        Some(leader) if *leader == me.instance => as_leader(situation),
        Some(_) => as_follower(situation),
    }
}

/// A single node opens by itself, unless it is what is left of a pair and was not the leader at the end: what only the other
/// server had is not here, and nobody would see that it is missing.
fn alone(Situation { record, me, .. }: &Situation) -> Recovery {
    match &record.leader {
        Some(_) | None if me.is_writable => Recovery::Keep,
        Some(leader) if *leader != me.instance => {
            Recovery::Stay("it followed the other server when their pair became a single node, so its data may be old")
        }
        Some(_) if record.is_vacant || !me.has_applied_what_it_received() => {
            Recovery::Stay("it did not lead any more when its pair became a single node, so its data may be old")
        }
        Some(_) | None => Recovery::Open,
    }
}

fn later_epoch(me: &Server, other: &Server) -> Recovery {
    let is_mine = other.record.leader.as_ref() == Some(&me.instance);
    match (is_mine, me.is_writable) {
        (false, true) => Recovery::Close,
        (false, false) => Recovery::Adopt(other.record.clone()),
        // A hand-over that was cut off between the old leader's word and this server's: the old leader has closed, so what
        // it has is all there is.
        (true, _) if !other.is_writable && me.has_applied_all_of(other) => Recovery::Adopt(other.record.clone()),
        (true, _) => {
            Recovery::Wait("the leadership was handed over to it, and it lacks transactions of the old leader")
        }
    }
}

fn as_leader(situation: &Situation) -> Recovery {
    let Situation { record, me, peer, may_write, .. } = situation;
    if record.is_vacant {
        return laid_down(situation);
    }
    if me.is_writable {
        return if me.has_spent_source(peer) { Recovery::ForgetSource } else { Recovery::Keep };
    }
    if !may_write {
        return Recovery::Wait("neither the follower nor the witness confirms that it still leads");
    }
    match peer {
        Peer::Answers(other) if other.is_writable => {
            Recovery::Stay("the other server is writable too; run inspect on both, then make-read-only on one")
        }
        // It was chosen, and the old leader, which is closed, came back with more: that is received first.
        Peer::Answers(other) if !me.has_applied_all_of(other) && me.receives_from(other) => {
            Recovery::Wait("it was chosen to lead and still receives what the old leader has")
        }
        Peer::Answers(other) if !me.has_applied_all_of(other) && me.could_receive_from(other) => Recovery::CatchUp,
        Peer::Answers(other) if !me.has_all_of(other) => {
            Recovery::Stay("the other server has transactions that it lacks; run configure-leader-follower")
        }
        // What it received is not applied yet, or the peer was not asked for the rest.
        _ if !me.has_applied_what_it_received() => {
            Recovery::Stay("its promotion was cut off before everything was applied; run make-leader again")
        }
        Peer::None | Peer::Silent { .. } | Peer::Answers(_) => Recovery::Open,
    }
}

/// Who was chosen since says so, or the voters do; so the other one needs no more time than it is busy.
fn laid_down(situation: &Situation) -> Recovery {
    if situation.me.is_writable {
        return Recovery::Close;
    }
    match (situation.has_yielded, &situation.peer) {
        (false, _) => Recovery::Stay("its leadership was laid down; run make-leader on the server that is to lead"),
        (true, Peer::Answers(other)) if other.busy.is_some() || other.is_writable => {
            Recovery::Wait("its leadership was laid down for the other server, which works on it")
        }
        (true, Peer::None | Peer::Silent { .. } | Peer::Answers(_)) => Recovery::TakeBack,
    }
}

fn as_follower(situation: &Situation) -> Recovery {
    let Situation { record, led, me, peer, .. } = situation;
    if me.is_writable {
        return Recovery::Close;
    }
    let Peer::Answers(leader) = peer else { return Recovery::Wait("the leader is not there") };
    if me.follows(leader) {
        return Recovery::Keep;
    }
    if !leader.is_writable {
        return Recovery::Wait("the leader is not writable yet");
    }
    match (leader.has_all_of(me), &me.channel) {
        // Starting the threads empties the relay log; what it holds beyond this server's history is applied first.
        (true, Some(channel))
            if channel.is_stopped_without_error()
                && channel.source == leader.address.to_string()
                && me.has_applied_what_it_received() =>
        {
            Recovery::Resume
        }
        // It works on it.
        (true, Some(channel)) if channel.is_connecting_to(leader) => Recovery::Wait("replication does not run yet"),
        (true, _) => Recovery::Follow,
        (false, _) if *led > 0 && *led < record.epoch => Recovery::Rejoin,
        (false, _) => {
            Recovery::Stay("it has transactions that the leader lacks and never led; run configure-leader-follower")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{following, server, writable};
    use agent::api::{Activity, Receiver};

    const EPOCH: u64 = 3;

    fn record(epoch: u64, leader: &str) -> Record {
        Record { epoch, leader: Some(leader.into()), ..Record::default() }
    }

    fn agreed(server: Server, epoch: u64, leader: &str) -> Server {
        Server { record: record(epoch, leader), ..server }
    }

    fn situation(me: Server, peer: Peer) -> Situation {
        Situation { record: me.record.clone(), led: 0, may_write: true, has_yielded: false, me, peer }
    }

    fn silent() -> Peer {
        Peer::Silent { address: "127.2.0.1".parse().unwrap(), why: "gone".into(), has_hung_server: false }
    }

    /// Somebody brings data from a server of another pair.
    fn elsewhere(mut server: Server) -> Server {
        server.channel.as_mut().unwrap().source = "127.9.0.1".into();
        server
    }

    #[test]
    fn the_owner_of_the_epoch_opens_where_nothing_lacks() {
        let me = || agreed(server(0, "0-1-5"), EPOCH, "mysql/0");
        let other = |history: &str| agreed(server(1, history), EPOCH, "mysql/0");
        for (me, peer, may_write, expected) in [
            (me(), silent(), true, "Open"),
            (me(), silent(), false, "Wait"),
            (me(), Peer::Answers(other("0-1-5")), true, "Open"),
            (me(), Peer::Answers(other("0-1-4")), true, "Open"),
            (me(), Peer::Answers(other("0-1-6")), true, "Stay"),
            (me(), Peer::Answers(writable(other("0-1-5"))), true, "Stay"),
            (writable(me()), silent(), true, "Keep"),
            (following(writable(me()), Receiver::Stopped, false, ""), silent(), true, "ForgetSource"),
            (following(writable(me()), Receiver::Connected, true, "0-1-5"), silent(), true, "ForgetSource"),
            (following(writable(me()), Receiver::Connected, true, "0-1-6"), silent(), true, "Keep"),
            (elsewhere(following(writable(me()), Receiver::Connected, true, "0-1-5")), silent(), true, "Keep"),
            (elsewhere(following(writable(me()), Receiver::Stopped, false, "")), silent(), true, "Keep"),
            (following(me(), Receiver::Stopped, false, "0-1-6"), silent(), true, "Stay"),
            (following(me(), Receiver::Stopped, false, ""), Peer::Answers(other("0-1-6")), true, "CatchUp"),
            (following(me(), Receiver::Connecting, true, ""), Peer::Answers(other("0-1-6")), true, "Wait"),
            (following(me(), Receiver::Connected, true, ""), Peer::Answers(other("0-1-5")), true, "Open"),
            (following(me(), Receiver::Stopped, false, "0-1-5"), silent(), true, "Open"),
        ] {
            let found = recovery(&Situation { may_write, ..situation(me.clone(), peer.clone()) });
            assert!(format!("{found:?}").starts_with(expected), "{found:?} for {me:?} {peer:?}");
        }
    }

    #[test]
    fn a_follower_may_have_what_its_leader_is_about_to_commit() {
        let me = || agreed(following(server(1, "0-1-6"), Receiver::Stopped, false, ""), EPOCH, "mysql/0");
        let leader = || writable(agreed(server(0, "0-1-5"), EPOCH, "mysql/0"));
        let waiting = || Server { pending: "0-1-6".parse().unwrap(), ..leader() };

        assert_eq!(recovery(&situation(me(), Peer::Answers(waiting()))), Recovery::Resume);
        assert!(matches!(recovery(&situation(me(), Peer::Answers(leader()))), Recovery::Stay(_)));
    }

    #[test]
    fn a_leadership_that_was_laid_down_does_not_come_back() {
        let mut me = agreed(server(0, "0-1-5"), EPOCH, "mysql/0");
        me.record.is_vacant = true;

        assert!(matches!(recovery(&situation(me.clone(), silent())), Recovery::Stay(_)));
        assert_eq!(recovery(&situation(writable(me), silent())), Recovery::Close);
    }

    #[test]
    fn a_leadership_that_was_laid_down_for_the_other_server_comes_back_when_that_one_did_not_take_it() {
        let mut me = agreed(server(0, "0-1-5"), EPOCH, "mysql/0");
        me.record.is_vacant = true;
        let other = || agreed(server(1, "0-1-5"), EPOCH, "mysql/0");
        let busy = Server { busy: Some(Activity::Recovery), ..other() };
        let chosen = agreed(other(), EPOCH + 1, "mysql/1");

        for (peer, expected) in [
            (silent(), "TakeBack"),
            (Peer::Answers(other()), "TakeBack"),
            (Peer::Answers(busy), "Wait"),
            (Peer::Answers(writable(other())), "Wait"),
            (Peer::Answers(chosen), "Adopt"),
        ] {
            let found = recovery(&Situation { has_yielded: true, ..situation(me.clone(), peer.clone()) });
            assert!(format!("{found:?}").starts_with(expected), "{found:?} for {peer:?}");
        }
        let open = Situation { has_yielded: true, ..situation(writable(me), silent()) };
        assert_eq!(recovery(&open), Recovery::Close);
    }

    #[test]
    fn who_was_replaced_follows_and_loses_nothing_unsaved() {
        let me = |history: &str| agreed(server(0, history), EPOCH, "mysql/1");
        let leader = || writable(agreed(server(1, "0-1-5,0-2-6"), EPOCH, "mysql/1"));
        for (me, peer, led, expected) in [
            (me("0-1-5"), silent(), 2, "Wait"),
            (me("0-1-5"), Peer::Answers(agreed(server(1, "0-1-5"), EPOCH, "mysql/1")), 2, "Wait"),
            (me("0-1-5"), Peer::Answers(leader()), 2, "Follow"),
            (me("0-1-7"), Peer::Answers(leader()), 2, "Rejoin"),
            (me("0-1-7"), Peer::Answers(leader()), 0, "Stay"),
            (following(me("0-1-5"), Receiver::Connected, true, ""), Peer::Answers(leader()), 0, "Keep"),
            (following(me("0-1-5"), Receiver::Connecting, true, ""), Peer::Answers(leader()), 0, "Wait"),
            (following(me("0-1-5"), Receiver::Stopped, false, "0-1-5"), Peer::Answers(leader()), 0, "Resume"),
            (following(me("0-1-5"), Receiver::Stopped, false, "0-2-6"), Peer::Answers(leader()), 0, "Follow"),
            (following(me("0-1-5"), Receiver::Stopped, false, "0-1-9"), Peer::Answers(leader()), 0, "Stay"),
            (writable(me("0-1-5")), Peer::Answers(leader()), 2, "Close"),
            (writable(me("0-1-5")), silent(), 2, "Close"),
        ] {
            let found = recovery(&Situation { led, ..situation(me.clone(), peer.clone()) });
            assert!(format!("{found:?}").starts_with(expected), "{found:?} for {me:?} {peer:?}");
        }
    }

    #[test]
    fn a_later_epoch_is_agreed_to_but_never_by_a_writable_server() {
        let me = |history: &str| agreed(server(0, history), EPOCH, "mysql/0");
        let other = |leader: &str| agreed(server(1, "0-1-5"), EPOCH + 1, leader);
        for (me, peer, expected) in [
            (me("0-1-5"), other("mysql/1"), "Adopt"),
            (writable(me("0-1-5")), other("mysql/1"), "Close"),
            // A hand-over to this server that was cut off.
            (me("0-1-5"), other("mysql/0"), "Adopt"),
            (me("0-1-4"), other("mysql/0"), "Wait"),
            (me("0-1-5"), writable(other("mysql/0")), "Wait"),
        ] {
            let found = recovery(&situation(me.clone(), Peer::Answers(peer.clone())));
            assert!(format!("{found:?}").starts_with(expected), "{found:?} for {me:?} {peer:?}");
        }
    }

    #[test]
    fn nobody_leads_before_somebody_was_chosen() {
        assert!(matches!(recovery(&situation(server(0, ""), silent())), Recovery::Stay(_)));
        assert_eq!(recovery(&situation(server(0, ""), Peer::None)), Recovery::Open);
        assert_eq!(recovery(&situation(writable(server(0, "")), Peer::None)), Recovery::Keep);
    }

    #[test]
    fn what_is_left_of_a_pair_opens_only_where_it_led() {
        let vacant = |mut server: Server| {
            server.record.is_vacant = true;
            server
        };
        let me = |leader: &str| agreed(server(0, "0-1-5"), EPOCH, leader);
        for (me, expected) in [
            (me("mysql/0"), "Open"),
            (me("mysql/1"), "Stay"),
            (vacant(me("mysql/0")), "Stay"),
            (following(me("mysql/0"), Receiver::Stopped, false, "0-1-6"), "Stay"),
            (writable(me("mysql/0")), "Keep"),
        ] {
            let found = recovery(&situation(me.clone(), Peer::None));
            assert!(format!("{found:?}").starts_with(expected), "{found:?} for {me:?}");
        }
    }
}
