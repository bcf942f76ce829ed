//! PURE. What the times of a history prove about two leaders at once.

use std::time::Duration;

use super::Broken;
use crate::history::{Attempt, History, Outcome, Sample, Side, Term};

/// Between two looks at a server that are no further apart than this it cannot have lost and won the leadership again.
const STEADY: Duration = Duration::from_millis(50);

/// An attempt on `server` that began after the other server had acknowledged one of the same or a later term is stale:
/// its leadership was over. Leadership may go back and forth as it likes, and each time the term grows.
pub(super) fn stale_acknowledgement(history: &History, server: Side) -> Option<Broken> {
    let mut theirs: Vec<(Duration, Term)> =
        acknowledged_by(history, server.other()).map(|(attempt, term)| (attempt.ended, term)).collect();
    theirs.sort_unstable();
    let mut latest = 0;
    for (_, term) in &mut theirs {
        latest = latest.max(*term);
        *term = latest;
    }
    let is_stale = |attempt: &Attempt, term: Term| {
        let before = theirs.partition_point(|(ended, _)| *ended < attempt.began);
        before > 0 && term <= theirs[before - 1].1
    };
    let stale = acknowledged_by(history, server).filter(|(attempt, term)| is_stale(attempt, *term));
    let mut stale: Vec<&Attempt> = stale.map(|(attempt, _)| attempt).collect();
    stale.sort_by_key(|attempt| attempt.began);
    let first = stale.first()?;
    let row = *first.rows.first()?;
    Some(Broken::StaleAcknowledgement { server, count: stale.len(), first: (row, first.began) })
}

/// A look at one server that lies between two looks at the other, all three of them at a writable server.
pub(super) fn both_writable(history: &History) -> Option<Broken> {
    let of = |side: Side| -> Vec<&Sample> { history.samples.iter().filter(|sample| sample.server == side).collect() };
    let (a, b) = (of(Side::A), of(Side::B));
    let mut moments: Vec<Duration> = between(&a, &b).chain(between(&b, &a)).collect();
    moments.sort_unstable();
    let at = *moments.first()?;
    Some(Broken::BothWritable { count: moments.len(), at })
}

/// The times at which `inner` was writable while `outer` certainly was, too.
fn between<'a>(outer: &'a [&Sample], inner: &'a [&Sample]) -> impl Iterator<Item = Duration> + 'a {
    let writable = inner.iter().filter(|sample| sample.writable);
    writable.filter_map(|sample| {
        let after = outer.partition_point(|look| look.began < sample.ended);
        let (before, after) = (outer.get(after.checked_sub(1)?)?, outer.get(after)?);
        let encloses = before.ended < sample.began && after.began - before.ended < STEADY;
        (before.writable && after.writable && encloses).then_some(sample.began)
    })
}

fn acknowledged_by(history: &History, server: Side) -> impl Iterator<Item = (&Attempt, Term)> {
    history.attempts.iter().filter(move |attempt| attempt.server == server).filter_map(|attempt| {
        match attempt.outcome {
            Outcome::Acknowledged(term) => Some((attempt, term?)),
            Outcome::Refused | Outcome::Unknown => None,
        }
    })
}
