//! MariaDB's statements. All go over the text protocol, since half of them cannot be prepared; every value that is not
//! ours is quoted by [`literal`] or [`identifier`].

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use agent::api::{MYSQL_PORT, Receiver, ReplicationMode};
use agent::config::Secret;
use anyhow::{Context, Result};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{ADMIN, Channel, Closing, Connection, Facts, REPLICATION};
use crate::gtid::History;

/// How long a statement waits for a lock; the server's default is a day.
const LOCK_WAIT_S: u32 = 2;
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const NO_SUCH_THREAD: u16 = 1094;
const NO_MASTER_INFO: u16 = 1201;

/// The statements that the server runs at each start, before it takes a connection: the accounts, which are each
/// server's own and so in nobody's history, and after a physical copy the history that the copy holds.
pub(crate) fn init_file(admin: &Secret, replication: Option<&Secret>, copied: Option<&History>) -> String {
    let mut text = String::from("SET SESSION sql_log_bin=0;\n");
    text.push_str("DELETE FROM mysql.global_priv WHERE User IN ('', 'root', 'mysql');\n");
    text.push_str("DELETE FROM mysql.proxies_priv;\nFLUSH PRIVILEGES;\n");
    let mut account = |user: &str, host: &str, password: &Secret, privileges: &str, options: &str| {
        let (name, password) = (format!("'{user}'@'{host}'"), literal(password.reveal()));
        let _ = writeln!(
            text,
            "CREATE OR REPLACE USER {name} IDENTIFIED BY {password};\nGRANT {privileges} ON *.* TO {name} {options};"
        );
    };
    account(ADMIN, "localhost", admin, "ALL PRIVILEGES", "WITH GRANT OPTION");
    if let Some(password) = replication {
        account(REPLICATION, "%", password, "REPLICATION SLAVE", "");
    }
    if let Some(history) = copied {
        let _ = writeln!(text, "RESET MASTER;\nSET GLOBAL gtid_binlog_state='{}';", history.in_order());
        text.push_str("SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_binlog_pos;\n");
    }
    text
}

/// What every session of the agent needs: bounded lock waits, and quoting that does not depend on the server's mode.
pub(super) async fn prepare_session(connection: &mut Connection) -> sqlx::Result<()> {
    let text = format!("SET SESSION lock_wait_timeout={LOCK_WAIT_S}, sql_mode='', wait_timeout=28800");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.map(drop)
}

pub(super) async fn is_read_only(connection: &mut Connection) -> Result<bool> {
    Ok(value(connection, "SELECT @@GLOBAL.read_only").await? != "0")
}

/// The state of the binary log.
pub(super) async fn executed(connection: &mut Connection) -> Result<String> {
    value(connection, "SELECT @@GLOBAL.gtid_binlog_state").await
}

pub(super) async fn position(connection: &mut Connection) -> Result<String> {
    value(connection, "SELECT @@GLOBAL.gtid_binlog_pos").await
}

pub(super) async fn facts(connection: &mut Connection) -> Result<Facts> {
    let logs = rows(connection, "SHOW BINARY LOGS").await?;
    let oldest = logs.first().map(|row| text(row, "Log_name")).transpose()?.unwrap_or_default();
    let query = format!(
        "SELECT @@GLOBAL.read_only AS read_only, @@GLOBAL.gtid_binlog_state AS executed, @@version AS version, \
         COALESCE(BINLOG_GTID_POS({}, 4), '') AS purged, (SELECT COUNT(*) FROM information_schema.GLOBAL_STATUS WHERE \
         VARIABLE_NAME IN ('RPL_SEMI_SYNC_MASTER_STATUS', 'RPL_SEMI_SYNC_SLAVE_STATUS') AND VARIABLE_VALUE='ON') AS semisync",
        literal(&oldest)
    );
    // The channel first: what is received later than it was read must not look as if it were missing from the history.
    let channel = channel(connection).await?;
    let row = rows(connection, &query).await?.pop().context("the server gave no row")?;
    Ok(Facts {
        is_read_only: text(&row, "read_only")? != "0",
        executed: text(&row, "executed")?,
        purged: text(&row, "purged")?,
        version: text(&row, "version")?,
        mode: if text(&row, "semisync")? == "0" { ReplicationMode::Async } else { ReplicationMode::Semisync },
        channel,
    })
}

