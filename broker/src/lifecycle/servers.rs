//! Do the servers of an instance serve? Pure: what the agents answered, and the verdict.

use std::net::IpAddr;

use agent::api::{Receiver, Role, Status};

/// What the agents say about the whole instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    NotAsked,
    /// Why not yet, as the user may read it.
    NotReady(String),
    Ready,
}

/// What one agent answered; none: it did not.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) address: IpAddr,
    pub(crate) status: Option<Status>,
}

impl Answer {
    /// The address of a server that takes writes.
    pub(crate) fn writable(&self) -> Option<IpAddr> {
        self.status.as_ref().filter(|status| is_writable(status)).map(|_| self.address)
    }
}

/// Whether one server leads and, in a pair, the other one follows it.
pub(crate) fn readiness(is_pair: bool, answers: &[Answer]) -> Servers {
    let writable: Vec<IpAddr> = answers.iter().filter_map(Answer::writable).collect();
    match writable[..] {
        [] => not_ready("waiting for a writable server"),
        [leader] if is_pair && !answers.iter().any(|answer| follows(answer, leader)) => {
            not_ready("waiting for the follower to replicate")
        }
        [_] => Servers::Ready,
        [_, _, ..] => not_ready("more than one server is writable"),
    }
}

/// A server and the zone that it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// Where the director says so.
    pub(crate) zone: Option<String>,
    pub(crate) answer: Option<Answer>,
}

/// The zone in which the leader stands alone; or why there is none yet. Its data are the pair's: nothing that anybody was
/// told is committed lacks there.
pub(crate) fn zone_of_leader(seats: &[Seat]) -> Result<String, String> {
    let leads =
        |seat: &&Seat| seat.answer.as_ref().is_some_and(|answer| answer.status.as_ref().is_some_and(was_chosen));
    let mut leaders = seats.iter().filter(leads);
    let (Some(leader), None) = (leaders.next(), leaders.next()) else {
        return Err("waiting for a writable leader, which is the server that stays".into());
    };
    let Some(zone) = &leader.zone else {
        return Err("the director does not say where the leader stands, so it cannot be chosen that it stays".into());
    };
    match seats.iter().filter(|seat| seat.zone.as_ref() == Some(zone)).count() {
        1 => Ok(zone.clone()),
        _ => Err("both servers stand in one zone, so it cannot be chosen which one stays".into()),
    }
}

/// Writable, and by the voters' choice.
fn was_chosen(status: &Status) -> bool {
    is_writable(status) && status.record.leader.as_ref() == Some(&status.instance) && !status.record.is_vacant
}

fn not_ready(why: &str) -> Servers {
    Servers::NotReady(why.into())
}

fn is_writable(status: &Status) -> bool {
    status.role == Role::Leader && !status.read_only
}

fn follows(answer: &Answer, leader: IpAddr) -> bool {
    let Some(Status { role: Role::Follower, replication: Some(channel), .. }) = &answer.status else { return false };
    channel.source == leader.to_string() && channel.receiver == Receiver::Connected && channel.applier_running
}

#[cfg(test)]
mod tests {
    use agent::api::{Replication, ReplicationMode};

    use super::*;

    fn server(last: u8, role: Role, read_only: bool, source: Option<&str>) -> Answer {
        let replication = source.map(|source| Replication {
            source: source.into(),
            receiver: Receiver::Connected,
            applier_running: true,
            gtid_received: String::new(),
            seconds_behind: Some(0),
            seconds_since_leader_heartbeat: None,
            relay_log_space: None,
            receiver_error: String::new(),
            applier_error: String::new(),
        });
        let status = Status {
            instance: "mysql/a".into(),
            index: 0,
            ip_address: String::new(),
            role,
            read_only,
            replication_configured: replication.is_some(),
            replication_mode: ReplicationMode::Async,
            has_data: true,
            gtid_executed: String::new(),
            gtid_purged: String::new(),
            gtid_pending: String::new(),
            replication,
            busy: None,
            version: String::new(),
            record: agent::quorum::Record::default(),
            lease_ms: None,
            semi_sync: None,
            led: 0,
            saved: Vec::new(),
            trouble: None,
        };
        Answer { address: IpAddr::from([127, 0, 0, last]), status: Some(status) }
    }

    fn leader_at(last: u8) -> Answer {
        server(last, Role::Leader, false, None)
    }

    #[test]
    fn a_single_server_is_ready_when_it_is_the_writable_leader() {
        let silent = Answer { address: IpAddr::from([127, 0, 0, 1]), status: None };
        assert_eq!(readiness(false, &[leader_at(1)]), Servers::Ready);
        assert_eq!(readiness(false, &[silent]), not_ready("waiting for a writable server"));
        assert_eq!(readiness(false, &[]), not_ready("waiting for a writable server"));
        let read_only = server(1, Role::Unknown, true, None);
        assert_eq!(readiness(false, &[read_only]), not_ready("waiting for a writable server"));
    }

    #[test]
    fn the_leader_that_the_voters_chose_stays_where_it_stands_alone() {
        let chosen = |last: u8, leader: &str| {
            let mut answer = leader_at(last);
            answer.status.as_mut().unwrap().record.leader = Some(leader.into());
            answer
        };
        let seat = |zone: &str, answer: Option<Answer>| Seat { zone: Some(zone.into()), answer };
        let nowhere = |answer: Option<Answer>| Seat { zone: None, answer };
        let follower = || Some(server(1, Role::Follower, true, Some("127.0.0.2")));
        let second = || Some(chosen(2, "mysql/a"));
        for (seats, expected) in [
            ([seat("z1", follower()), seat("z2", second())], Ok("z2")),
            ([seat("z1", None), seat("z2", second())], Ok("z2")),
            ([seat("z1", follower()), seat("z1", second())], Err("one zone")),
            ([nowhere(follower()), seat("z2", second())], Ok("z2")),
            ([seat("z1", follower()), nowhere(second())], Err("does not say where")),
            ([seat("z1", follower()), seat("z2", None)], Err("waiting for a writable leader")),
            ([seat("z1", Some(chosen(1, "mysql/a"))), seat("z2", second())], Err("waiting for a writable leader")),
            // Writable, and by nobody's choice: another one may lead.
            ([seat("z1", follower()), seat("z2", Some(chosen(2, "mysql/b")))], Err("waiting for a writable leader")),
            ([seat("z1", follower()), seat("z2", Some(leader_at(2)))], Err("waiting for a writable leader")),
        ] {
            match (zone_of_leader(&seats), expected) {
                (Ok(zone), Ok(expected)) => assert_eq!(zone, expected),
                (Err(why), Err(words)) => assert!(why.contains(words), "{why}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_pair_is_ready_when_the_other_server_follows_this_leader() {
        let follower = |source| server(2, Role::Follower, true, Some(source));
        assert_eq!(readiness(true, &[leader_at(1), follower("127.0.0.1")]), Servers::Ready);
        let waiting = not_ready("waiting for the follower to replicate");
        assert_eq!(readiness(true, &[leader_at(1), follower("127.0.0.9")]), waiting);
        assert_eq!(readiness(true, &[leader_at(1)]), waiting);
        let mut stopped = follower("127.0.0.1");
        stopped.status.as_mut().unwrap().replication.as_mut().unwrap().applier_running = false;
        assert_eq!(readiness(true, &[leader_at(1), stopped]), waiting);
        assert_eq!(readiness(true, &[leader_at(1), leader_at(2)]), not_ready("more than one server is writable"));
    }
}
