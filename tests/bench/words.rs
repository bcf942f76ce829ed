//! What is said by hand to a bare server, in its family's words.

use anyhow::{Result, ensure};
use sqlx::mysql::MySqlConnection;
use tests::clients::Family;
use tests::mysql;

/// How long a bare follower may take to apply what it received.
const LIMIT_S: u32 = 60;

/// The last transaction of a server.
pub(crate) async fn position(family: Family, server: &mut MySqlConnection) -> Result<String> {
    let variable = match family {
        Family::Mariadb => "@@gtid_binlog_pos",
        Family::Mysql => "@@gtid_executed",
    };
    mysql::text(server, &format!("SELECT {variable}")).await
}

/// Wait until a server has applied up to there.
pub(crate) async fn wait_for(family: Family, server: &mut MySqlConnection, position: &str) -> Result<()> {
    let function = match family {
        Family::Mariadb => "MASTER_GTID_WAIT",
        Family::Mysql => "WAIT_FOR_EXECUTED_GTID_SET",
    };
    let waited = mysql::text(server, &format!("SELECT CAST({function}('{position}', {LIMIT_S}) AS CHAR)")).await?;
    ensure!(waited == "0", "the bare follower did not reach {position}");
    Ok(())
}

/// The statement by which a server replicates from an address.
pub(crate) fn follow(family: Family, address: &str) -> String {
    match family {
        Family::Mariadb => format!(
            "CHANGE MASTER TO MASTER_HOST = '{address}', MASTER_PORT = 3306, MASTER_USER = 'replication', \
             MASTER_PASSWORD = 'replication', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; START REPLICA"
        ),
        Family::Mysql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{address}', SOURCE_PORT = 3306, SOURCE_USER = 'replication', \
             SOURCE_PASSWORD = 'replication', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, \
             SOURCE_CONNECT_RETRY = 1; START REPLICA"
        ),
    }
}

/// Let a leader's commits wait for the follower, or not.
pub(crate) fn wait_for_follower(family: Family, is_on: bool) -> String {
    let source = match family {
        Family::Mariadb => "master",
        Family::Mysql => "source",
    };
    format!("SET GLOBAL rpl_semi_sync_{source}_enabled = {}", u8::from(is_on))
}

/// The user as whom a server replicates, outside the binary log.
pub(crate) const REPLICATION_USER: &str = "SET SESSION sql_log_bin = 0; \
    CREATE USER IF NOT EXISTS replication@'%' IDENTIFIED BY 'replication'; \
    GRANT REPLICATION SLAVE ON *.* TO replication@'%'; SET SESSION sql_log_bin = 1";

/// The user as whom a MySQL server is copied from.
pub(crate) fn copy_user(family: Family) -> &'static str {
    match family {
        Family::Mariadb => "DO 0",
        Family::Mysql => {
            "SET SESSION sql_log_bin = 0; CREATE USER copy@'%' IDENTIFIED BY 'copy'; \
             GRANT BACKUP_ADMIN ON *.* TO copy@'%'; SET SESSION sql_log_bin = 1"
        }
    }
}

/// An operator's statements on a server that replicates: MySQL's `super_read_only` would stop them.
pub(crate) fn although_read_only(family: Family, statements: &str) -> String {
    match family {
        Family::Mariadb => statements.to_owned(),
        Family::Mysql => format!("SET GLOBAL super_read_only = OFF; {statements}; SET GLOBAL super_read_only = ON"),
    }
}
