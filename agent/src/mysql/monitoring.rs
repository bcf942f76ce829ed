//! The database `replication_monitoring`, which the leader of a pair writes and replication carries to the follower. Plain
//! SQL that both server families take.
//!
//! | table | what it holds |
//! | --- | --- |
//! | `heartbeat` | one row for each server: when it last wrote as the leader, in UTC, and under which epoch |
//! | `failovers` | one row for each promotion of a follower: when, in UTC, in whose place, by whom it was asked for, and why |
//! | `sync_changes` | one row for each time that a command switched the wait for the follower off or on again, and why, in UTC |
//! | `leadership` | one row for each epoch, the first transaction of it: who led since when, in UTC |

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use super::statements::literal;
use super::{Connection, Database, Family, STATEMENT_LIMIT, within};

const BAD_DATABASE: u16 = 1049;
const NO_SUCH_TABLE: u16 = 1146;
const READ_ONLY: u16 = 1290;

/// Made before the first leader is opened, so that nobody makes a table on a server that turns read-only, or whose commits wait.
/// The heartbeat is the reference's table and an epoch; `timestamp` is what its dashboards read. Where there is a table of the
/// leadership, there are all.
const MAKE_TABLES: [&str; 5] = [
    "CREATE DATABASE IF NOT EXISTS replication_monitoring",
    "CREATE TABLE IF NOT EXISTS replication_monitoring.heartbeat (server_id INT UNSIGNED NOT NULL PRIMARY KEY, \
     ts TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), epoch BIGINT UNSIGNED NOT NULL DEFAULT 0, \
     `timestamp` TIMESTAMP AS (ts) VIRTUAL) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS replication_monitoring.failovers (`at` DATETIME(6) NOT NULL, \
     epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, `from` VARCHAR(255) NOT NULL, `to` VARCHAR(255) NOT NULL, \
     kind VARCHAR(16) NOT NULL, why TEXT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS replication_monitoring.sync_changes (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
     at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), epoch BIGINT UNSIGNED NOT NULL, what VARCHAR(16) NOT NULL, \
     why VARCHAR(255) NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS replication_monitoring.leadership (epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, \
     leader VARCHAR(255) NOT NULL, since TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) ENGINE=InnoDB",
];

/// How long ago each failover was that nobody asked for, behind the last one that somebody did.
const FAILOVERS: &str = "SELECT CAST(TIMESTAMPDIFF(SECOND, `at`, UTC_TIMESTAMP(6)) AS CHAR) \
     FROM replication_monitoring.failovers WHERE kind='automatic' AND `at` > UTC_TIMESTAMP(6) - INTERVAL 1 DAY \
     AND epoch > (SELECT COALESCE(MAX(epoch), 0) FROM replication_monitoring.failovers WHERE kind<>'automatic')";

/// What a command did with the wait for the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncChange {
    Degraded,
    Restored,
}

impl SyncChange {
    fn word(self) -> &'static str {
        match self {
            SyncChange::Degraded => "degraded",
            SyncChange::Restored => "restored",
        }
    }
}

/// The row that says most of the present leader. A lower epoch is an earlier leader's, whatever its clock said.
const AGE: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) - UNIX_TIMESTAMP(ts) AS CHAR), CAST(epoch AS CHAR) \
                   FROM replication_monitoring.heartbeat ORDER BY epoch DESC, ts DESC LIMIT 1";

/// A heartbeat that waits for a lock gives up before the next one is due.
const PREPARE: &str = "SET SESSION lock_wait_timeout=1, innodb_lock_wait_timeout=1";

/// A promotion of a follower.
pub(crate) struct FailoverRow {
    pub(crate) epoch: u64,
    pub(crate) from: String,
    pub(crate) to: String,
    /// `manual`, `forced`, `planned` or `automatic`.
    pub(crate) kind: &'static str,
    pub(crate) why: String,
}

/// What a follower has of its leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signs {
    pub(crate) heartbeat_age_s: Option<f64>,
    pub(crate) heartbeat_epoch: Option<u64>,
    /// How long ago each automatic failover was that no operator has followed up.
    pub(crate) failovers: Vec<Duration>,
}

/// A session for one purpose alone, as the heartbeat: one that is stuck holds up nothing else of the agent.
pub(crate) struct Heart(Connection);

impl Heart {
    /// Write the heartbeat unless the server is read-only, which the agent's account would not be stopped by. The server
    /// decides that itself, under the lock that turning read-only waits for, so no heartbeat can slip in behind it.
    pub(crate) async fn beat(&mut self, epoch: u64) -> Result<()> {
        let statement = format!(
            "REPLACE INTO replication_monitoring.heartbeat (server_id, ts, epoch) \
             SELECT @@GLOBAL.server_id, NOW(6), {epoch} FROM DUAL WHERE @@GLOBAL.read_only=0"
        );
        match self.0.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await {
            Ok(_) => Ok(()),
            // MySQL's super_read_only stops this account as well.
            Err(error) if code(&error) == Some(READ_ONLY) => Ok(()),
            Err(error) => Err(error).context("write the heartbeat"),
        }
    }

    /// Does the server answer?
    pub(crate) async fn ping(&mut self) -> Result<()> {
        sqlx::Connection::ping(&mut self.0).await.context("ping the server")
    }

