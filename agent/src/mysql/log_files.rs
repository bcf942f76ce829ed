//! Which transactions lie where in the server's log files, its binary log and its relay log. The server itself reads them: it
//! knows every kind of event that it ever wrote.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::events::{self, End, Event};
use super::relay_log::successor;
use super::statements::{rows, run, text};
use super::{Connection, Database, RELAY_LOG_LIMIT, STATEMENT_LIMIT, within};
use crate::gtid::History;

/// More files than this belong to no log that anybody left behind.
const FILE_LIMIT: usize = 10_000;
/// What is written there is the agent's, not the applications'.
const BOOKKEEPING: &str = "(replication_monitoring.";
const MAKES_BOOKKEEPING: [&str; 2] =
    ["CREATE DATABASE IF NOT EXISTS replication_monitoring", "CREATE TABLE IF NOT EXISTS replication_monitoring."];

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) gtid: String,
    pub(crate) pieces: Vec<Piece>,
    /// It has more than the agent's heartbeats and epochs.
    pub(crate) is_of_applications: bool,
}

/// Events that lie one behind the other in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The name within the data directory.
    pub(crate) file: String,
    /// Where the event lies that says how the others are written.
    pub(crate) format: u64,
    /// Where the first event begins, and where the last one does.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The transactions that one server has and another one lacks.
struct Scan<'a> {
    own: &'a History,
    others: &'a History,
    found: Vec<Transaction>,
    /// Where in `found` a GTID is.
    places: HashMap<String, usize>,
    /// How many of `found` are from the binary log.
    from_binary_log: usize,
    open: Option<Transaction>,
    format: u64,
    /// The last event belongs to the file, not to a transaction.
    is_apart: bool,
}

impl Database {
    /// Begin a new binary log.
    pub(crate) async fn rotate_binary_log(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "begin a new binary log", async {
            run(&mut *self.connection().await?, "FLUSH BINARY LOGS").await
        })
        .await
    }

    /// The transactions of `own` that `others` lacks, in the order in which they were written. Nobody writes, and both threads
    /// of replication are stopped.
    pub(crate) async fn logged(&self, own: &History, others: &History) -> Result<Vec<Transaction>> {
        within(RELAY_LOG_LIMIT, "read the log files", async {
            let mut connection = self.connection().await?;
            let mut scan = Scan::new(own, others);
            for file in binary_logs(&mut connection, others).await? {
                scan.file(&mut connection, "BINLOG", &file).await?;
            }
            scan.close();
            scan.from_binary_log = scan.found.len();
            let first = rows(&mut connection, "SHOW RELAYLOG EVENTS LIMIT 1").await?;
            let mut next = first.first().map(|row| text(row, "Log_name")).transpose()?;
            for _ in 0..FILE_LIMIT {
                let Some(file) = next else { break };
                if !scan.file(&mut connection, "RELAYLOG", &file).await? {
                    break;
                }
                next = successor(&file);
            }
            scan.close();
            Ok(scan.found)
        })
        .await
    }
}

/// The files that may hold what `others` lacks: from the last one back to one that begins with nothing of it.
async fn binary_logs(connection: &mut Connection, others: &History) -> Result<Vec<String>> {
    let logs = rows(connection, "SHOW BINARY LOGS").await?;
    let mut files = Vec::new();
    for log in logs.iter().rev() {
        let file = text(log, "Log_name")?;
        let begins_with = rows(connection, &format!("SHOW BINLOG EVENTS IN '{file}' LIMIT 3")).await?;
        files.insert(0, file);
        for event in begins_with {
            if ["Gtid_list", "Previous_gtids"].contains(&text(&event, "Event_type")?.as_str())
                && others.contains(&text(&event, "Info")?.trim_matches(['[', ']']).parse()?)
            {
                return Ok(files);
            }
        }
    }
    bail!("the binary log does not go back to where the histories parted")
}

