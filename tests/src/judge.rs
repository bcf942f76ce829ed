//! PURE. Decides from a history and from what both servers hold in the end whether the pair kept its promises. It knows
//! nothing of how a failover works, only what a client may rely on.
//!
//! | promise | broken by |
//! | --- | --- |
//! | one leader at a time | [`Broken::StaleAcknowledgement`], [`Broken::BothWritable`] |
//! | nothing acknowledged is lost; in async mode, the loss is what was reported | [`Broken::Lost`], [`Broken::Unreported`], [`Broken::FalselyReported`] |
//! | a refusal is a refusal | [`Broken::RefusedButPresent`] |
//! | a transaction is all or nothing, and nobody invents rows | [`Broken::Torn`], [`Broken::NeverWritten`] |
//! | healed servers are equal | [`Broken::Different`] |

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::history::{History, Outcome, Row, Side};

mod order;
#[cfg(test)]
mod tests;

/// What a server holds in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Every row of the clients' table.
    pub rows: BTreeSet<Row>,
    /// Every transaction executed, in one spelling.
    pub gtid_executed: String,
    /// The checksum of the table with all its columns.
    pub checksum: u64,
}

/// What may be missing from the leader in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: sync mode, or no failover.
    Forbidden,
    /// Exactly these rows, whose transactions the pair reported as not on the new leader.
    Reported(BTreeSet<Row>),
}

/// The end of a run, after everything is healed and the clients have stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The server that leads.
    pub leader: Side,
    /// `[A's, B's]`.
    pub holdings: [Holdings; 2],
    /// What may be missing.
    pub loss: Loss,
}

/// A promise that was not kept, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A server acknowledged an attempt that began after the other one had acknowledged one of the same or a later term.
    StaleAcknowledgement {
        /// The server that should have been fenced.
        server: Side,
        /// How many such attempts.
        count: usize,
        /// The first such row, and when its attempt began.
        first: (Row, Duration),
    },
    /// A server was writable at a moment at which the other one was, too.
    BothWritable {
        /// How many looks saw that.
        count: usize,
        /// The first one.
        at: Duration,
    },
    /// Acknowledged rows are not on the leader.
    Lost(BTreeSet<Row>),
    /// Acknowledged rows are not on the leader, and the pair does not say so.
    Unreported(BTreeSet<Row>),
    /// Rows that the pair reports as missing from the leader are there.
    FalselyReported(BTreeSet<Row>),
    /// Refused rows are there.
    RefusedButPresent(Side, BTreeSet<Row>),
    /// Of the rows of one transaction some are there and some are not.
    Torn(Side, Vec<Row>),
    /// Rows that nobody tried to write.
    NeverWritten(Side, BTreeSet<Row>),
    /// The servers differ.
    Different {
        /// Only on A.
        only_a: BTreeSet<Row>,
        /// Only on B.
        only_b: BTreeSet<Row>,
        /// The checksums are equal.
        same_checksum: bool,
        /// Both sets of transactions, where they differ.
        gtids: Option<[String; 2]>,
    },
}

/// Two leaders at once, as far as the history alone proves it.
#[must_use]
pub fn two_leaders(history: &History) -> Vec<Broken> {
    let stale = Side::BOTH.into_iter().filter_map(|server| order::stale_acknowledgement(history, server));
    stale.chain(order::both_writable(history)).collect()
}

/// Every promise that was not kept.
#[must_use]
pub fn judge(history: &History, ending: &Ending) -> Vec<Broken> {
    let mut broken = two_leaders(history);
    broken.extend(losses(history, ending));
    for side in Side::BOTH {
        broken.extend(false_rows(history, side, &ending.holdings[side.index()].rows));
    }
    broken.extend(difference(&ending.holdings));
    broken
}

/// The acknowledged rows that the leader does not hold.
#[must_use]
pub fn lost(history: &History, leader: &Holdings) -> BTreeSet<Row> {
    let acknowledged = history.acknowledged().flat_map(|attempt| &attempt.rows);
    acknowledged.filter(|row| !leader.rows.contains(row)).copied().collect()
}

