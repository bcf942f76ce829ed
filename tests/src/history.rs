//! What clients saw, as plain values: every attempt to write with its times and its outcome, and every look at whether a
//! server is writable. All times are of one monotonic clock, counted from the beginning of the history.

use std::time::Duration;

/// One of the two servers of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The instance with index 0 and server id 1.
    A,
    /// The instance with index 1 and server id 2.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::A, Side::B];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    /// Its place in an array of both.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Side::A => 0,
            Side::B => 1,
        }
    }
}

/// A row that is written at most once in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The client that writes it.
    pub client: u32,
    /// The client's count.
    pub number: u64,
}

/// The number of a leadership, as the server that wrote a row had it in its own data: a later one is higher.
pub type Term = u64;

/// What a client knows about its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said that it is committed. The term is not known where the server did not say it in time.
    Acknowledged(Option<Term>),
    /// Certainly not committed: the server refused it, or the client never asked for the commit.
    Refused,
    /// The answer was lost.
    Unknown,
}

/// One attempt to commit one or more rows in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The server that it went to.
    pub server: Side,
    /// The rows of the transaction.
    pub rows: Vec<Row>,
    /// Before the first byte was sent.
    pub began: Duration,
    /// After the last byte was received, or given up.
    pub ended: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

impl Attempt {
    /// The server said that it is committed.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged(_))
    }
}

/// One look at `@@read_only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The server that was asked.
    pub server: Side,
    /// Before it was asked.
    pub began: Duration,
    /// After it had answered.
    pub ended: Duration,
    /// Its answer.
    pub writable: bool,
}

/// Everything that the clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In no particular order.
    pub attempts: Vec<Attempt>,
    /// In the order of each server's answers.
    pub samples: Vec<Sample>,
}

impl History {
    /// The attempts whose commit was acknowledged.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.is_acknowledged())
    }

    /// What began after `moment`.
    #[must_use]
    pub fn since(&self, moment: Duration) -> History {
        let attempts = self.attempts.iter().filter(|attempt| attempt.began >= moment);
        let samples = self.samples.iter().filter(|sample| sample.began >= moment);
        History { attempts: attempts.cloned().collect(), samples: samples.copied().collect() }
    }

    /// The end of the first acknowledged attempt that began after `moment`.
    #[must_use]
    pub fn first_acknowledgement_after(&self, moment: Duration) -> Option<Duration> {
        self.acknowledged().filter(|attempt| attempt.began >= moment).map(|attempt| attempt.ended).min()
    }

    /// The longest time without an acknowledgement between `from` and the end of the history.
    #[must_use]
    pub fn longest_gap_since(&self, from: Duration) -> Duration {
        let mut times: Vec<Duration> = self.acknowledged().map(|attempt| attempt.ended).collect();
        times.extend(self.attempts.iter().map(|attempt| attempt.ended).max());
        times.sort_unstable();
        let first = times.partition_point(|time| *time < from).saturating_sub(1);
        times.get(first..).unwrap_or_default().windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}