    /// Write why this server leads, unless it turned read-only since. One row for each epoch.
    pub(crate) async fn record_failover(&mut self, row: &FailoverRow) -> Result<()> {
        let FailoverRow { epoch, from, to, kind, why } = row;
        let statement = format!(
            "INSERT IGNORE INTO replication_monitoring.failovers (`at`, epoch, `from`, `to`, kind, why) \
             SELECT UTC_TIMESTAMP(6), {epoch}, {}, {}, {}, {} FROM DUAL WHERE @@GLOBAL.read_only=0",
            literal(from),
            literal(to),
            literal(kind),
            literal(why)
        );
        let written = self.0.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await;
        written.map(drop).context("write why this server leads")
    }
}

impl Database {
    pub(crate) async fn heart(&self, limit: Duration) -> Result<Heart> {
        within(limit, "connect to the server for the heartbeat", async {
            let mut connection = self.pool.connect_options().connect().await?;
            connection.execute(PREPARE).await?;
            Ok(Heart(connection))
        })
        .await
    }

    /// What the server counts and how it is set, by the names in lower case.
    pub(crate) async fn figures(&self) -> Result<HashMap<String, String>> {
        within(STATEMENT_LIMIT, "ask the server for its figures", async {
            let mut connection = self.connection().await?;
            let mut figures = HashMap::new();
            for query in ["SHOW GLOBAL STATUS", "SHOW GLOBAL VARIABLES"] {
                for row in connection.fetch_all(sqlx::raw_sql(query)).await? {
                    let column = |index| row.try_get_unchecked::<Option<String>, usize>(index);
                    let (name, value) = (column(0)?.unwrap_or_default(), column(1)?.unwrap_or_default());
                    figures.insert(name.to_ascii_lowercase(), value);
                }
            }
            Ok(figures)
        })
        .await
    }

    /// Write down that the wait for the follower was switched off, or on again.
    pub(crate) async fn write_sync_change(&self, epoch: u64, change: SyncChange, why: &str) -> Result<()> {
        within(STATEMENT_LIMIT, "write down the change of synchronous replication", async {
            let mut connection = self.connection().await?;
            let statement = format!(
                "INSERT INTO replication_monitoring.sync_changes (at, epoch, what, why) VALUES (UTC_TIMESTAMP(6), {epoch}, '{}', {})",
                change.word(),
                literal(why)
            );
            connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
            Ok(())
        })
        .await
    }

    /// How old the last heartbeat is that came here; none when none ever did.
    pub(crate) async fn seconds_since_leader_heartbeat(&self) -> Result<Option<f64>> {
        within(STATEMENT_LIMIT, "read the heartbeat", async {
            Ok(last_heartbeat(&mut *self.connection().await?).await?.map(|(age_s, _)| age_s))
        })
        .await
    }

    /// What this follower has of its leader.
    pub(crate) async fn leader_signs(&self) -> Result<Signs> {
        within(STATEMENT_LIMIT, "read the signs of the leader", async {
            let mut connection = self.connection().await?;
            let heartbeat = last_heartbeat(&mut connection).await?;
            let failovers = match connection.fetch_all(sqlx::raw_sql(FAILOVERS)).await {
                Err(error) if is_missing(&error) => Vec::new(),
                rows => rows?,
            };
            let ages = failovers.iter().map(|row| {
                let age: i64 = row.try_get_unchecked::<String, _>(0)?.parse()?;
                // A row of the future is a clock that was set.
                anyhow::Ok(Duration::from_secs(u64::try_from(age).unwrap_or_default()))
            });
            Ok(Signs {
                heartbeat_age_s: heartbeat.map(|(age_s, _)| age_s),
                heartbeat_epoch: heartbeat.map(|(_, epoch)| epoch),
                failovers: ages.collect::<Result<_>>()?,
            })
        })
        .await
    }
}

impl Family {
    /// Write an epoch into the history, before the server is opened for anybody else. One that is there stays as it is.
    pub(super) async fn write_leadership(self, connection: &mut Connection, epoch: u64, leader: &str) -> Result<()> {
        // Together, since each way to the server and back is outage.
        let statement = format!(
            "{}INSERT IGNORE INTO replication_monitoring.leadership (epoch, leader, since) VALUES ({epoch}, {}, UTC_TIMESTAMP(6))",
            self.let_the_agent_write(),
            literal(leader)
        );
        match connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.clone()))).await {
            Err(error) if is_missing(&error) => {
                for statement in MAKE_TABLES {
                    connection.execute(statement).await?;
                }
                connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(drop)
            }
            done => done.map(drop),
        }
        .context("write the epoch of this leadership")
    }
}

/// Its age in seconds, and its epoch.
async fn last_heartbeat(connection: &mut Connection) -> Result<Option<(f64, u64)>> {
    let row = match connection.fetch_optional(sqlx::raw_sql(AGE)).await {
        Err(error) if is_missing(&error) => return Ok(None),
        row => row?,
    };
    let Some(row) = row else { return Ok(None) };
    let (age, epoch) = (row.try_get_unchecked::<String, _>(0)?, row.try_get_unchecked::<String, _>(1)?);
    Ok(Some((age.parse()?, epoch.parse()?)))
}

fn is_missing(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(BAD_DATABASE | NO_SUCH_TABLE))
}

fn code(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}