fn losses(history: &History, ending: &Ending) -> Vec<Broken> {
    let leader = &ending.holdings[ending.leader.index()];
    let lost = lost(history, leader);
    match &ending.loss {
        Loss::Forbidden => some_rows(lost).map(Broken::Lost).into_iter().collect(),
        Loss::Reported(reported) => {
            let unreported = some_rows(&lost - reported).map(Broken::Unreported);
            let false_report = some_rows(reported & &leader.rows).map(Broken::FalselyReported);
            unreported.into_iter().chain(false_report).collect()
        }
    }
}

fn false_rows(history: &History, side: Side, rows: &BTreeSet<Row>) -> Vec<Broken> {
    let tried: BTreeSet<Row> = history.attempts.iter().flat_map(|attempt| &attempt.rows).copied().collect();
    let (mut refused, mut torn) = (BTreeSet::new(), Vec::new());
    for attempt in &history.attempts {
        let present = attempt.rows.iter().filter(|row| rows.contains(row)).count();
        if attempt.outcome == Outcome::Refused {
            refused.extend(attempt.rows.iter().filter(|row| rows.contains(row)).copied());
        } else if present != 0 && present != attempt.rows.len() {
            torn.push(Broken::Torn(side, attempt.rows.clone()));
        }
    }
    let refused = some_rows(refused).map(|rows| Broken::RefusedButPresent(side, rows));
    let invented = some_rows(rows - &tried).map(|rows| Broken::NeverWritten(side, rows));
    refused.into_iter().chain(torn).chain(invented).collect()
}

fn difference([a, b]: &[Holdings; 2]) -> Option<Broken> {
    if a == b {
        return None;
    }
    let same_gtids = a.gtid_executed == b.gtid_executed;
    Some(Broken::Different {
        only_a: &a.rows - &b.rows,
        only_b: &b.rows - &a.rows,
        same_checksum: a.checksum == b.checksum,
        gtids: (!same_gtids).then(|| [a.gtid_executed.clone(), b.gtid_executed.clone()]),
    })
}

fn some_rows(rows: BTreeSet<Row>) -> Option<BTreeSet<Row>> {
    (!rows.is_empty()).then_some(rows)
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::StaleAcknowledgement { server, count, first: (row, at) } => write!(
                f,
                "{server:?} acknowledged {count} attempts that began after its leadership was over, first {row} at {:.3} s",
                at.as_secs_f64()
            ),
            Broken::BothWritable { count, at } => {
                write!(f, "both servers were writable at {count} looks, first at {:.3} s", at.as_secs_f64())
            }
            Broken::Lost(rows) => write!(f, "{} acknowledged rows are lost: {}", rows.len(), Some3(rows)),
            Broken::Unreported(rows) => {
                write!(f, "{} acknowledged rows are lost and not reported: {}", rows.len(), Some3(rows))
            }
            Broken::FalselyReported(rows) => {
                write!(f, "{} rows are reported as lost and are there: {}", rows.len(), Some3(rows))
            }
            Broken::RefusedButPresent(side, rows) => {
                write!(f, "{} refused rows are on {side:?}: {}", rows.len(), Some3(rows))
            }
            Broken::Torn(side, rows) => write!(f, "{side:?} holds a part of the transaction of {}", Some3(rows)),
            Broken::NeverWritten(side, rows) => {
                write!(f, "{} rows on {side:?} were written by nobody: {}", rows.len(), Some3(rows))
            }
            Broken::Different { only_a, only_b, same_checksum, gtids } => {
                write!(f, "the servers differ: {} rows only on A, {} only on B", only_a.len(), only_b.len())?;
                write!(f, ", checksums {}", if *same_checksum { "equal" } else { "different" })?;
                gtids.as_ref().map_or(Ok(()), |[a, b]| write!(f, ", executed {a:?} and {b:?}"))
            }
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.number)
    }
}

/// The first three rows.
struct Some3<'a, T>(&'a T);

impl<T> fmt::Display for Some3<'_, T>
where
    for<'a> &'a T: IntoIterator<Item = &'a Row>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.into_iter().take(3).map(Row::to_string).collect();
        f.write_str(&words.join(", "))
    }
}
