//! The files that were saved: their names, what stands at the head of a text, and which there are. The text gets its name
//! last, so what has no text is not finished.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent::api::Saved;
use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::mysql::Transaction;
use crate::mysqld::remove_file_if_there;
use crate::topology::Server;

const TEXT: &str = "sql";
const EVENTS: &str = "binlog";
const UNFINISHED: &str = "new";
/// A longer head than this is not one of ours.
const HEAD_LIMIT: u64 = 256 << 10;

const EPOCH: &str = "-- Epoch: ";
const GTID_SET: &str = "-- GTID set: ";
const TRANSACTIONS: &str = "-- Transactions: ";
const OF_APPLICATIONS: &str = "-- Of applications: ";

/// Where one rescue goes.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Without an ending.
    stem: PathBuf,
    at: String,
}

/// What stands at the head of a text.
pub(super) struct Head<'a> {
    pub(super) own: &'a Server,
    pub(super) leader: &'a Server,
    pub(super) gtid_set: &'a str,
    pub(super) transactions: &'a [Transaction],
    pub(super) replay: &'a str,
}

impl Names {
    /// Names that no other rescue has.
    pub(super) fn free(directory: &Path, now: OffsetDateTime, epoch: u64) -> Result<Names> {
        let at =
            now.format(format_description!("[year][month][day]T[hour][minute][second]Z")).context("write the time")?;
        let stem = directory.join(format!("{at}-epoch-{epoch}"));
        let numbered = (2..).map(|number: u32| directory.join(format!("{at}-epoch-{epoch}-{number}")));
        let mut stems = std::iter::once(stem).chain(numbered);
        let free = stems.find(|stem| !stem.with_extension(TEXT).exists()).context("there is always another number")?;
        Ok(Names { stem: free, at })
    }

    pub(super) fn text(&self) -> PathBuf {
        self.stem.with_extension(TEXT)
    }

    fn events(&self) -> PathBuf {
        self.stem.with_extension(EVENTS)
    }

    pub(super) fn unfinished_text(&self) -> PathBuf {
        self.stem.with_extension(format!("{TEXT}.{UNFINISHED}"))
    }

    pub(super) fn unfinished_events(&self) -> PathBuf {
        self.stem.with_extension(format!("{EVENTS}.{UNFINISHED}"))
    }

    /// Both are written and checked.
    pub(super) fn finish(&self) -> Result<()> {
        let directory = self.stem.parent().context("the files have a directory")?;
        let sync = || File::open(directory)?.sync_all();
        for (from, to) in [(self.unfinished_events(), self.events()), (self.unfinished_text(), self.text())] {
            let named = fs::rename(&from, &to).and_then(|()| sync());
            named.with_context(|| format!("give {} its name", to.display()))?;
        }
        // The directory's own name.
        let above = directory.parent().context("the directory has a parent")?;
        File::open(above).and_then(|above| above.sync_all()).context("write the directory's name to the disk")
    }
}

impl Head<'_> {
    pub(super) fn text(&self, names: &Names) -> String {
        let Head { own, leader, gtid_set, transactions, replay } = self;
        let of_applications = transactions.iter().filter(|transaction| transaction.is_of_applications).count();
        let executed = leader.executed.as_ref().map(ToString::to_string).unwrap_or_default();
        let (epoch, count, at) = (own.led, transactions.len(), &names.at);
        let events = names.events();
        let (events, text) = (events.display(), names.text());
        let text = text.display();
        let replay = replay.replace("FILE", &events.to_string());
        format!(
            "-- What only {} at {} had when {} at {} had replaced it as the leader. It led last under epoch {epoch}; none of\n\
             -- this is on the leader. Saved by mysql-agent before the data were replaced by a copy of the leader's.\n\
             -- Saved at: {at}\n\
             {EPOCH}{epoch}\n\
             {GTID_SET}{gtid_set}\n\
             {TRANSACTIONS}{count}\n\
             {OF_APPLICATIONS}{of_applications}\n\
             -- Leader: {}, epoch {}, GTID executed {executed}\n\
             --\n\
             -- To read: each row that was written stands below in the lines that begin with ###; @1 is the table's first column.\n\
             -- To write it again on the leader: see first what was written there since, it may be about the same rows. Then take\n\
             -- the statements that are needed, or all of them with\n\
             --   {replay}\n\
             -- To end the mention of it in the status: remove {text} and {events}\n\n",
            own.instance, own.address, leader.instance, leader.address, leader.instance, leader.record.epoch,
        )
    }
}

