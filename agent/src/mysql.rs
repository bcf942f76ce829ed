//! Every statement that the agent ever sends to its server, as verbs, over the local socket. Each verb has a limit.
//!
//! `mysql/` is the seam for the server families: [`mariadb`] knows the statements; nothing above this file knows SQL.

mod mariadb;
mod monitoring;
mod relay_log;

use std::path::Path;
use std::time::Duration;

use agent::api::{MYSQL_PORT, Receiver, ReplicationMode};
use agent::config::Secret;
use anyhow::{Context, Result, bail};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Connection as _, MySql};

use crate::gtid::History;
use crate::report::sentence;

pub(crate) use mariadb::init_file;
pub(crate) use monitoring::{Beat, Heart};

/// The account of the agent itself.
pub(crate) const ADMIN: &str = "admin";
/// The account with which a follower logs in to its leader.
pub(crate) const REPLICATION: &str = "replication";

const CONNECTIONS: u32 = 4;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const REMOTE_LIMIT: Duration = Duration::from_secs(3);
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// A statement that must stop replication may wait for the transaction that the applier is in the middle of.
const REPLICATION_LIMIT: Duration = Duration::from_secs(60);

/// A relay log may be as large as the binary logs of an outage.
const RELAY_LOG_LIMIT: Duration = Duration::from_secs(300);

/// The server beside the agent.
#[derive(Clone)]
pub(crate) struct Database {
    pool: MySqlPool,
}

/// What the server says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) is_read_only: bool,
    /// The state of the binary log.
    pub(crate) executed: String,
    /// The position before the oldest transaction that is still in the binary log.
    pub(crate) purged: String,
    pub(crate) version: String,
    pub(crate) mode: ReplicationMode,
    pub(crate) channel: Option<Channel>,
}

/// What the server says about its replication.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) source: String,
    pub(crate) receiver: Receiver,
    pub(crate) is_applier_running: bool,
    pub(crate) received: String,
    pub(crate) seconds_behind: Option<u64>,
    /// The size of the relay log.
    pub(crate) relay_log_bytes: Option<u64>,
    pub(crate) receiver_error: String,
    pub(crate) applier_error: String,
}

impl Channel {
    /// Neither thread runs.
    pub(crate) fn is_stopped(&self) -> bool {
        self.receiver == Receiver::Stopped && !self.is_applier_running
    }
}

/// How an attempt to make the server read-only ended.
pub(crate) enum Closing {
    Closed,
    /// Something holds it up: a statement that runs, or a lock.
    Blocked,
}