async fn channel(connection: &mut Connection) -> Result<Option<Channel>> {
    let Some(row) = rows(connection, "SHOW SLAVE STATUS").await?.pop() else { return Ok(None) };
    let receiver = match text(&row, "Slave_IO_Running")?.as_str() {
        "Yes" => Receiver::Connected,
        "No" => Receiver::Stopped,
        _ => Receiver::Connecting,
    };
    let is_applier_running = text(&row, "Slave_SQL_Running")? == "Yes";
    Ok(Some(Channel {
        source: text(&row, "Master_Host")?,
        receiver,
        is_applier_running,
        received: text(&row, "Gtid_IO_Pos")?,
        seconds_behind: text(&row, "Seconds_Behind_Master")?.parse().ok(),
        relay_log_bytes: text(&row, "Relay_Log_Space")?.parse().ok(),
        receiver_error: text(&row, "Last_IO_Error")?,
        applier_error: text(&row, "Last_SQL_Error")?,
    }))
}

/// `read_only=1` waits for running statements and commits; whoever still holds a lock after [`LOCK_WAIT_S`] blocks it.
pub(super) async fn close(connection: &mut Connection) -> Result<Closing> {
    match run(connection, "SET GLOBAL read_only=1").await {
        Ok(()) => {}
        Err(error) if code(&error) == Some(LOCK_WAIT_TIMEOUT) => return Ok(Closing::Blocked),
        Err(error) => return Err(error),
    }
    Ok(Closing::Closed)
}

pub(super) async fn stop_events(connection: &mut Connection) -> Result<()> {
    run(connection, "SET GLOBAL event_scheduler=OFF").await
}

pub(super) async fn open(connection: &mut Connection) -> Result<()> {
    run(connection, "SET GLOBAL read_only=0").await
}

/// An event that came by replication is switched off for this server, and stays so when the server becomes the leader.
/// Switching it on names the definer again, or it would become the agent's event.
pub(super) async fn start_events(connection: &mut Connection) -> Result<()> {
    let query =
        "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE STATUS='SLAVESIDE_DISABLED'";
    for event in rows(connection, query).await? {
        let definer = text(&event, "DEFINER")?;
        let (user, host) = definer.rsplit_once('@').context("read the definer of an event")?;
        let (schema, name) = (identifier(&text(&event, "EVENT_SCHEMA")?), identifier(&text(&event, "EVENT_NAME")?));
        let definer = format!("{}@{}", identifier(user), identifier(host));
        run(connection, &format!("ALTER DEFINER={definer} EVENT {schema}.{name} ENABLE")).await?;
    }
    run(connection, "SET GLOBAL event_scheduler=ON").await
}

pub(super) async fn cut_sessions(connection: &mut Connection) -> Result<usize> {
    let query = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER NOT IN ('{ADMIN}', '{REPLICATION}', 'system user', 'event_scheduler')"
    );
    kill(connection, &query).await
}

pub(super) async fn replicate_from(connection: &mut Connection, source: IpAddr, password: &Secret) -> Result<()> {
    match point_to(connection, source, password).await {
        // A crash tore the file with the source's name, and the server refuses every statement about it but this one.
        Err(error) if code(&error) == Some(NO_MASTER_INFO) => {
            tracing::warn!("the server cannot read its replication settings after a crash; they are made anew");
            forget_replication(connection).await?;
            point_to(connection, source, password).await
        }
        done => done,
    }
}

async fn point_to(connection: &mut Connection, source: IpAddr, password: &Secret) -> Result<()> {
    stop_replication(connection).await?;
    // With log_slave_updates the binary log holds everything executed, written here or received.
    run(connection, "SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_binlog_pos").await?;
    let change = format!(
        "CHANGE MASTER TO MASTER_HOST='{source}', MASTER_PORT={MYSQL_PORT}, MASTER_USER='{REPLICATION}', MASTER_PASSWORD={}, \
         MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1",
        literal(password.reveal())
    );
    run(connection, &change).await?;
    start_replication(connection).await
}

pub(super) async fn start_replication(connection: &mut Connection) -> Result<()> {
    run(connection, "START SLAVE").await
}

pub(super) async fn stop_receiving(connection: &mut Connection) -> Result<()> {
    run(connection, "STOP SLAVE IO_THREAD").await
}

pub(super) async fn stop_replication(connection: &mut Connection) -> Result<()> {
    run(connection, "STOP SLAVE").await
}

pub(super) async fn forget_replication(connection: &mut Connection) -> Result<()> {
    run(connection, "RESET SLAVE ALL").await
}

pub(super) async fn wait_until_applied(connection: &mut Connection, position: &str, limit: Duration) -> Result<bool> {
    let query = format!("SELECT MASTER_GTID_WAIT({}, {:.3})", literal(position), limit.as_secs_f64());
    Ok(value(connection, &query).await? == "0")
}

