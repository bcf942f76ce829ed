//! Every statement that the agent ever sends to its server, as verbs, over the local socket. Each verb has a limit.
//!
//! `mysql/` is the seam for the server families: [`family`] is the catalogue of where they differ, with the files
//! [`mariadb`] and [`mysql8`]; nothing above this file knows SQL, nor which family it speaks to.

mod clone;
mod events;
mod facts;
mod family;
mod log_files;
mod mariadb;
mod monitoring;
mod mysql8;
mod own_session;
mod relay_log;
mod semi_sync;
mod sessions;
mod statements;
mod users;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::config::Secret;
use anyhow::{Context, Result, bail, ensure};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Connection as _, MySql};

use crate::gtid::History;

pub(crate) use facts::{Channel, Facts};
pub(crate) use family::{Family, LogReader};
pub(crate) use log_files::{Piece, Transaction};
pub(crate) use monitoring::{FailoverRow, Heart, Signs, SyncChange};
pub(crate) use own_session::OwnSession;
pub(crate) use semi_sync::SemiSync;
pub(crate) use sessions::{Cut, DiskFull};
pub(crate) use users::Made;

/// The account of the agent itself.
pub(crate) const ADMIN: &str = "mysql-agent";
/// The account of an operator on the VM. It may do the same, so its sessions are cut with those of the applications.
pub(crate) const OPERATOR: &str = "admin";
/// The account with which a follower logs in to its leader.
pub(crate) const REPLICATION: &str = "replication";

const CONNECTIONS: u32 = 4;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const RETURN_LIMIT: Duration = Duration::from_secs(1);
/// A session that was in use so short a time ago is not asked whether its server lives: one that ended since is not up again. Who
/// cuts the agent's own sessions waits for so long.
const IS_FRESH: Duration = Duration::from_millis(50);
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// A statement that must stop replication may wait for the transaction that the applier is in the middle of.
const REPLICATION_LIMIT: Duration = Duration::from_secs(60);

/// A relay log may be as large as the binary logs of an outage.
const RELAY_LOG_LIMIT: Duration = Duration::from_secs(300);

/// The server beside the agent.
#[derive(Clone)]
pub(crate) struct Database {
    pool: MySqlPool,
    /// Known from the first connection on.
    family: Arc<OnceLock<Family>>,
    /// The file with the names of the binary logs.
    binlog_index: Arc<Path>,
}

/// What commits do from the moment on in which the server is writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    AsTheyDid,
    /// They wait for the follower, each at most so long.
    Wait {
        timeout_ms: u64,
    },
    GoOn,
}

/// How an attempt to make the server read-only ended.
pub(crate) enum Closing {
    Closed,
    /// Something holds it up: a statement that runs, or a lock.
    Blocked,
}