impl Database {
    pub(crate) fn new(socket: &Path, password: &Secret) -> Database {
        let options = options().socket(socket).username(ADMIN).password(password.reveal());
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT_LIMIT)
            .after_connect(|connection, _| Box::pin(mariadb::prepare_session(connection)))
            .connect_lazy_with(options);
        Database { pool }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.connection().await.map(drop)
    }

    pub(crate) async fn is_writable(&self) -> Result<bool> {
        within(STATEMENT_LIMIT, "ask whether the server is read-only", async {
            mariadb::is_read_only(&mut *self.connection().await?).await.map(|read_only| !read_only)
        })
        .await
    }

    pub(crate) async fn facts(&self) -> Result<Facts> {
        within(STATEMENT_LIMIT, "ask the server for its state", async {
            mariadb::facts(&mut *self.connection().await?).await
        })
        .await
    }

    /// The last transaction of this server's history.
    pub(crate) async fn position(&self) -> Result<String> {
        within(STATEMENT_LIMIT, "ask the server for its position", async {
            mariadb::position(&mut *self.connection().await?).await
        })
        .await
    }

    /// Make the server read-only: when this returns `Closed`, every commit that was acknowledged is in the history and no
    /// application can commit another one.
    pub(crate) async fn close(&self) -> Result<Closing> {
        within(STATEMENT_LIMIT, "make the server read-only", async {
            mariadb::close(&mut *self.connection().await?).await
        })
        .await
    }

    /// Stop scheduled events, which would only fail on a read-only server.
    pub(crate) async fn stop_events(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "stop scheduled events", async {
            mariadb::stop_events(&mut *self.connection().await?).await
        })
        .await
    }

    /// Let the events of a leader run.
    pub(crate) async fn start_events(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "start scheduled events", async {
            mariadb::start_events(&mut *self.connection().await?).await
        })
        .await
    }

    /// Make the server writable.
    pub(crate) async fn open(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "make the server writable", async {
            mariadb::open(&mut *self.connection().await?).await
        })
        .await
    }

    /// Cut every session but the agent's own and replication's; says how many.
    pub(crate) async fn cut_sessions(&self) -> Result<usize> {
        within(STATEMENT_LIMIT, "cut the sessions of the applications", async {
            mariadb::cut_sessions(&mut *self.connection().await?).await
        })
        .await
    }

    /// Replicate from `source`, from where this server's history ends. What was received but not applied is forgotten: the
    /// caller knows that the source has all of it.
    pub(crate) async fn replicate_from(&self, source: std::net::IpAddr, password: &Secret) -> Result<()> {
        within(REPLICATION_LIMIT, "set up replication", async {
            mariadb::replicate_from(&mut *self.connection().await?, source, password).await
        })
        .await
    }

    /// Go on replicating after a start of the server.
    pub(crate) async fn start_replication(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "start replication", async {
            mariadb::start_replication(&mut *self.connection().await?).await
        })
        .await
    }

    /// Stop receiving. Only with the applier running: a thread that is started while both are stopped throws what was
    /// received and not applied away.
    pub(crate) async fn stop_receiving(&self) -> Result<()> {
        within(REPLICATION_LIMIT, "stop receiving", async {
            mariadb::stop_receiving(&mut *self.connection().await?).await
        })
        .await
    }

    pub(crate) async fn stop_replication(&self) -> Result<()> {
        within(REPLICATION_LIMIT, "stop replication", async {
            mariadb::stop_replication(&mut *self.connection().await?).await
        })
        .await
    }

    /// Forget the source, with everything that was received from it and not applied.
    pub(crate) async fn forget_replication(&self) -> Result<()> {
        within(REPLICATION_LIMIT, "forget the replication source", async {
            mariadb::forget_replication(&mut *self.connection().await?).await
        })
        .await
    }

    /// Wait until the applier has applied `position`; false when it has not within `limit`.
    pub(crate) async fn wait_until_applied(&self, position: &str, limit: Duration) -> Result<bool> {
        within(limit + STATEMENT_LIMIT, "wait until everything is applied", async {
            mariadb::wait_until_applied(&mut *self.connection().await?, position, limit).await
        })
        .await
    }

    /// What lies in the relay log while both threads are stopped; after a start the server itself does not say.
    pub(crate) async fn received_on_disk(&self) -> Result<History> {
        within(RELAY_LOG_LIMIT, "read the relay log", async {
            relay_log::received(&mut *self.connection().await?).await
        })
        .await
    }

    /// Have the applier apply what lies in the relay log, after a start of the server, with the source gone. Says
    /// what the last transaction is, or that there is none to apply.
    pub(crate) async fn apply_relay_log(&self) -> Result<Option<String>> {
        within(RELAY_LOG_LIMIT, "apply the relay log", async { relay_log::apply(&mut *self.connection().await?).await })
            .await
    }

    /// True when there was no user of that name before.
    pub(crate) async fn put_user(&self, name: &str, password: &str, schema: &str) -> Result<bool> {
        within(STATEMENT_LIMIT, "make the user", async {
            mariadb::put_user(&mut *self.connection().await?, name, password, schema).await
        })
        .await
    }

    /// Drop a user and cut its sessions.
    pub(crate) async fn drop_user(&self, name: &str) -> Result<()> {
        within(STATEMENT_LIMIT, "drop the user", async {
            mariadb::drop_user(&mut *self.connection().await?, name).await
        })
        .await
    }

    async fn connection(&self) -> Result<PoolConnection<MySql>> {
        self.pool.acquire().await.context("connect to the server")
    }
}

/// What a server says that is asked over the network.
pub(crate) enum Probe {
    /// Nobody takes a connection.
    Gone,
    /// Somebody does, and says nothing of use: no free connection, a frozen process, another password.
    Unclear(String),
    Says {
        is_writable: bool,
        executed: String,
    },
}

/// Ask another server, over the network and with the only account that it has for that, whether it is writable.
pub(crate) async fn probe(address: std::net::IpAddr, password: &Secret) -> Probe {
    let connected = tokio::time::timeout(REMOTE_LIMIT, tokio::net::TcpStream::connect((address, MYSQL_PORT))).await;
    if !matches!(connected, Ok(Ok(_))) {
        return Probe::Gone;
    }
    let options =
        options().host(&address.to_string()).port(MYSQL_PORT).username(REPLICATION).password(password.reveal());
    let asked = within(REMOTE_LIMIT, "ask the peer's server whether it is read-only", async {
        let mut connection = options.connect().await?;
        let is_writable = !mariadb::is_read_only(&mut connection).await?;
        let executed = mariadb::executed(&mut connection).await?;
        connection.close().await?;
        Ok(Probe::Says { is_writable, executed })
    });
    asked.await.unwrap_or_else(|error| Probe::Unclear(sentence(&error)))
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
