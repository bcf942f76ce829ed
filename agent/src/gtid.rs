//! PURE. Global transaction ids: what a server has executed, and whether one history contains another.
//!
//! MySQL's history is a *GTID set*: of every source, a server's UUID or that with a tag, the numbers of its transactions, as
//! intervals. MariaDB's is not: a *position* (`0-2-30`) names only the last transaction of each domain. Sequence numbers go
//! on over a change of the leader, so two servers that wrote apart can look as if one were behind the other: with `0-1-31`
//! here and `0-2-30` there, counting says "one behind", and both have a transaction that the other one lacks. The *state of
//! the binary log* (`@@gtid_binlog_state`) keeps the last sequence number of every (domain, server) pair, and one history
//! contains another exactly when it is at least as far for every pair. So a pair counts as a source here, with all numbers
//! up to its last one. A position is read as a history too: it lies in a history that has reached all its transactions.

mod intervals;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use intervals::Intervals;

/// The longest tag of MySQL.
const TAG_LIMIT: usize = 32;

/// The transactions of a server of either family. Histories of different families have no source in common, so they never
/// contain each other unless one is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History(BTreeMap<Source, Intervals>);

/// Where transactions were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    MariaDb {
        domain: u32,
        server: u32,
    },
    /// A UUID, with `:` and the tag where there is one.
    MySql(String),
}

/// A text that is no list of transaction ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither a list of MariaDB GTIDs (domain-server-sequence, as in 0-1-27) nor a MySQL GTID set (uuid:1-27)"
)]
pub(crate) struct ParseError(String);

impl History {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every transaction of `other` is one of this history too.
    pub(crate) fn contains(&self, other: &History) -> bool {
        other.0.iter().all(|(source, numbers)| self.0.get(source).is_some_and(|own| own.contain(numbers)))
    }

    /// Everything that is in one or the other.
    pub(crate) fn united_with(mut self, other: &History) -> History {
        for (source, numbers) in &other.0 {
            self.0.entry(source.clone()).or_default().add(numbers);
        }
        self
    }

