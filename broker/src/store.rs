//! The state database: every wish that was accepted, and nothing that the director or MySQL can tell. All SQL of the
//! broker is in this folder. Statements are dialect-neutral; what is SQLite's own is in this file.

pub(crate) mod bindings;
pub(crate) mod instances;
pub(crate) mod operations;
#[cfg(test)]
mod tests;
pub(crate) mod witness_records;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use broker::osb::Object;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

/// A connection, within a transaction or not.
pub(crate) type Connection = SqliteConnection;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The state database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Open the file, make it where it is missing, and bring its schema up to date.
    pub(crate) async fn open(file: &Path) -> anyhow::Result<Store> {
        let act = || format!("open the state database {}", file.display());
        if let Some(directory) = file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(act)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        // SQLite has one writer anyway; one connection makes the queue ours and fair, and reads take microseconds.
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_with(options).await.with_context(act)?;
        sqlx::migrate!("../migrations").run(&pool).await.with_context(act)?;
        Ok(Store { pool })
    }

    /// Begin an act of several statements that sees and changes one state.
    pub(crate) async fn begin(&self) -> anyhow::Result<Transaction<'static, Sqlite>> {
        // Immediate: a transaction that reads first must not find at its first write that it is outdated.
        self.pool.begin_with("BEGIN IMMEDIATE").await.context("begin a transaction in the state database")
    }

    /// A connection for single statements.
    pub(crate) async fn connection(&self) -> anyhow::Result<sqlx::pool::PoolConnection<Sqlite>> {
        self.pool.acquire().await.context("reach the state database")
    }

    /// Write everything to the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A JSON object out of a column that only this program writes.
fn object(text: &str) -> anyhow::Result<Object> {
    serde_json::from_str(text).context("read a JSON column of the state database")
}