impl Database {
    pub(crate) fn new(socket: &Path, data: &Path, password: &Secret) -> Database {
        let options = options().socket(socket).username(ADMIN).password(password.reveal());
        let family = Arc::new(OnceLock::new());
        let known = Arc::clone(&family);
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT_LIMIT)
            .after_connect(move |connection, _| {
                let known = Arc::clone(&known);
                Box::pin(async move {
                    let prepared = prepare_session(connection, &known).await;
                    prepared.map_err(|error| sqlx::Error::Configuration(error.into()))
                })
            })
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    match used.idle_for < IS_FRESH {
                        true => Ok(true),
                        false => connection.ping().await.map(|()| true),
                    }
                })
            })
            .after_release(|connection, _| Box::pin(ready_again(connection)))
            .connect_lazy_with(options);
        Database { pool, family, binlog_index: data.join("mysql-bin.index").into() }
    }

    /// Can the two servers be a pair? Nobody knows before the first connection, and without one nothing is done.
    pub(crate) fn check_peer(&self, version: &str) -> Result<()> {
        let Some(own) = self.family.get() else { return Ok(()) };
        let other = Family::of(version).context("the peer's server cannot be used")?;
        ensure!(
            *own == other,
            "this server is {} and the peer's is {} ({version}), and the two cannot replicate from each other; give both \
             VMs the same one",
            own.name(),
            other.name()
        );
        Ok(())
    }

    pub(crate) async fn is_writable(&self) -> Result<bool> {
        within(STATEMENT_LIMIT, "ask whether the server is read-only", async {
            statements::is_read_only(&mut *self.connection().await?).await.map(|read_only| !read_only)
        })
        .await
    }

    pub(crate) async fn facts(&self) -> Result<Facts> {
        within(STATEMENT_LIMIT, "ask the server for its state", async {
            let (family, mut connection) = self.session().await?;
            family.facts(&mut connection, &self.binlog_index).await
        })
        .await
    }

    /// The last transaction of this server's history.
    pub(crate) async fn position(&self) -> Result<String> {
        self.own_session().await?.position().await
    }

    /// Make the server read-only: when this returns `Closed`, every commit that was acknowledged is in the history and no
    /// application can commit another one.
    pub(crate) async fn close(&self) -> Result<Closing> {
        within(STATEMENT_LIMIT, "make the server read-only", async {
            let (family, mut connection) = self.session().await?;
            family.close(&mut connection).await
        })
        .await
    }

    /// Stop scheduled events, which would only fail on a read-only server.
    pub(crate) async fn stop_events(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "stop scheduled events", async {
            statements::stop_events(&mut *self.connection().await?).await
        })
        .await
    }

    /// Let the events of a leader run.
    pub(crate) async fn start_events(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "start scheduled events", async {
            statements::start_events(&mut *self.connection().await?).await
        })
        .await
    }

    /// Make a single node writable.
    pub(crate) async fn open(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "make the server writable", async {
            statements::open(&mut *self.connection().await?).await
        })
        .await
    }

    /// Cut every session but the agent's own and replication's; says how many.
    pub(crate) async fn cut_sessions(&self) -> Result<usize> {
        Ok(self.cut(Cut::Applications, 0).await?.len())
    }

    /// Replicate from `source`, from where this server's history ends. What was received but not applied is forgotten: the
    /// caller knows that the source has all of it.
    pub(crate) async fn replicate_from(&self, source: std::net::IpAddr, password: &Secret) -> Result<()> {
        within(REPLICATION_LIMIT, "set up replication", async {
            let (family, mut connection) = self.session().await?;
            family.replicate_from(&mut connection, source, password).await
        })
        .await
    }

    /// Go on replicating after a start of the server.
    pub(crate) async fn start_replication(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "start replication", async {
            statements::start_replication(&mut *self.connection().await?).await
        })
        .await
    }

    /// Stop receiving. Only with the applier running: a thread that is started while both are stopped throws what was
    /// received and not applied away.
    pub(crate) async fn stop_receiving(&self) -> Result<()> {
        within(REPLICATION_LIMIT, "stop receiving", async {
            statements::stop_receiving(&mut *self.connection().await?).await
        })
        .await
    }

    pub(crate) async fn stop_replication(&self) -> Result<()> {
        within(REPLICATION_LIMIT, "stop replication", async {
            statements::stop_replication(&mut *self.connection().await?).await
        })
        .await
    }

    /// Forget the source of replication that is stopped, with everything that was received from it and not applied.
    pub(crate) async fn forget_replication(&self) -> Result<()> {
        within(REPLICATION_LIMIT, "forget the replication source", async {
            statements::forget_replication(&mut *self.connection().await?).await
        })
        .await
    }

    /// Wait until the applier has applied `position`; false when it has not within `limit`.
    pub(crate) async fn wait_until_applied(&self, position: &str, limit: Duration) -> Result<bool> {
        self.own_session().await?.wait_until_applied(position, limit).await
    }

    /// What lies in the relay log while both threads are stopped; after a start the server itself does not say.
    pub(crate) async fn received_on_disk(&self) -> Result<History> {
        within(RELAY_LOG_LIMIT, "read the relay log", async {
            let (family, mut connection) = self.session().await?;
            family.received_on_disk(&mut connection).await
        })
        .await
    }

    /// Have the applier apply what lies in the relay log, after a start of the server, with the source gone. Says
    /// what the last transaction is, or that there is none to apply.
    pub(crate) async fn apply_relay_log(&self) -> Result<Option<String>> {
        within(RELAY_LOG_LIMIT, "apply the relay log", async {
            let (family, mut connection) = self.session().await?;
            family.apply_relay_log(&mut connection).await
        })
        .await
    }

    /// For what differs by more than statements.
    pub(crate) async fn family(&self) -> Result<Family> {
        Ok(self.session().await?.0)
    }

    /// A connection, and the family that is at its other end.
    async fn session(&self) -> Result<(Family, PoolConnection<MySql>)> {
        let connection = self.connection().await?;
        Ok((*self.family.get().context("the server's family is not known")?, connection))
    }

    async fn connection(&self) -> Result<PoolConnection<MySql>> {
        self.pool.acquire().await.context("connect to the server")
    }
}

/// Whoever had the session may have changed its limits. And a statement that was given up may still wait in the server, for an
/// acknowledgement or a lock: its session is left behind, or a few of them would use up all that the agent has, and nobody would
/// get a status any more.
async fn ready_again(connection: &mut Connection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(RETURN_LIMIT, statements::prepare_session(connection)).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) => Err(sqlx::Error::Configuration(error.into())),
        // Anything but an error would have the session ended with a farewell, which would wait as well.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

async fn prepare_session(connection: &mut Connection, known: &OnceLock<Family>) -> Result<()> {
    statements::prepare_session(connection).await?;
    if known.get().is_none() {
        let family = Family::of(&statements::version(connection).await?)?;
        // Another connection may have been quicker; it found the same.
        let _ = known.set(family);
    }
    Ok(())
}

fn options() -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new().pipes_as_concat(false).no_engine_substitution(false).timezone(None);
    // Statements hold passwords.
    options.disable_statement_logging()
}

async fn within<T>(limit: Duration, act: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.context(act),
        Err(_) => bail!("{act}: the server did not answer within {} s", limit.as_secs()),
    }
}

type Connection = MySqlConnection;