impl<'a> Scan<'a> {
    fn new(own: &'a History, others: &'a History) -> Scan<'a> {
        Scan {
            own,
            others,
            found: Vec::new(),
            places: HashMap::new(),
            from_binary_log: 0,
            open: None,
            format: 0,
            is_apart: true,
        }
    }

    /// False where there is no such file. One that ends in the middle of an event, after a crash, ends there.
    async fn file(&mut self, connection: &mut Connection, log: &str, file: &str) -> Result<bool> {
        match events::read(connection, log, file, |event| self.push(file, event)).await? {
            End::NoFile => return Ok(false),
            End::Whole => {}
            End::Broken(why) => tracing::warn!("{file} is not read to its end: {why}"),
        }
        Ok(true)
    }

    /// A transaction goes to the next one's GTID; what belongs to the file lies between and in the middle of them.
    fn push(&mut self, file: &str, event: &Event) -> Result<()> {
        match event.kind.as_str() {
            "Format_desc" => self.format = event.offset,
            "Rotate" | "Stop" | "Gtid_list" | "Previous_gtids" | "Binlog_checkpoint" | "Heartbeat" => {}
            "Anonymous_Gtid" => bail!("{file} has a transaction without a GTID"),
            "Gtid" | "Gtid_tagged" => {
                self.close();
                self.open = self.transaction(&event.info)?;
                self.extend(file, event.offset);
            }
            kind => {
                self.extend(file, event.offset);
                if let Some(open) = &mut self.open {
                    open.is_of_applications |= is_of_applications(kind, &event.info);
                }
            }
        }
        Ok(())
    }

    /// The transaction that begins, where it is one of those.
    fn transaction(&self, info: &str) -> Result<Option<Transaction>> {
        // `BEGIN GTID 0-1-3 cid=31`, or `SET @@SESSION.GTID_NEXT= 'uuid:3'`.
        let gtid = match info.split_once("GTID ") {
            Some((_, rest)) => rest.split_whitespace().next(),
            None => info.split('\'').nth(1),
        };
        let gtid = gtid.with_context(|| format!("read the GTID in {info:?}"))?;
        let history: History = gtid.parse()?;
        let is_wanted = self.own.contains(&history) && !self.others.contains(&history);
        Ok(is_wanted.then(|| Transaction { gtid: gtid.into(), ..Transaction::default() }))
    }

    fn extend(&mut self, file: &str, offset: u64) {
        let is_apart = std::mem::take(&mut self.is_apart);
        let Some(open) = &mut self.open else { return };
        match open.pieces.last_mut().filter(|piece| !is_apart && piece.file == file) {
            Some(piece) => piece.last = offset,
            None => open.pieces.push(Piece { file: file.into(), format: self.format, first: offset, last: offset }),
        }
    }

    /// What a relay log holds and the binary log too was applied. What a relay log holds twice was cut off the first time.
    fn close(&mut self) {
        let Some(transaction) = self.open.take() else { return };
        match self.places.get(&transaction.gtid).copied() {
            Some(place) if place < self.from_binary_log => {}
            Some(place) => self.found[place] = transaction,
            None => {
                self.places.insert(transaction.gtid.clone(), self.found.len());
                self.found.push(transaction);
            }
        }
    }
}

