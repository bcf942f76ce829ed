//! What only MariaDB does so. Its history is the last transaction of each server that ever led; its applier's own record is
//! `gtid_slave_pos`, and its user accounts are rows of `mysql.global_priv`.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent::api::MYSQL_PORT;
use agent::config::Secret;
use anyhow::{Context, Result, bail};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::statements::{
    INIT_FILE, code, forget_replication, literal, rows, run, start_replication, stop_replication, text, value,
};
use super::{ADMIN, Connection, OPERATOR, REPLICATION};
use crate::gtid::History;

const NO_MASTER_INFO: u16 = 1201;
const INDEX_LOOKS: usize = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// See [`super::Family::init_file`].
pub(super) fn init_file(admin: &Secret, replication: Option<&Secret>, copied: Option<&History>) -> String {
    let mut text = String::from(INIT_FILE);
    text.push_str("DELETE FROM mysql.global_priv WHERE User IN ('', 'root', 'mysql');\n");
    text.push_str("DELETE FROM mysql.proxies_priv;\nFLUSH PRIVILEGES;\n");
    let mut account = |user: &str, host: &str, password: &Secret, privileges: &str, options: &str| {
        let (name, password) = (format!("'{user}'@'{host}'"), literal(password.reveal()));
        let _ = writeln!(
            text,
            "CREATE OR REPLACE USER {name} IDENTIFIED BY {password};\nGRANT {privileges} ON *.* TO {name} {options};"
        );
    };
    for user in [ADMIN, OPERATOR] {
        account(user, "localhost", admin, "ALL PRIVILEGES", "WITH GRANT OPTION");
    }
    if let Some(password) = replication {
        account(REPLICATION, "%", password, "REPLICATION SLAVE", "");
    }
    if let Some(history) = copied {
        let _ = writeln!(text, "RESET MASTER;\nSET GLOBAL gtid_binlog_state='{}';", history.in_order());
        text.push_str("SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_binlog_pos;\n");
    }
    text
}

pub(super) async fn position(connection: &mut Connection) -> Result<String> {
    value(connection, "SELECT @@GLOBAL.gtid_binlog_pos").await
}

/// The question for what goes into [`super::Facts`] beside the channel. The oldest binary log is read from the file that lists
/// them: `SHOW BINARY LOGS` waits for the commits that wait for the follower, and so would everybody who asks for a status.
pub(super) async fn history_query(binlog_index: &Path) -> Result<String> {
    let oldest = oldest_binlog(binlog_index).await?;
    Ok(format!(
        "SELECT @@GLOBAL.read_only AS read_only, @@GLOBAL.gtid_binlog_state AS executed, @@version AS version, \
         COALESCE(BINLOG_GTID_POS({}, 4), '') AS purged, '' AS pending",
        literal(&oldest)
    ))
}

async fn oldest_binlog(index: &Path) -> Result<String> {
    for _ in 0..INDEX_LOOKS {
        let text = tokio::fs::read_to_string(index).await.with_context(|| format!("read {}", index.display()))?;
        // While logs are purged the list may be empty for a moment.
        if let Some(line) = text.lines().next() {
            return Ok(line.trim_start_matches("./").to_owned());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!("{} names no binary log", index.display())
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
    agree_on_position(connection).await?;
    let change = format!(
        "CHANGE MASTER TO MASTER_HOST='{source}', MASTER_PORT={MYSQL_PORT}, MASTER_USER='{REPLICATION}', MASTER_PASSWORD={}, \
         MASTER_USE_GTID=current_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1",
        literal(password.reveal())
    );
    run(connection, &change).await?;
    start_replication(connection).await
}

/// Replication goes on where the binary log ends, which holds everything executed, written here or received
/// (`log_slave_updates`). The server's own idea is what it received, by a table, and what it wrote itself since
/// (`current_pos`); that is less where it was killed between a statement and its row in the table. To set it has the table
/// made anew, and a server that is killed while InnoDB makes a file may not start again (MDEV-40728), so it is set only then.
async fn agree_on_position(connection: &mut Connection) -> Result<()> {
    let query = "SELECT @@GLOBAL.gtid_binlog_pos AS executed, @@GLOBAL.gtid_current_pos AS current";
    let row = rows(connection, query).await?.pop().context("the server gave no row")?;
    let [executed, current] = [text(&row, "executed")?, text(&row, "current")?];
    if executed.parse::<History>()? == current.parse()? {
        return Ok(());
    }
    run(connection, "SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_binlog_pos").await
}

/// The server's own wait is for what it received; what it wrote itself before that never comes.
pub(super) async fn wait_until_applied(connection: &mut Connection, position: &str, limit: Duration) -> Result<bool> {
    let current: History = value(connection, "SELECT @@GLOBAL.gtid_current_pos").await?.parse()?;
    if current.contains(&position.parse()?) {
        return Ok(true);
    }
    let query = format!("SELECT MASTER_GTID_WAIT({}, {:.3})", literal(position), limit.as_secs_f64());
    Ok(value(connection, &query).await? == "0")
}

/// As a hash, since the server writes the statement into its binary log as it is.
pub(super) fn identified_by(password: &str) -> String {
    format!("IDENTIFIED BY PASSWORD {}", literal(&password_hash(password)))
}

/// What the server would store (`mysql_native_password`).
fn password_hash(password: &str) -> String {
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    twice.as_ref().iter().fold("*".to_owned(), |text, byte| text + &format!("{byte:02X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_the_server_does() {
        // SELECT PASSWORD('mypass'), in the manual's page on that function.
        assert_eq!(password_hash("mypass"), "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4");
    }

    #[test]
    fn a_start_logs_nothing_and_leaves_nobody_without_a_password() {
        let secret = |text: &str| serde_json::from_value::<Secret>(text.into()).unwrap();

        let file = init_file(&secret("a"), Some(&secret("r")), Some(&"0-1-4,0-2-5".parse().unwrap()));

        assert!(file.starts_with("SET SESSION sql_log_bin=0;\nSET NAMES utf8mb4;\nDELETE FROM mysql.global_priv"));
        assert!(file.contains("GRANT REPLICATION SLAVE ON *.* TO 'replication'@'%'"));
        assert!(file.contains("SET GLOBAL gtid_binlog_state='0-1-4,0-2-5';"));
        assert!(!init_file(&secret("a"), None, None).contains("replication"));
    }
}