/// A new file that only this user may read.
pub(super) fn create(path: &Path) -> Result<File> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("make {}", path.display()))
}

/// What was saved, the oldest first.
pub(crate) fn list(directory: &Path) -> Result<Vec<Saved>> {
    let mut texts: Vec<_> = entries(directory)?.into_iter().filter(|path| has_ending(path, TEXT)).collect();
    texts.sort_by_key(|path| path.with_extension(""));
    texts.iter().filter_map(|path| read_head(path).transpose()).collect()
}

/// Remove what a run that was cut off has left.
pub(super) fn remove_unfinished(directory: &Path) -> Result<()> {
    for path in entries(directory)? {
        if has_ending(&path, UNFINISHED) || (has_ending(&path, EVENTS) && !path.with_extension(TEXT).exists()) {
            remove_file_if_there(&path)?;
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let act = || format!("look through {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(act),
    };
    entries.map(|entry| Ok(entry.with_context(act)?.path())).collect()
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension == ending)
}

/// None where the file has another head, or was removed just now.
fn read_head(path: &Path) -> Result<Option<Saved>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    let (mut epoch, mut gtid_set, mut transactions, mut of_applications) = (None, None, None, None);
    for line in BufReader::new(file.take(HEAD_LIMIT)).lines() {
        let Ok(line) = line else { break };
        if !line.starts_with("--") {
            break;
        }
        let after = |start: &str| line.strip_prefix(start).map(str::to_owned);
        let number = |start: &str| line.strip_prefix(start).and_then(|number| number.parse::<u64>().ok());
        epoch = epoch.or_else(|| number(EPOCH));
        gtid_set = gtid_set.or_else(|| after(GTID_SET));
        transactions = transactions.or_else(|| number(TRANSACTIONS));
        of_applications = of_applications.or_else(|| number(OF_APPLICATIONS));
    }
    let (Some(epoch), Some(gtid_set)) = (epoch, gtid_set) else { return Ok(None) };
    let (Some(transactions), Some(of_applications)) = (transactions, of_applications) else { return Ok(None) };
    Ok(Some(Saved { file: path.display().to_string(), epoch, gtid_set, transactions, of_applications }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{server, writable};

    fn saved_in(directory: &Path) -> Names {
        let now = time::macros::datetime!(2026-11-22 01:02:03 UTC);
        let names = Names::free(directory, now, 2).unwrap();
        let (own, leader) = (Server { led: 2, ..server(0, "0-1-5") }, writable(server(1, "0-1-4,0-2-5")));
        let transactions =
            [true, false].map(|is_of_applications| Transaction { is_of_applications, ..Transaction::default() });
        let head =
            Head { own: &own, leader: &leader, gtid_set: "0-1-5", transactions: &transactions, replay: "replay FILE" };
        fs::write(names.unfinished_text(), head.text(&names)).unwrap();
        fs::write(names.unfinished_events(), "events").unwrap();
        names
    }

    #[test]
    fn a_finished_rescue_is_found_by_its_head() {
        let directory = tempfile::tempdir().unwrap();
        let names = saved_in(directory.path());
        assert_eq!(list(directory.path()).unwrap(), []);
        names.finish().unwrap();
        saved_in(directory.path()).finish().unwrap();

        remove_unfinished(directory.path()).unwrap();

        let saved = list(directory.path()).unwrap();
        let file = directory.path().join("20261122T010203Z-epoch-2.sql").display().to_string();
        let first = Saved { file, epoch: 2, gtid_set: "0-1-5".into(), transactions: 2, of_applications: 1 };
        assert_eq!(saved[0..1], [first]);
        assert!(saved[1].file.ends_with("-epoch-2-2.sql"), "{saved:?}");
    }

    #[test]
    fn what_was_cut_off_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let names = saved_in(directory.path());
        // Cut off between the two names.
        fs::rename(names.unfinished_events(), names.events()).unwrap();

        remove_unfinished(directory.path()).unwrap();

        assert_eq!(entries(directory.path()).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(list(&directory.path().join("none")).unwrap(), []);
    }
}
