//! PURE. MariaDB's global transaction ids: what a server has executed, and whether one history contains another.
//!
//! A MariaDB *position* (`0-2-30`) names only the last transaction of each domain. Sequence numbers go on over a change of
//! the leader, so two servers that wrote apart can look as if one were behind the other: with `0-1-31` here and `0-2-30`
//! there, counting says "one behind", and both have a transaction that the other one lacks. The *state of the binary log*
//! (`@@gtid_binlog_state`) keeps the last sequence number of every (domain, server) pair, and one history contains another
//! exactly when it is at least as far for every pair. A position is read as a history too: it lies in a history when that
//! has reached each of its transactions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The highest sequence number of every (domain, server).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History(BTreeMap<(u32, u32), u64>);

/// A text that is no list of MariaDB transaction ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of MariaDB GTIDs (domain-server-sequence, as in 0-1-27)")]
pub(crate) struct ParseError(String);

impl History {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every transaction of `other` is one of this history too.
    pub(crate) fn contains(&self, other: &History) -> bool {
        other.0.iter().all(|(origin, sequence)| self.0.get(origin).is_some_and(|own| own >= sequence))
    }

    /// Everything that is in one or the other.
    pub(crate) fn united_with(mut self, other: &History) -> History {
        for (origin, sequence) in &other.0 {
            let own = self.0.entry(*origin).or_default();
            *own = (*own).max(*sequence);
        }
        self
    }

    /// As MariaDB must be told it: within each domain the latest last, for that one becomes the position. In strict mode
    /// sequence numbers only grow, whichever server writes.
    pub(crate) fn in_order(&self) -> String {
        let mut gtids: Vec<_> = self.0.iter().map(|((domain, server), sequence)| (domain, sequence, server)).collect();
        gtids.sort_unstable();
        let texts = gtids.iter().map(|(domain, sequence, server)| format!("{domain}-{server}-{sequence}"));
        texts.collect::<Vec<_>>().join(",")
    }
}

impl FromStr for History {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<History, ParseError> {
        let mut history = BTreeMap::new();
        for gtid in text.split(',').map(str::trim).filter(|gtid| !gtid.is_empty()) {
            let (origin, sequence) = parse_gtid(gtid).ok_or_else(|| ParseError(text.into()))?;
            let own = history.entry(origin).or_default();
            *own = sequence.max(*own);
        }
        Ok(History(history))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("empty");
        }
        for (number, ((domain, server), sequence)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{server}-{sequence}")?;
        }
        Ok(())
    }
}

fn parse_gtid(text: &str) -> Option<((u32, u32), u64)> {
    let mut parts = text.split('-');
    let (domain, server, sequence) = (parts.next()?, parts.next()?, parts.next()?);
    let id = ((domain.parse().ok()?, server.parse().ok()?), sequence.parse().ok()?);
    parts.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(text: &str) -> History {
        text.parse().unwrap()
    }

    #[test]
    fn contains_compares_every_domain_and_server() {
        for (one, other, contains) in [
            ("", "", true),
            ("0-1-1", "", true),
            ("", "0-1-1", false),
            ("0-1-27", "0-1-27", true),
            ("0-1-27", "0-1-28", false),
            ("0-1-27,0-2-30", "0-2-30", true),
            ("0-1-27,0-2-30", "0-1-27", true),
            ("0-1-27,0-2-30", "0-1-28,0-2-29", false),
            ("0-1-27,5-1-3", "0-1-20", true),
            ("0-1-27", "5-1-1", false),
        ] {
            assert_eq!(history(one).contains(&history(other)), contains, "{one:?} contains {other:?}");
        }
    }

    #[test]
    fn a_divergence_that_sequence_numbers_hide_is_seen() {
        // Measured: a has 0-1-31 last, b has 0-2-30 last, and each wrote one transaction that the other one lacks.
        let a = history("0-2-29,0-1-31");
        let b = history("0-1-27,0-2-30");

        assert!(!a.contains(&b) && !b.contains(&a));
        assert!(a.contains(&history("0-1-27,0-2-29")));
    }

    #[test]
    fn united_histories_contain_both() {
        assert_eq!(history("0-1-27,0-2-30").united_with(&history("0-1-29,0-2-3")).to_string(), "0-1-29,0-2-30");
    }

    #[test]
    fn the_latest_of_a_domain_is_last() {
        assert_eq!(history("0-1-9,0-2-5,1-7-2").in_order(), "0-2-5,0-1-9,1-7-2");
        assert_eq!(history("").in_order(), "");
    }

    #[test]
    fn texts_are_read_as_the_server_writes_them() {
        assert_eq!(history(" 0-1-2,\n0-1-7 , 3-4-5").to_string(), "0-1-7,3-4-5");
        assert_eq!(history("").to_string(), "empty");
        for wrong in ["0-1", "0-1-2-3", "a-1-2", "82ddc607-710a-404e-b1b8-a7e3ea7ec063:1-18", "0-1--2"] {
            assert!(wrong.parse::<History>().is_err(), "{wrong}");
        }
    }
}