pub(super) async fn put_user(connection: &mut Connection, name: &str, password: &str, schema: &str) -> Result<bool> {
    let count = format!("SELECT COUNT(*) FROM mysql.global_priv WHERE User={} AND Host='%'", literal(name));
    let is_new = value(connection, &count).await? == "0";
    let (user, password) = (literal(name), literal(&password_hash(password)));
    run(connection, &format!("CREATE DATABASE IF NOT EXISTS {}", identifier(schema))).await?;
    run(connection, &format!("CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY PASSWORD {password}")).await?;
    if !is_new {
        run(connection, &format!("ALTER USER {user}@'%' IDENTIFIED BY PASSWORD {password}")).await?;
    }
    // In a GRANT the name of the schema is a pattern.
    let pattern = identifier(&schema.replace('_', "\\_"));
    run(connection, &format!("GRANT ALL PRIVILEGES ON {pattern}.* TO {user}@'%'")).await?;
    Ok(is_new)
}

/// A dropped user's sessions go on; they are cut as well, or unbinding would not take effect until they end.
pub(super) async fn drop_user(connection: &mut Connection, name: &str) -> Result<()> {
    run(connection, &format!("DROP USER IF EXISTS {}@'%'", literal(name))).await?;
    kill(connection, &format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER={}", literal(name)))
        .await
        .map(drop)
}

/// What the server would store (`mysql_native_password`). Statements lie in the binary log of both servers, and in every
/// backup; the password itself must not.
fn password_hash(password: &str) -> String {
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    twice.as_ref().iter().fold("*".to_owned(), |text, byte| text + &format!("{byte:02X}"))
}

async fn kill(connection: &mut Connection, query: &str) -> Result<usize> {
    let sessions = rows(connection, query).await?;
    for session in &sessions {
        match run(connection, &format!("KILL CONNECTION {}", text(session, "ID")?)).await {
            // It ended by itself in between.
            Err(error) if code(&error) == Some(NO_SUCH_THREAD) => {}
            done => done?,
        }
    }
    Ok(sessions.len())
}

pub(super) async fn run(connection: &mut Connection, statement: &str) -> Result<()> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await?;
    Ok(())
}

pub(super) async fn rows(connection: &mut Connection, query: &str) -> Result<Vec<MySqlRow>> {
    Ok(connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?)
}

/// The first column of the only row.
async fn value(connection: &mut Connection, query: &str) -> Result<String> {
    let row = rows(connection, query).await?.pop().context("the server gave no row")?;
    Ok(row.try_get_unchecked::<Option<String>, _>(0)?.unwrap_or_default())
}

/// A column, whatever its type: the text protocol sends everything as text. NULL is empty.
pub(super) fn text(row: &MySqlRow, column: &str) -> Result<String> {
    let value = row.try_get_unchecked::<Option<String>, _>(column);
    Ok(value.with_context(|| format!("read the column {column}"))?.unwrap_or_default())
}

fn code(error: &anyhow::Error) -> Option<u16> {
    let sqlx::Error::Database(error) = error.downcast_ref::<sqlx::Error>()? else { return None };
    error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(sqlx::mysql::MySqlDatabaseError::number)
}

/// A text as a string literal. Sessions have no NO_BACKSLASH_ESCAPES ([`prepare_session`]), nor does the init file.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\0', "\\0").replace('\n', "\\n"))
}

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_quotes() {
        for (value, quoted) in [
            ("plain", "'plain'"),
            ("o'clock", "'o''clock'"),
            (r"a\' OR 1", r"'a\\'' OR 1'"),
            ("two\nlines", r"'two\nlines'"),
        ] {
            assert_eq!(literal(value), quoted);
        }
        assert_eq!(identifier("a`b"), "`a``b`");
    }

    #[test]
    fn a_password_is_hashed_as_the_server_does() {
        // SELECT PASSWORD('mypass'), in the manual's page on that function.
        assert_eq!(password_hash("mypass"), "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4");
    }

    #[test]
    fn a_start_logs_nothing_and_leaves_nobody_without_a_password() {
        let secret = |text: &str| serde_json::from_value::<Secret>(text.into()).unwrap();

        let file = init_file(&secret("a"), Some(&secret("r")), Some(&"0-1-4,0-2-5".parse().unwrap()));

        assert!(file.starts_with("SET SESSION sql_log_bin=0;\nDELETE FROM mysql.global_priv"));
        assert!(file.contains("GRANT REPLICATION SLAVE ON *.* TO 'replication'@'%'"));
        assert!(file.contains("SET GLOBAL gtid_binlog_state='0-1-4,0-2-5';"));
        assert!(!init_file(&secret("a"), None, None).contains("replication"));
    }
}