    /// What is in this history and not in the other one, for a human; empty for nothing. MariaDB's numbers have gaps where
    /// another server wrote, so its ranges say where to look and not how many there are.
    pub(crate) fn minus(&self, other: &History) -> String {
        let none = Intervals::default();
        let left = self.0.iter().map(|(source, own)| (source, own.minus(other.0.get(source).unwrap_or(&none))));
        let left = left.filter(|(_, numbers)| !numbers.is_empty());
        let texts = left.map(|(source, numbers)| match source {
            Source::MariaDb { .. } => {
                let ranges = numbers.iter().map(|range| match range {
                    (first, last) if first == last => source.with(last),
                    (1, last) => format!("up to {}", source.with(last)),
                    (first, last) => format!("{} to {}", source.with(first), source.with(last)),
                });
                ranges.collect()
            }
            Source::MySql(_) => source.with_all(&numbers),
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// As the server must be told it. MariaDB: within each domain the latest last, for that one becomes the position. In
    /// strict mode sequence numbers only grow, whichever server writes.
    pub(crate) fn in_order(&self) -> String {
        let mut sources: Vec<_> = self.0.iter().collect();
        sources.sort_by_key(|(source, numbers)| match source {
            Source::MariaDb { domain, .. } => (*domain, numbers.last()),
            Source::MySql(_) => (0, 0),
        });
        joined(sources.into_iter())
    }

    fn parse_into(&mut self, text: &str) -> Option<()> {
        let elements = match text.contains(':') {
            true => parse_set(text)?,
            false => vec![parse_gtid(text)?],
        };
        for (source, numbers) in elements {
            self.0.entry(source).or_default().add(&numbers.into());
        }
        Some(())
    }
}

impl FromStr for History {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<History, ParseError> {
        let mut history = History::default();
        for element in text.split(',').map(str::trim).filter(|element| !element.is_empty()) {
            history.parse_into(element).ok_or_else(|| ParseError(text.into()))?;
        }
        Ok(history)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_empty() {
            true => f.write_str("empty"),
            false => f.write_str(&joined(self.0.iter())),
        }
    }
}

impl Source {
    /// One transaction.
    fn with(&self, number: u64) -> String {
        match self {
            Source::MariaDb { domain, server } => format!("{domain}-{server}-{number}"),
            Source::MySql(name) => format!("{name}:{number}"),
        }
    }

    fn with_all(&self, numbers: &Intervals) -> String {
        match self {
            Source::MariaDb { .. } => self.with(numbers.last()),
            Source::MySql(name) => numbers.iter().fold(name.clone(), |text, (first, last)| match first == last {
                true => format!("{text}:{first}"),
                false => format!("{text}:{first}-{last}"),
            }),
        }
    }
}

fn joined<'a>(sources: impl Iterator<Item = (&'a Source, &'a Intervals)>) -> String {
    sources.map(|(source, numbers)| source.with_all(numbers)).collect::<Vec<_>>().join(",")
}

fn parse_gtid(text: &str) -> Option<(Source, (u64, u64))> {
    let mut parts = text.split('-');
    let (domain, server, sequence) = (parts.next()?, parts.next()?, parts.next()?);
    let source = Source::MariaDb { domain: domain.parse().ok()?, server: server.parse().ok()? };
    let last = sequence.parse().ok().filter(|sequence| *sequence > 0)?;
    parts.next().is_none().then_some((source, (1, last)))
}

/// One element of a GTID set, `uuid:1-5:7:tag:1-3`: a UUID, its intervals, and those of each tag behind the tag.
fn parse_set(text: &str) -> Option<Vec<(Source, (u64, u64))>> {
    let mut parts = text.split(':').map(str::trim);
    let uuid = parts.next().filter(|uuid| is_uuid(uuid))?.to_ascii_lowercase();
    let mut source = uuid.clone();
    let mut has_numbers = false;
    let mut found = Vec::new();
    for part in parts {
        has_numbers = !is_tag(part);
        match has_numbers {
            true => found.push((Source::MySql(source.clone()), parse_interval(part)?)),
            false => source = format!("{uuid}:{}", part.to_ascii_lowercase()),
        }
    }
    has_numbers.then_some(found)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn is_tag(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && text.len() <= TAG_LIMIT && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (1 <= first && first <= last).then_some((first, last))
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
        for wrong in ["0-1", "0-1-2-3", "a-1-2", "0-1--2"] {
            assert!(wrong.parse::<History>().is_err(), "{wrong}");
        }
    }

    const A: &str = "82ddc607-710a-404e-b1b8-a7e3ea7ec063";
    const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn a_gtid_set_is_read_as_the_server_writes_it() {
        for (text, canonical) in [
            (format!("{A}:1-18"), format!("{A}:1-18")),
            (format!("{A}:1-18,\n{B}:7"), format!("{B}:7,{A}:1-18")),
            (format!("{A}:5:1-3:4:9-12"), format!("{A}:1-5:9-12")),
            (format!("{}:1:Shop:1-3:7:_x:2", A.to_uppercase()), format!("{A}:1,{A}:_x:2,{A}:shop:1-3:7")),
            (format!("{A}:shop:1-3, {A}:1"), format!("{A}:1,{A}:shop:1-3")),
        ] {
            assert_eq!(history(&text).to_string(), canonical, "{text}");
            assert_eq!(history(&canonical), history(&text));
            assert_eq!(history(&text).in_order(), canonical);
        }
        for wrong in ["", ":", ":0", ":3-1", ":a", ":1:shop", ":1-", ":a-b:1", ":1-2-3"] {
            let text = format!("{A}{wrong}");
            assert!(text.parse::<History>().is_err(), "{text}");
        }
        assert!(format!("{}:1", &A[1..]).parse::<History>().is_err());
    }

    #[test]
    fn a_gtid_set_knows_every_single_transaction() {
        let set = |text: &str| history(&text.replace('A', A).replace('B', B));
        for (one, other, united, minus) in [
            ("", "A:1-3", "A:1-3", ""),
            ("A:1-3", "", "A:1-3", "A:1-3"),
            ("A:1-10", "A:1-10", "A:1-10", ""),
            ("A:1-10", "A:4-6", "A:1-10", "A:1-3:7-10"),
            ("A:1-3:5-7", "A:4", "A:1-7", "A:1-3:5-7"),
            ("A:1-3:5-9", "A:3-5", "A:1-9", "A:1-2:6-9"),
            ("A:1-5,B:1-2", "A:1-9", "B:1-2,A:1-9", "B:1-2"),
            ("A:x:1-5,A:1", "A:1-5", "A:1-5,A:x:1-5", "A:x:1-5"),
        ] {
            let (one, other) = (set(one), set(other));
            assert_eq!(one.clone().united_with(&other), set(united), "{one} and {other}");
            assert_eq!(one.minus(&other), set(minus).in_order(), "{one} without {other}");
            assert_eq!(other.contains(&one), minus.is_empty(), "{other} contains {one}");
            assert!(set(united).contains(&one) && set(united).contains(&other));
        }
    }

    #[test]
    fn what_one_history_lacks_is_named() {
        for (one, other, minus) in [
            ("0-1-31", "0-1-31", ""),
            ("0-1-31", "0-1-30", "0-1-31"),
            ("0-1-31,0-2-35", "0-1-28", "0-1-29 to 0-1-31, up to 0-2-35"),
        ] {
            assert_eq!(history(one).minus(&history(other)), minus);
        }
    }

    #[test]
    fn the_families_contain_nothing_of_each_other() {
        let (mariadb, mysql) = (history("0-1-5"), history(&format!("{A}:1-5")));

        assert!(!mariadb.contains(&mysql) && !mysql.contains(&mariadb));
        assert!(mariadb.contains(&History::default()) && mysql.contains(&History::default()));
    }
}
