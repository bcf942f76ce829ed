//! Stories of a few attempts, each with its verdict.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::history::{Attempt, Sample, Term};

/// A row's attempt: number, server, begin and end in ms, outcome.
fn attempt(number: u64, server: Side, (began, ended): (u64, u64), outcome: Outcome) -> Attempt {
    let rows = vec![Row { client: 1, number }];
    Attempt { server, rows, began: Duration::from_millis(began), ended: Duration::from_millis(ended), outcome }
}

fn acknowledged(term: Term) -> Outcome {
    Outcome::Acknowledged(Some(term))
}

fn holdings(numbers: &[u64]) -> Holdings {
    let rows = numbers.iter().map(|number| Row { client: 1, number: *number }).collect();
    Holdings { rows, gtid_executed: format!("0-1-{}", numbers.len()), checksum: numbers.iter().sum() }
}

fn verdict(attempts: Vec<Attempt>, leader: Side, a: &[u64], b: &[u64], loss: Loss) -> Vec<String> {
    let history = History { attempts, samples: Vec::new() };
    let ending = Ending { leader, holdings: [holdings(a), holdings(b)], loss };
    judge(&history, &ending).iter().map(ToString::to_string).collect()
}

fn rows(numbers: &[u64]) -> BTreeSet<Row> {
    holdings(numbers).rows
}

#[test]
fn a_switch_there_and_back_is_no_fork() {
    let attempts = vec![
        attempt(1, Side::A, (0, 1), acknowledged(1)),
        attempt(2, Side::B, (10, 11), acknowledged(2)),
        attempt(3, Side::A, (20, 21), acknowledged(3)),
        attempt(4, Side::B, (15, 16), Outcome::Refused),
        attempt(5, Side::B, (17, 18), Outcome::Unknown),
    ];

    assert_eq!(verdict(attempts, Side::A, &[1, 2, 3], &[1, 2, 3], Loss::Forbidden), Vec::<String>::new());
}

#[test]
fn an_old_leader_may_only_acknowledge_what_began_before_the_new_one_did() {
    let new = attempt(1, Side::B, (10, 12), acknowledged(2));
    let later = attempt(3, Side::B, (13, 14), acknowledged(2));
    for (began, outcome, expected) in [
        (11, acknowledged(1), ""), // began while the new leader's first answer was on its way
        (12, acknowledged(1), ""), // at the same moment: not after
        (
            13,
            acknowledged(1),
            "A acknowledged 1 attempts that began after its leadership was over, first 1/2 at 0.013 s",
        ),
        (
            13,
            acknowledged(2),
            "A acknowledged 1 attempts that began after its leadership was over, first 1/2 at 0.013 s",
        ),
        (15, acknowledged(3), ""),             // leadership came back
        (13, Outcome::Acknowledged(None), ""), // no evidence
        (13, Outcome::Unknown, ""),
    ] {
        let attempts = vec![new.clone(), attempt(2, Side::A, (began, 20), outcome), later.clone()];
        let said = verdict(attempts, Side::B, &[1, 2, 3], &[1, 2, 3], Loss::Forbidden);
        assert_eq!(said.join("; "), expected, "{began} {outcome:?}");
    }
}

#[test]
fn a_term_belongs_to_one_server() {
    let attempts = vec![attempt(1, Side::A, (0, 1), acknowledged(1)), attempt(2, Side::B, (2, 3), acknowledged(1))];

    let said = verdict(attempts, Side::B, &[1, 2], &[1, 2], Loss::Forbidden);

    assert_eq!(said, ["B acknowledged 1 attempts that began after its leadership was over, first 1/2 at 0.002 s"]);
}

