//! The events of a log file, as the server that wrote it reads them.

use anyhow::{Context, Result};
use futures_util::StreamExt;
use sqlx::{AssertSqlSafe, Executor};

use super::Connection;
use super::statements::text;

/// The first fields of an event.
pub(super) struct Event {
    pub(super) offset: u64,
    pub(super) kind: String,
    pub(super) info: String,
}

/// How the reading of a file ended.
pub(super) enum End {
    NoFile,
    Whole,
    /// In the middle of an event, as after a crash; what the server says of it.
    Broken(String),
}

/// Take each event of a file of `BINLOG` or `RELAYLOG`.
pub(super) async fn read(
    connection: &mut Connection,
    log: &str,
    file: &str,
    mut take: impl FnMut(&Event) -> Result<()>,
) -> Result<End> {
    let query = format!("SHOW {log} EVENTS IN '{file}'");
    let mut rows = connection.fetch(sqlx::raw_sql(AssertSqlSafe(query)));
    while let Some(row) = rows.next().await {
        let row = match row {
            Ok(row) => row,
            Err(sqlx::Error::Database(error)) if error.message().contains("Could not find target log") => {
                return Ok(End::NoFile);
            }
            Err(sqlx::Error::Database(error)) => return Ok(End::Broken(error.message().into())),
            Err(error) => return Err(error.into()),
        };
        let offset = text(&row, "Pos")?.parse().context("read an event's offset")?;
        take(&Event { offset, kind: text(&row, "Event_type")?, info: text(&row, "Info")? })?;
    }
    Ok(End::Whole)
}
