//! PURE. What a round of answers means: where new connections go, and which established ones stay.

use std::net::Ipv4Addr;
use std::time::Duration;

/// How long an instance may say nothing before its established connections are cut. An agent that is being restarted is
/// silent while its server works on; a server that died has cut its connections itself.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Healthy,
    Unhealthy,
    /// It did not answer, or not in time.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This one, and no other.
    One(Ipv4Addr),
    Nobody,
    /// Two or more say that they lead: going to either could tear the data apart.
    Several,
}

pub(super) fn judge(answers: &[(Ipv4Addr, Answer)]) -> Verdict {
    let mut healthy = answers.iter().filter(|(_, answer)| *answer == Answer::Healthy);
    match (healthy.next(), healthy.next()) {
        (None, _) => Verdict::Nobody,
        (Some((address, _)), None) => Verdict::One(*address),
        (Some(_), Some(_)) => Verdict::Several,
    }
}

/// Whose established connections stay, when `kept` was it before and was last heard `silent_for` ago.
pub(super) fn keep(
    verdict: Verdict,
    answers: &[(Ipv4Addr, Answer)],
    kept: Option<Ipv4Addr>,
    silent_for: Duration,
) -> Option<Ipv4Addr> {
    match verdict {
        Verdict::One(address) => Some(address),
        Verdict::Several => None,
        Verdict::Nobody => {
            let is_silent = |address: &Ipv4Addr| answers.contains(&(*address, Answer::Silent));
            kept.filter(|address| is_silent(address) && silent_for < SILENCE_LIMIT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Answer::{Healthy, Silent, Unhealthy};
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(127, 1, 1, 1);
    const B: Ipv4Addr = Ipv4Addr::new(127, 1, 1, 2);

    #[test]
    fn only_one_healthy_answer_counts() {
        let cases = [
            (vec![], Verdict::Nobody),
            (vec![(A, Silent), (B, Unhealthy)], Verdict::Nobody),
            (vec![(A, Silent), (B, Healthy)], Verdict::One(B)),
            (vec![(A, Healthy), (B, Unhealthy)], Verdict::One(A)),
            (vec![(A, Healthy), (B, Healthy)], Verdict::Several),
        ];
        for (answers, expected) in cases {
            assert_eq!(judge(&answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn established_connections_outlast_a_short_silence_and_nothing_else() {
        let short = SILENCE_LIMIT / 2;
        let cases = [
            (vec![(A, Healthy)], short, Some(A)),
            (vec![(A, Silent), (B, Unhealthy)], short, Some(A)),
            (vec![(A, Silent), (B, Unhealthy)], SILENCE_LIMIT, None),
            (vec![(A, Unhealthy), (B, Silent)], short, None),
            (vec![(A, Silent), (B, Healthy)], short, Some(B)),
            (vec![(A, Healthy), (B, Healthy)], short, None),
            (vec![(B, Silent)], short, None),
        ];
        for (answers, silent_for, expected) in cases {
            assert_eq!(keep(judge(&answers), &answers, Some(A), silent_for), expected, "{answers:?} {silent_for:?}");
        }
    }
}