#[test]
fn two_writable_servers_need_a_look_between_two_others() {
    let look = |server, began, writable| Sample {
        server,
        began: Duration::from_millis(began),
        ended: Duration::from_millis(began + 1),
        writable,
    };
    for (samples, is_broken) in [
        (vec![look(Side::A, 0, true), look(Side::B, 2, true), look(Side::A, 4, true)], true),
        (vec![look(Side::A, 0, true), look(Side::B, 2, true), look(Side::A, 4, false)], false),
        (vec![look(Side::A, 0, false), look(Side::B, 2, true), look(Side::A, 4, true)], false),
        (vec![look(Side::A, 0, true), look(Side::B, 2, false), look(Side::A, 4, true)], false),
        // Asked at the same time: which answer was first is not known.
        (vec![look(Side::A, 0, true), look(Side::B, 0, true), look(Side::A, 4, true)], false),
        // A long time between two looks: it may have lost and won the leadership.
        (vec![look(Side::A, 0, true), look(Side::B, 500, true), look(Side::A, 1000, true)], false),
        (vec![look(Side::B, 0, true), look(Side::A, 2, true), look(Side::B, 4, true)], true),
    ] {
        let said = judge(
            &History { attempts: Vec::new(), samples: samples.clone() },
            &Ending { leader: Side::A, holdings: [holdings(&[]), holdings(&[])], loss: Loss::Forbidden },
        );
        assert_eq!(matches!(said[..], [Broken::BothWritable { count: 1, .. }]), is_broken, "{samples:?}: {said:?}");
    }
}

#[test]
fn an_acknowledged_row_is_on_the_leader_or_reported() {
    let attempts = || (1..=3).map(|n| attempt(n, Side::A, (n, n + 1), acknowledged(1))).collect::<Vec<_>>();
    let reported = |numbers: &[u64]| Loss::Reported(rows(numbers));
    for (leader_holds, loss, expected) in [
        (vec![1, 2, 3], Loss::Forbidden, ""),
        (vec![1, 2], Loss::Forbidden, "1 acknowledged rows are lost: 1/3"),
        (vec![1, 2], reported(&[3]), ""),
        (vec![1, 2], reported(&[]), "1 acknowledged rows are lost and not reported: 1/3"),
        (vec![1], reported(&[3]), "1 acknowledged rows are lost and not reported: 1/2"),
        (vec![1, 2, 3], reported(&[3]), "1 rows are reported as lost and are there: 1/3"),
        // An attempt without an answer may be reported: whether it was committed is for the pair to say.
        (vec![1, 2], reported(&[3, 4]), ""),
    ] {
        let said = verdict(attempts(), Side::B, &leader_holds, &leader_holds, loss).join("; ");
        assert_eq!(said, expected, "{leader_holds:?}");
    }
}

#[test]
fn rows_that_must_not_be_there_are_found_on_either_server() {
    let refused = attempt(1, Side::A, (0, 1), Outcome::Refused);
    let two = vec![Row { client: 1, number: 2 }, Row { client: 1, number: 3 }];
    let pair = Attempt { rows: two, ..attempt(0, Side::A, (0, 1), Outcome::Unknown) };
    for (holds, expected) in [
        (vec![], ""),
        (vec![2, 3], ""),
        (vec![1], "1 refused rows are on A: 1/1; 1 refused rows are on B: 1/1"),
        (vec![2], "A holds a part of the transaction of 1/2, 1/3; B holds a part of the transaction of 1/2, 1/3"),
        (vec![7], "1 rows on A were written by nobody: 1/7; 1 rows on B were written by nobody: 1/7"),
    ] {
        let said = verdict(vec![refused.clone(), pair.clone()], Side::A, &holds, &holds, Loss::Forbidden);
        assert_eq!(said.join("; "), expected, "{holds:?}");
    }
}

#[test]
fn healed_servers_hold_the_same() {
    let attempts = || vec![attempt(1, Side::A, (0, 1), acknowledged(1)), attempt(2, Side::A, (2, 3), Outcome::Unknown)];

    assert_eq!(verdict(attempts(), Side::A, &[1, 2], &[1, 2], Loss::Forbidden), Vec::<String>::new());
    assert_eq!(
        verdict(attempts(), Side::A, &[1], &[1, 2], Loss::Forbidden),
        ["the servers differ: 0 rows only on A, 1 only on B, checksums different, executed \"0-1-1\" and \"0-1-2\""]
    );
}

#[test]
fn the_outage_is_the_longest_time_without_an_acknowledgement() {
    let at = |number, ms| attempt(number, Side::A, (ms, ms + 1), acknowledged(1));
    let history = History { attempts: vec![at(1, 0), at(3, 90), at(2, 10), at(4, 95)], samples: Vec::new() };

    assert_eq!(history.longest_gap_since(Duration::from_millis(20)), Duration::from_millis(80));
    assert_eq!(history.longest_gap_since(Duration::from_millis(94)), Duration::from_millis(5));
    assert_eq!(history.first_acknowledgement_after(Duration::from_millis(11)), Some(Duration::from_millis(91)));
}
