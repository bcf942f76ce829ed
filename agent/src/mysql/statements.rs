//! What both families understand in the same words, and the tools that all statements are made with. All statements go over
//! the text protocol, since half of them cannot be prepared; every value that is not ours is quoted by [`literal`] or
//! [`identifier`].

use anyhow::{Context, Result};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::sessions::{kill, sessions};
use super::{Closing, Connection};

/// How the statements for a server's start begin: they are no other server's, and what is not ASCII in them is UTF-8, whatever
/// the server's own character set.
pub(super) const INIT_FILE: &str = "SET SESSION sql_log_bin=0;\nSET NAMES utf8mb4;\n";
/// How long a statement waits for a lock; the server's default is a day or a year.
const LOCK_WAIT_S: u32 = 2;
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// What every session of the agent needs: bounded lock waits, and quoting that does not depend on the server's mode.
pub(super) async fn prepare_session(connection: &mut Connection) -> Result<()> {
    run(connection, &format!("SET SESSION lock_wait_timeout={LOCK_WAIT_S}, sql_mode='', wait_timeout=28800")).await
}

pub(super) async fn version(connection: &mut Connection) -> Result<String> {
    value(connection, "SELECT @@version").await
}

pub(super) async fn is_read_only(connection: &mut Connection) -> Result<bool> {
    Ok(value(connection, "SELECT @@GLOBAL.read_only").await? != "0")
}

/// Turning a server read-only waits for running statements and commits; whoever still holds a lock after [`LOCK_WAIT_S`]
/// blocks it.
pub(super) async fn close(connection: &mut Connection, variable: &str) -> Result<Closing> {
    match run(connection, &format!("SET GLOBAL {variable}=1")).await {
        Ok(()) => Ok(Closing::Closed),
        Err(error) if code(&error) == Some(LOCK_WAIT_TIMEOUT) => Ok(Closing::Blocked),
        Err(error) => Err(error),
    }
}

pub(super) async fn open(connection: &mut Connection) -> Result<()> {
    run(connection, "SET GLOBAL read_only=0").await
}

pub(super) async fn stop_events(connection: &mut Connection) -> Result<()> {
    run(connection, "SET GLOBAL event_scheduler=OFF").await
}

/// An event that came by replication is switched off for this server, and stays so when the server becomes the leader.
/// Switching it on names the definer again, or it would become the agent's event.
pub(super) async fn start_events(connection: &mut Connection) -> Result<()> {
    let query = "SELECT EVENT_SCHEMA AS event_schema, EVENT_NAME AS event_name, DEFINER AS definer \
                 FROM information_schema.EVENTS WHERE STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED')";
    for event in rows(connection, query).await? {
        let definer = text(&event, "definer")?;
        let (user, host) = definer.rsplit_once('@').context("read the definer of an event")?;
        let (schema, name) = (identifier(&text(&event, "event_schema")?), identifier(&text(&event, "event_name")?));
        let definer = format!("{}@{}", identifier(user), identifier(host));
        run(connection, &format!("ALTER DEFINER={definer} EVENT {schema}.{name} ENABLE")).await?;
    }
    run(connection, "SET GLOBAL event_scheduler=ON").await
}

pub(super) async fn start_replication(connection: &mut Connection) -> Result<()> {
    run(connection, "START REPLICA").await
}

pub(super) async fn stop_receiving(connection: &mut Connection) -> Result<()> {
    run(connection, "STOP REPLICA IO_THREAD").await
}

pub(super) async fn stop_replication(connection: &mut Connection) -> Result<()> {
    run(connection, "STOP REPLICA").await
}

pub(super) async fn forget_replication(connection: &mut Connection) -> Result<()> {
    run(connection, "RESET REPLICA ALL").await
}

pub(super) async fn kill_sessions_of(connection: &mut Connection, user: &str) -> Result<()> {
    for session in sessions(connection).await?.iter().filter(|session| session.user == user) {
        kill(connection, session.id).await?;
    }
    Ok(())
}

pub(super) async fn run(connection: &mut Connection, statement: &str) -> Result<()> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await?;
    Ok(())
}

pub(super) async fn rows(connection: &mut Connection, query: &str) -> Result<Vec<MySqlRow>> {
    Ok(connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?)
}

/// The first column of the only row.
pub(super) async fn value(connection: &mut Connection, query: &str) -> Result<String> {
    let row = rows(connection, query).await?.pop().context("the server gave no row")?;
    Ok(row.try_get_unchecked::<Option<String>, _>(0)?.unwrap_or_default())
}

/// A column, whatever its type: the text protocol sends everything as text. NULL is empty.
pub(super) fn text(row: &MySqlRow, column: &str) -> Result<String> {
    let value = row.try_get_unchecked::<Option<String>, _>(column);
    Ok(value.with_context(|| format!("read the column {column}"))?.unwrap_or_default())
}

pub(super) fn code(error: &anyhow::Error) -> Option<u16> {
    let sqlx::Error::Database(error) = error.downcast_ref::<sqlx::Error>()? else { return None };
    error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(sqlx::mysql::MySqlDatabaseError::number)
}

/// A text as a string literal. Sessions have no NO_BACKSLASH_ESCAPES ([`prepare_session`]), nor does the init file.
pub(super) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\0', "\\0").replace('\n', "\\n"))
}

pub(super) fn identifier(name: &str) -> String {
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
}
