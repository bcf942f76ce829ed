//! The state database: every wish that was accepted, and nothing that the director or MySQL can tell. All SQL of the
//! broker is in this folder. Statements are dialect-neutral; what differs between SQLite and PostgreSQL is in this file
//! and in `place.rs`.
//!
//! On both, *acts* (what [`Store::begin`] begins) come one after the other, those of other brokers included: an act sees
//! what the one before it left, and nothing changes under its hands but by single statements on one row, whose condition
//! is part of them. On SQLite that is what `BEGIN IMMEDIATE` means; on PostgreSQL the acts take one advisory lock. It
//! costs the acts their concurrency, a few milliseconds each, and buys that no rule has to be thought through twice.

mod act;
pub(crate) mod bindings;
mod connection;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod instances;
mod kept;
mod log;
pub(crate) mod operations;
mod place;
mod polls;
mod submission;
#[cfg(test)]
mod tests;
pub(crate) mod usage;
pub(crate) mod witness_records;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use broker::osb::Object;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor};

pub(crate) use act::Act;
pub(crate) use connection::Connection;
use connection::in_time;
use kept::Kept;
use log::Log;
pub(crate) use place::{Place, Server};
use polls::Polls;

/// How long a request waits for a connection, and so for a server that is away.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// How long connections may take to say good-bye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long the first connection may take, and then the migrations, also those of another broker.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);
/// So few that several brokers fit into a server of the default size (100).
const CONNECTIONS: u32 = 16;
/// What acts lock on PostgreSQL: a word of ours and a number, in the space of two keys, which migrations do not use.
const TURN: &str = "SELECT pg_advisory_xact_lock(1952542308, 1)";

/// The state database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    File {
        connection: Kept,
        log: Arc<Log>,
        polls: Arc<Polls>,
    },
    /// It brings every commit to its disk itself.
    Server(AnyPool),
}

impl Store {
    /// Open it, make it where it is a file that is missing, and bring its schema up to date.
    pub(crate) async fn open(place: &Place) -> anyhow::Result<Store> {
        let act = || format!("open the state database {place}");
        sqlx::any::install_default_drivers();
        let options = place.options().with_context(act)?;
        // Not from the pool, which goes on trying and then says only that it had no time.
        let connected = tokio::time::timeout(CONNECT_LIMIT, AnyConnection::connect_with(&options)).await;
        let first =
            connected.map_err(|_| sqlx::Error::PoolTimedOut).and_then(|connected| connected).with_context(act)?;
        let prepared = tokio::time::timeout(MIGRATION_LIMIT, prepare(first, place)).await;
        prepared.context("wait for the migrations").and_then(|prepared| prepared).with_context(act)?;
        Ok(Store::at(place, options))
    }

    /// One that is ready; nobody connects yet.
    fn at(place: &Place, options: AnyConnectOptions) -> Store {
        let source = match place {
            Place::File(file) => {
                let connection = Kept::new(options, place.settings());
                Source::File { connection, log: Arc::new(Log::of(file)), polls: Arc::default() }
            }
            Place::Server(_) => Source::Server(pool(place, options)),
        };
        Store { source }
    }

    /// Other brokers may work with it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.source, Source::Server(_))
    }

    /// Begin an act of several statements that sees and changes one state.
    pub(crate) async fn begin(&self) -> anyhow::Result<Act> {
        let act = "begin a transaction in the state database";
        match &self.source {
            Source::File { connection, log, .. } => {
                let tx = Connection::Kept(connection.begin().await.context(act)?);
                Ok(Act::new(tx, Some(Arc::clone(log))))
            }
            Source::Server(pool) => {
                let mut tx = Connection::Act(in_time(pool.begin()).await.context(act)?);
                tx.execute(TURN).await.context("wait for the other transactions in the state database")?;
                Ok(Act::new(tx, None))
            }
        }
    }

    /// Everything that could have been read until now stays, whatever happens to the machine: to be waited for before
    /// somebody is told of it.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        match &self.source {
            Source::File { log, .. } => log.settle().await,
            Source::Server(_) => Ok(()),
        }
    }

    /// A connection for single statements. What they write outlasts this program, but not the machine.
    pub(crate) async fn connection(&self) -> anyhow::Result<Connection> {
        let act = "reach the state database";
        Ok(match &self.source {
            Source::File { connection, .. } => Connection::Kept(connection.hold().await.context(act)?),
            Source::Server(pool) => Connection::Single(pool.acquire().await.context(act)?),
        })
    }

    /// Write everything to the file.
    pub(crate) async fn close(&self) {
        let closed = async {
            match &self.source {
                Source::File { connection, .. } => connection.close().await,
                Source::Server(pool) => {
                    pool.close().await;
                    Ok(())
                }
            }
        };
        match tokio::time::timeout(CLOSE_LIMIT, closed).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => tracing::warn!("connections to the state database were cut"),
        }
    }
}

/// What the whole database needs once. Two brokers that start together wait for each other (the migrations take a lock).
async fn prepare(mut first: AnyConnection, place: &Place) -> anyhow::Result<()> {
    first.execute(place.settings()).await?;
    if place.is_shared() {
        // Migrations, and the wait for another broker's, may take longer than a request's statement.
        first.execute("SET statement_timeout = 0; SET lock_timeout = 0").await?;
    }
    if let Place::File(_) = place {
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut first).await?;
        ensure!(mode == "wal", "the file system must support SQLite's write-ahead log; the journal is `{mode}`");
    }
    sqlx::migrate!("../migrations").run(&mut first).await?;
    first.close().await?;
    Ok(())
}

fn pool(place: &Place, options: AnyConnectOptions) -> AnyPool {
    let pool = sqlx::any::AnyPoolOptions::new().acquire_timeout(ACQUIRE_LIMIT);
    let settings = place.settings();
    pool.max_connections(CONNECTIONS)
        .after_connect(move |connection, _| Box::pin(async move { connection.execute(settings).await.map(drop) }))
        // The pool itself waits without end for the last word of a connection that comes back to it.
        .after_release(|connection, _| Box::pin(async { in_time(connection.ping()).await.map(|()| true) }))
        .connect_lazy_with(options)
}

/// The state database is away for now: nothing is wrong with what was asked.
pub(crate) fn is_away(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>());
    causes.into_iter().any(|cause| match cause {
        // Protocol: a server that ends, or is not there behind its proxy, may say half a word.
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connections (08), resources (53), time limits (25P03, 55P03, 57014), a server that stops or starts (57P0x).
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57P0"].iter().any(|class| code.starts_with(class))
                || ["25P03", "55P03", "57014"].contains(&&*code)
        }),
        _ => false,
    })
}

/// A JSON object out of a column that only this program writes.
fn object(text: &str) -> anyhow::Result<Object> {
    serde_json::from_str(text).context("read a JSON column of the state database")
}