fn is_of_applications(kind: &str, info: &str) -> bool {
    match kind {
        "Table_map" => !info.contains(BOOKKEEPING),
        "Query" if ["BEGIN", "COMMIT", "ROLLBACK"].contains(&info) => false,
        "Query" => !MAKES_BOOKKEEPING.iter().any(|statement| info.starts_with(statement)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Events<'a> = &'a [(u64, &'a str, &'a str)];

    fn found(own: &str, others: &str, files: &[(&str, Events)], from_binary_log: usize) -> Vec<Transaction> {
        let (own, others) = (own.parse().unwrap(), others.parse().unwrap());
        let mut scan = Scan::new(&own, &others);
        scan.from_binary_log = from_binary_log;
        for (file, events) in files {
            for (offset, kind, info) in *events {
                scan.push(file, &Event { offset: *offset, kind: (*kind).into(), info: (*info).into() }).unwrap();
            }
        }
        scan.close();
        scan.found
    }

    fn piece(file: &str, format: u64, first: u64, last: u64) -> Piece {
        Piece { file: file.into(), format, first, last }
    }

    #[test]
    fn what_the_other_one_lacks_is_found_with_its_place() {
        let log: Events = &[
            (4, "Format_desc", "Server ver"),
            (256, "Gtid_list", "[0-1-2]"),
            (300, "Gtid", "BEGIN GTID 0-1-3 cid=31"),
            (342, "Table_map", "table_id: 22 (d.t)"),
            (360, "Xid", "COMMIT /* xid=28 */"),
            (400, "Gtid", "BEGIN GTID 0-1-4"),
            (442, "Annotate_rows", "REPLACE INTO replication_monitoring.heartbeat"),
            (460, "Table_map", "table_id: 18 (replication_monitoring.heartbeat)"),
            (480, "Xid", "COMMIT /* xid=29 */"),
            (500, "Binlog_checkpoint", "mysql-bin.000001"),
            (540, "Gtid", "GTID 0-1-5"),
            (582, "Query", "DROP TABLE d.t"),
            (640, "Gtid", "GTID 0-1-6"),
            (680, "Query", "CREATE DATABASE IF NOT EXISTS replication_monitoring"),
            (700, "Stop", ""),
        ];

        let found = found("0-1-6", "0-1-3,0-2-9", &[("mysql-bin.000001", log)], 0);

        let gtids: Vec<_> = found.iter().map(|one| (one.gtid.as_str(), one.is_of_applications)).collect();
        assert_eq!(gtids, [("0-1-4", false), ("0-1-5", true), ("0-1-6", false)]);
        assert_eq!(found[0].pieces, [piece("mysql-bin.000001", 4, 400, 480)]);
        assert_eq!(found[1].pieces, [piece("mysql-bin.000001", 4, 540, 582)]);
    }

    #[test]
    fn a_gtid_of_mysql_is_read_too() {
        let uuid = "82ddc607-710a-404e-b1b8-a7e3ea7ec063";
        let log: Events = &[
            (4, "Format_desc", ""),
            (126, "Previous_gtids", ""),
            (157, "Gtid", &format!("SET @@SESSION.GTID_NEXT= '{uuid}:7'")),
            (234, "Query", "BEGIN"),
            (300, "Table_map", "table_id: 92 (d.t)"),
            (400, "Gtid_tagged", &format!("SET @@SESSION.GTID_NEXT= '{uuid}:shop:1'")),
        ];

        let found = found(&format!("{uuid}:1-7:shop:1"), &format!("{uuid}:1-6"), &[("mysql-bin.000001", log)], 0);

        let gtids: Vec<_> = found.into_iter().map(|one| one.gtid).collect();
        assert_eq!(gtids, [format!("{uuid}:7"), format!("{uuid}:shop:1")]);
    }

    #[test]
    fn of_a_relay_log_the_whole_transaction_counts() {
        let first: Events = &[
            (4, "Format_desc", ""),
            (300, "Gtid", "BEGIN GTID 0-1-8"),
            (342, "Table_map", "table_id: 22 (d.t)"),
            (400, "Rotate", "mysql-bin.000001;pos=4"),
        ];
        let second: Events = &[
            (4, "Format_desc", ""),
            (256, "Rotate", "mysql-bin.000001;pos=4"),
            (300, "Format_desc", ""),
            (500, "Gtid", "BEGIN GTID 0-1-8"),
            (542, "Table_map", "table_id: 22 (d.t)"),
            (600, "Rotate", "mysql-relay.000003;pos=4"),
        ];
        let third: Events = &[(4, "Format_desc", ""), (256, "Write_rows_v1", ""), (300, "Xid", "COMMIT")];
        let files = [("mysql-relay.000001", first), ("mysql-relay.000002", second), ("mysql-relay.000003", third)];

        let found = found("0-1-8", "0-1-7", &files, 0);

        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].pieces,
            [piece("mysql-relay.000002", 300, 500, 542), piece("mysql-relay.000003", 4, 256, 300)]
        );
    }
}
