//! Which server the tests run with: `TANDEM_SERVER=mariadb` (when nothing is said) or `mysql`, which is looked for where
//! `tests/fetch-mysql.sh` is told to put it by the Makefile. The behaviour is the same; here is what tests must say apart.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub(crate) static IS_MYSQL: LazyLock<bool> = LazyLock::new(|| match std::env::var("TANDEM_SERVER").as_deref() {
    Ok("mysql") => {
        let server = mysql_package().join("bin/mysqld");
        assert!(server.exists(), "{} is not there; run tests/fetch-mysql.sh", server.display());
        true
    }
    Ok("mariadb") | Err(_) => false,
    Ok(other) => panic!("TANDEM_SERVER is {other:?}; it may be mariadb or mysql"),
});

/// As the property of the agent has it.
pub(crate) fn name() -> &'static str {
    if *IS_MYSQL { "mysql" } else { "mariadb" }
}

pub(crate) fn mysql_package() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../mysql")
}

/// A statement in the words of the server; tests have MariaDB's.
pub(crate) fn in_its_words(statement: &str) -> String {
    if !*IS_MYSQL {
        return statement.to_owned();
    }
    let words = [
        ("SLAVE", "REPLICA"),
        ("_sync_master", "_sync_source"),
        ("_sync_slave", "_sync_replica"),
        ("no_slave", "no_replica"),
        ("READ_ONLY ADMIN", "CONNECTION_ADMIN"),
    ];
    words.iter().fold(statement.to_owned(), |statement, (from, to)| statement.replace(from, to))
}

/// Replicate from a server that is not there, when that is started.
pub(crate) fn follow_nobody() -> &'static str {
    if *IS_MYSQL {
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_USER='replication', SOURCE_AUTO_POSITION=1"
    } else {
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_USER='replication', MASTER_USE_GTID=slave_pos"
    }
}

/// Replicate from the server at this address, as a follower of it does.
pub(crate) fn follow(address: &str) -> String {
    if *IS_MYSQL {
        format!(
            r"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{address}', SOURCE_USER='replication', SOURCE_PASSWORD='re\'pl\\',
            GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1; START REPLICA"
        )
    } else {
        format!(
            r"SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_binlog_pos; CHANGE MASTER TO MASTER_HOST='{address}',
            MASTER_USER='replication', MASTER_PASSWORD='re\'pl\\', MASTER_USE_GTID=slave_pos; START REPLICA"
        )
    }
}

/// Where the status of replication has what was received.
pub(crate) fn received_column() -> &'static str {
    if *IS_MYSQL { "Retrieved_Gtid_Set" } else { "Gtid_IO_Pos" }
}

/// What tells this server's transactions from another's.
pub(crate) fn origin() -> &'static str {
    if *IS_MYSQL { "SELECT CONCAT(@@server_uuid, ':')" } else { "SELECT CONCAT('0-', @@server_id, '-')" }
}

/// A transaction whose id has the form that is seldom seen: another domain, or a tag.
pub(crate) fn write_in_another_way() -> &'static str {
    if *IS_MYSQL {
        "SET SESSION gtid_next='AUTOMATIC:tag'; CREATE DATABASE tagged"
    } else {
        "SET SESSION gtid_domain_id=7; CREATE DATABASE tagged"
    }
}
