//! What only MySQL does so, from 8.4 on. Its history is a set of transaction ids; what it received and did not apply stays
//! in the relay log over a restart (`relay_log_recovery=OFF`), and it knows it, until the channel is defined anew.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use agent::api::MYSQL_PORT;
use agent::config::Secret;
use anyhow::{Context, Result, ensure};

use super::statements::{INIT_FILE, literal, rows, run, start_replication, stop_replication, text, value};
use super::{ADMIN, Connection, OPERATOR, REPLICATION};
use crate::gtid::History;

/// The server keeps no longer one for its receiver.
const REPLICATION_PASSWORD_LIMIT: usize = 32;

/// The server writes each source's part on a line of its own. What is pending comes first: it may be executed meanwhile.
pub(super) const HISTORY_QUERY: &str = "SELECT \
    IF(@@GLOBAL.read_only, '', REGEXP_REPLACE(@@GLOBAL.gtid_owned, '#[0-9]+|\n', '')) AS pending, \
    @@GLOBAL.read_only AS read_only, @@version AS version, \
    REPLACE(@@GLOBAL.gtid_executed, '\n', '') AS executed, REPLACE(@@GLOBAL.gtid_purged, '\n', '') AS purged";

/// See [`super::Family::init_file`]. A copy brings its history along.
pub(super) fn init_file(admin: &Secret, replication: Option<&Secret>) -> String {
    let mut text = String::from(INIT_FILE);
    let mut account = |user: &str, host: &str, password: &Secret, grant: &str, options: &str| {
        let (name, password) = (format!("'{user}'@'{host}'"), literal(password.reveal()));
        let _ = writeln!(text, "CREATE USER IF NOT EXISTS {name};\nALTER USER {name} IDENTIFIED BY {password};");
        let _ = writeln!(text, "GRANT {grant} ON *.* TO {name} {options};");
    };
    for user in [ADMIN, OPERATOR] {
        account(user, "localhost", admin, "ALL PRIVILEGES", "WITH GRANT OPTION");
    }
    if let Some(password) = replication {
        account(REPLICATION, "%", password, "REPLICATION SLAVE, BACKUP_ADMIN", "");
    }
    // The accounts of the server itself, which nobody can log in to, stay.
    text.push_str("DROP USER IF EXISTS 'root'@'localhost';\n");
    text
}

pub(super) async fn executed(connection: &mut Connection) -> Result<String> {
    value(connection, r"SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')").await
}

/// The source asks for the password in a way that needs its key, as long as the connection is not encrypted.
pub(super) async fn replicate_from(connection: &mut Connection, source: IpAddr, password: &Secret) -> Result<()> {
    let length = password.reveal().len();
    ensure!(
        length <= REPLICATION_PASSWORD_LIMIT,
        "property replication_password has {length} bytes; MySQL takes {REPLICATION_PASSWORD_LIMIT}"
    );
    stop_replication(connection).await?;
    let change = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{source}', SOURCE_PORT={MYSQL_PORT}, SOURCE_USER='{REPLICATION}', \
         SOURCE_PASSWORD={}, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, \
         SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=1",
        literal(password.reveal())
    );
    run(connection, &change).await?;
    start_replication(connection).await
}

pub(super) async fn wait_until_applied(connection: &mut Connection, position: &str, limit: Duration) -> Result<bool> {
    let query = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {:.3})", literal(position), limit.as_secs_f64());
    Ok(value(connection, &query).await? == "0")
}

/// What lies in the relay log; the server reads it at its start.
pub(super) async fn received(connection: &mut Connection) -> Result<History> {
    Ok(received_text(connection).await?.parse()?)
}

/// The applier goes on where it was. With both threads stopped nothing of the relay log is lost by that.
pub(super) async fn apply_relay_log(connection: &mut Connection) -> Result<Option<String>> {
    let received = received_text(connection).await?;
    run(connection, "START REPLICA SQL_THREAD").await?;
    Ok(Some(received).filter(|received| !received.is_empty()))
}

async fn received_text(connection: &mut Connection) -> Result<String> {
    let row = rows(connection, "SHOW REPLICA STATUS").await?.pop().context("replication is not configured")?;
    Ok(text(&row, "Retrieved_Gtid_Set")?.replace('\n', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_logs_nothing_and_leaves_nobody_without_a_password() {
        let secret = |text: &str| serde_json::from_value::<Secret>(text.into()).unwrap();

        let file = init_file(&secret("a"), Some(&secret("r")));

        assert!(file.starts_with("SET SESSION sql_log_bin=0;\n"));
        assert!(file.contains("ALTER USER 'replication'@'%' IDENTIFIED BY 'r';"));
        assert!(file.contains("DROP USER IF EXISTS 'root'@'localhost';"));
        assert!(!init_file(&secret("a"), None).contains("replication"));
    }
}
