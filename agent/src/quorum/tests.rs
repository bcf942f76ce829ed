//! Each rule of the voters and of the lease, by table.

use super::*;

const LEASE_MS: u64 = 10_000;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn renewal(epoch: u64, leader: &str) -> Renewal {
    Renewal { epoch, leader: leader.into(), lease_ms: LEASE_MS, in_sync: false, withdrawals: 0 }
}

fn ballot(epoch: u64, leader: &str) -> Ballot {
    Ballot { epoch, leader: leader.into(), is_canvass: false }
}

fn release(epoch: u64, leader: &str) -> Release {
    Release { epoch, leader: leader.into() }
}

/// A voter that confirmed epoch 3 of `a` at second 100.
fn voter() -> Voter {
    let mut voter = Voter::started(Record::default(), at(0));
    assert!(matches!(voter.renew(&renewal(3, "a"), at(100)), Answer::Granted(_)));
    voter
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Granted(_) => "granted",
        Answer::Leased { .. } => "leased",
        Answer::Refused(_) => "refused",
    }
}

#[test]
fn an_epoch_is_given_once_and_none_below_it() {
    for (epoch, leader, second, expected) in [
        (2, "b", 200, "refused"),
        (3, "b", 200, "refused"),
        (3, "a", 101, "granted"),
        (4, "b", 101, "leased"),
        (4, "b", 109, "leased"),
        (4, "b", 110, "granted"),
        (4, "a", 101, "granted"),
    ] {
        let answer = voter().vote(&ballot(epoch, leader), at(second));
        assert_eq!(word(&answer), expected, "epoch {epoch} for {leader} in second {second}");
    }
}

#[test]
fn only_the_latest_epoch_is_confirmed() {
    for (epoch, leader, expected) in
        [(2, "a", "refused"), (3, "b", "refused"), (3, "a", "granted"), (4, "b", "granted"), (9, "a", "granted")]
    {
        assert_eq!(word(&voter().renew(&renewal(epoch, leader), at(101))), expected, "epoch {epoch} of {leader}");
    }
}

#[test]
fn a_started_voter_waits_out_what_it_may_have_granted() {
    let mut voter = Voter::started(voter().record().clone(), at(500));

    assert_eq!(word(&voter.vote(&ballot(4, "b"), at(509))), "leased");
    assert_eq!(word(&voter.vote(&ballot(4, "b"), at(510))), "granted");
}

#[test]
fn a_leadership_that_was_laid_down_needs_no_wait_and_does_not_come_back() {
    let mut voter = voter();
    voter.release(&release(2, "a"), at(101));
    voter.release(&release(3, "b"), at(101));
    assert_eq!(word(&voter.vote(&ballot(4, "b"), at(101))), "leased");

    voter.release(&release(3, "a"), at(101));

    assert_eq!(word(&voter.renew(&renewal(3, "a"), at(102))), "refused");
    assert_eq!(word(&voter.vote(&ballot(3, "a"), at(102))), "refused");
    assert_eq!(word(&voter.vote(&ballot(4, "b"), at(102))), "granted");
}

#[test]
fn a_canvass_changes_nothing() {
    let mut voter = voter();
    let before = voter.clone();

    let answer = voter.vote(&Ballot { is_canvass: true, ..ballot(4, "b") }, at(200));

    assert_eq!(word(&answer), "granted");
    assert_eq!(voter, before);
}

#[test]
fn a_vote_for_another_does_not_hold_up_the_one_that_has_the_lease() {
    let mut voter = voter();
    voter.release(&release(3, "a"), at(101));
    voter.vote(&ballot(4, "b"), at(101));
    voter.renew(&renewal(4, "b"), at(101));

    assert_eq!(word(&voter.vote(&ballot(5, "b"), at(102))), "granted");
    assert_eq!(word(&voter.vote(&ballot(6, "a"), at(102))), "leased");
}

#[test]
fn a_leader_stops_before_its_voters_stop_waiting() {
    let mut lease = Lease::new(at(10));
    assert!(!lease.is_held(at(0)));

    lease.confirmed(at(100));
    lease.confirmed(at(99));

    assert!(lease.is_held(at(106)));
    assert!(!lease.is_held(at(107)));
    assert_eq!(lease.ends_at(), Some(at(109)));
    lease.lost();
    assert!(!lease.is_held(at(100)));
}

#[test]
fn a_word_that_was_withdrawn_does_not_come_back_with_a_late_renewal() {
    let mut voter = Voter::started(Record::default(), Duration::ZERO);
    let said = |in_sync, withdrawals| Renewal { in_sync, withdrawals, ..renewal(1, "a") };
    let is_in_sync = |voter: &Voter| (voter.record().in_sync, voter.record().withdrawals);

    voter.renew(&said(true, 0), Duration::ZERO);
    voter.renew(&said(false, 1), Duration::ZERO);
    assert!(matches!(voter.renew(&said(true, 0), Duration::from_millis(1)), Answer::Granted(_)));
    assert_eq!(is_in_sync(&voter), (false, 1));

    voter.renew(&said(true, 1), Duration::ZERO);
    assert_eq!(is_in_sync(&voter), (true, 1));
    // Another leader counts for itself.
    voter.renew(&Renewal { in_sync: true, ..renewal(2, "b") }, Duration::ZERO);
    assert_eq!(is_in_sync(&voter), (true, 0));
}
