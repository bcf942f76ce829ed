//! What a follower has received and not applied, read from its relay log files.
//!
//! Needed after a start of the follower's server with the leader gone. MariaDB in GTID mode empties the relay log as soon
//! as either thread is started while both are stopped, because it would rather ask the leader again (measured: 0 of 200
//! acknowledged transactions kept). With the leader gone these files are the only copy. The way back: replicate by file
//! and offset instead of by GTID, from the first transaction that is not applied (measured: all of them kept). What the
//! server remembers of its place in the file is not to be trusted after a crash; the events themselves are.

use anyhow::{Context, Result, bail};

use super::Connection;
use super::events::{self, End, Event};
use super::statements::{rows, run, text};
use crate::gtid::History;

/// Files of a relay log; more than this is not a relay log that anybody left behind.
const FILE_LIMIT: usize = 10_000;

/// The first transaction that is not applied, and all that were received.
#[derive(Debug, Default)]
struct Scan {
    executed: History,
    received: History,
    first_missing: Option<Transaction>,
    /// The last transaction that is whole.
    last: String,
    /// The transaction that the last event belongs to, and whether it ends with a commit of its own.
    open: Option<(Transaction, bool)>,
}

/// Where a transaction begins.
#[derive(Debug, PartialEq, Eq)]
struct Transaction {
    file: String,
    offset: u64,
    gtid: String,
}

/// Every whole transaction in the relay log. Both threads are stopped.
pub(super) async fn received(connection: &mut Connection) -> Result<History> {
    Ok(scan(connection).await?.received)
}

/// Start the applier on what is not applied yet, and say what comes last. Both threads are stopped.
pub(super) async fn apply(connection: &mut Connection) -> Result<Option<String>> {
    let scan = scan(connection).await?;
    let Some(first) = scan.first_missing else { return Ok(None) };
    tracing::warn!(file = first.file, offset = first.offset, until = scan.last, "apply what the relay log holds");
    let change =
        format!("CHANGE MASTER TO MASTER_USE_GTID=no, RELAY_LOG_FILE='{}', RELAY_LOG_POS={}", first.file, first.offset);
    run(connection, &change).await?;
    run(connection, "START SLAVE SQL_THREAD").await?;
    Ok(Some(scan.last))
}

async fn scan(connection: &mut Connection) -> Result<Scan> {
    let row = rows(connection, "SELECT @@GLOBAL.gtid_binlog_state AS state").await?;
    let executed = text(row.first().context("the server gave no row")?, "state")?.parse()?;
    let mut scan = Scan { executed, ..Scan::default() };
    let first = rows(connection, "SHOW RELAYLOG EVENTS LIMIT 1").await?;
    let mut next = first.first().map(|row| text(row, "Log_name")).transpose()?;
    for _ in 0..FILE_LIMIT {
        let Some(file) = next else { return Ok(scan) };
        // There is no statement that lists the files; the first one that is not there is behind the last.
        if !scan_file(connection, &file, &mut scan).await? {
            return Ok(scan);
        }
        next = successor(&file);
    }
    bail!("the relay log has more than {FILE_LIMIT} files")
}

/// False where there is no such file.
async fn scan_file(connection: &mut Connection, file: &str, scan: &mut Scan) -> Result<bool> {
    match events::read(connection, "RELAYLOG", file, |event| scan.push(file, event)).await? {
        End::NoFile => Ok(false),
        End::Whole => Ok(true),
        End::Broken(why) => bail!("{file} cannot be read to its end: {why}"),
    }
}

pub(super) fn successor(file: &str) -> Option<String> {
    let (name, number) = file.rsplit_once('.')?;
    Some(format!("{name}.{:0width$}", number.parse::<u64>().ok()? + 1, width = number.len()))
}

impl Scan {
    /// A transaction begins with its GTID and ends with its commit, or with the only statement of one that has no BEGIN.
    /// One that the leader did not finish sending is not whole and was acknowledged by nobody.
    fn push(&mut self, file: &str, event: &Event) -> Result<()> {
        if event.kind == "Gtid" {
            let info = &event.info;
            let (begin, gtid) = info.split_once("GTID ").with_context(|| format!("read the relay log's {info:?}"))?;
            let has_begin = match begin.split_whitespace().next() {
                None => false,
                Some("BEGIN" | "XA") => true,
                Some(_) => bail!("the relay log has a transaction that begins with {info:?}, which is not known"),
            };
            let gtid = gtid.split_whitespace().next().unwrap_or_default().to_owned();
            self.open = Some((Transaction { file: file.into(), offset: event.offset, gtid }, has_begin));
            return Ok(());
        }
        let is_end = match (&self.open, event.kind.as_str()) {
            (Some(_), "Xid" | "XA_prepare") => true,
            (Some((_, has_begin)), "Query") => !has_begin || ["COMMIT", "ROLLBACK"].contains(&event.info.as_str()),
            _ => false,
        };
        match self.open.take_if(|_| is_end) {
            Some((transaction, _)) => self.add(transaction),
            None => Ok(()),
        }
    }

    fn add(&mut self, transaction: Transaction) -> Result<()> {
        let history: History = transaction.gtid.parse()?;
        self.received = std::mem::take(&mut self.received).united_with(&history);
        self.last.clone_from(&transaction.gtid);
        if self.first_missing.is_none() && !self.executed.contains(&history) {
            self.first_missing = Some(transaction);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_transactions_count() {
        let events = [
            (4, "Format_desc", "Server ver"),
            (555, "Gtid_list", "[0-1-9]"),
            (627, "Gtid", "GTID 0-1-1"),
            (669, "Query", "create database x"),
            (899, "Gtid", "BEGIN GTID 0-1-3"),
            (941, "Annotate_rows", "insert into x.t values(1),(2)"),
            (1034, "Write_rows_v1", "table_id: 22 flags: STMT_END_F"),
            (1077, "Xid", "COMMIT /* xid=28 */"),
            (1108, "Gtid", "BEGIN GTID 0-1-4 cid=31"),
            (1150, "Query", "COMMIT"),
            (1160, "Gtid", "XA START X'61',X'',1 GTID 0-1-5"),
            (1170, "Write_rows_v1", "table_id: 22 flags: STMT_END_F"),
            (1180, "Query", "XA END X'61',X'',1"),
            (1190, "XA_prepare", "XA PREPARE X'61',X'',1"),
            (1200, "Gtid", "BEGIN GTID 0-1-6"),
            (1250, "Write_rows_v1", "table_id: 22"),
        ];
        let mut scan = Scan { executed: "0-1-1".parse().unwrap(), ..Scan::default() };

        for (offset, kind, info) in events {
            scan.push("relay.000002", &Event { offset, kind: kind.into(), info: info.into() }).unwrap();
        }

        assert_eq!(scan.received.to_string(), "0-1-5");
        assert_eq!(scan.last, "0-1-5");
        assert_eq!(scan.first_missing.map(|missing| missing.offset), Some(899));
    }

    #[test]
    fn a_transaction_that_is_not_understood_is_not_passed_over() {
        let event = Event { offset: 4, kind: "Gtid".into(), info: "LATER GTID 0-1-1".into() };

        assert!(Scan::default().push("relay.000001", &event).is_err());
    }

    #[test]
    fn files_are_numbered_without_gaps() {
        assert_eq!(successor("mysql-relay.000099").as_deref(), Some("mysql-relay.000100"));
        assert_eq!(successor("mysql-relay"), None);
    }
}
