//! The two server families, and the catalogue of where they differ: each verb that both do in their own way is here, with
//! the file of each family behind it. What they do alike is in `statements.rs`.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent::config::Secret;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Channel, Closing, Connection, Facts, mariadb, mysql8, relay_log, statements};
use crate::gtid::History;

/// Servers of one family replicate from each other; those of different families do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    MariaDb,
    /// MySQL, and Percona Server for MySQL, which says and does the same.
    MySql,
}

/// MySQL before this one has other words for half of the statements.
const OLDEST_MYSQL: (u32, u32) = (8, 4);

/// What the families call the two ends of replication, in columns of a status and in names of variables.
pub(super) struct Words {
    pub(super) source: &'static str,
    pub(super) replica: &'static str,
    /// The column with what was received.
    pub(super) received: &'static str,
}

/// See [`Family::log_reader`].
pub(crate) struct LogReader {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) replay: &'static str,
}

impl Family {
    /// The family of a server that says that it is of `version`.
    pub(crate) fn of(version: &str) -> Result<Family> {
        if version.contains("MariaDB") {
            return Ok(Family::MariaDb);
        }
        let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("{version:?} is no version of a MySQL server");
        };
        let (oldest_major, oldest_minor) = OLDEST_MYSQL;
        ensure!(
            (major, minor) >= OLDEST_MYSQL,
            "the server is MySQL {version}; this agent works with MariaDB, and with MySQL or Percona Server from \
             {oldest_major}.{oldest_minor} on"
        );
        Ok(Family::MySql)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::MariaDb => "MariaDB",
            Family::MySql => "MySQL",
        }
    }

    /// In characters.
    pub(crate) fn longest_user_name(self) -> usize {
        match self {
            Family::MariaDb => 80,
            Family::MySql => 32,
        }
    }

    /// The statements that the server runs at each start, before it takes a connection: the accounts, which are each
    /// server's own and so in nobody's history, and after a physical copy the history that the copy holds.
    pub(crate) fn init_file(self, admin: &Secret, replication: Option<&Secret>, copied: Option<&History>) -> String {
        match self {
            Family::MariaDb => mariadb::init_file(admin, replication, copied),
            Family::MySql => mysql8::init_file(admin, replication),
        }
    }

    /// The program that shows what is in a log file, the Debian package that has it, and how what it shows is applied to a
    /// server under new transaction ids.
    pub(crate) fn log_reader(self) -> LogReader {
        match self {
            Family::MariaDb => LogReader {
                program: "mariadb-binlog",
                package: "mariadb-client",
                options: &["--skip-gtid-strict-mode"],
                replay: "mariadb-binlog FILE | sed -E '/SET @@session.(gtid_domain_id|gtid_seq_no|server_id)=/d' | mariadb",
            },
            Family::MySql => LogReader {
                program: "mysqlbinlog",
                package: "mysql-client-core",
                options: &[],
                replay: "mysqlbinlog --skip-gtids FILE | mysql",
            },
        }
    }

    pub(super) fn words(self) -> Words {
        match self {
            Family::MariaDb => Words { source: "Master", replica: "Slave", received: "Gtid_IO_Pos" },
            Family::MySql => Words { source: "Source", replica: "Replica", received: "Retrieved_Gtid_Set" },
        }
    }

    pub(super) async fn facts(self, connection: &mut Connection, binlog_index: &Path) -> Result<Facts> {
        // The channel first: what is received later than it was read must not look as if it were missing from the history.
        let channel = self.channel(connection).await?;
        let semi_sync = self.semi_sync(connection).await?;
        let query = match self {
            Family::MariaDb => mariadb::history_query(binlog_index).await?,
            Family::MySql => mysql8::HISTORY_QUERY.to_owned(),
        };
        let row = statements::rows(connection, &query).await?.pop().context("the server gave no row")?;
        Ok(Facts {
            is_read_only: statements::text(&row, "read_only")? != "0",
            executed: statements::text(&row, "executed")?,
            purged: statements::text(&row, "purged")?,
            pending: statements::text(&row, "pending")?,
            version: statements::text(&row, "version")?,
            mode: semi_sync.mode(),
            semi_sync,
            channel,
        })
    }

    async fn channel(self, connection: &mut Connection) -> Result<Option<Channel>> {
        let row = statements::rows(connection, "SHOW REPLICA STATUS").await?.pop();
        row.map(|row| Channel::read(&row, &self.words())).transpose()
    }

    pub(super) async fn position(self, connection: &mut Connection) -> Result<String> {
        match self {
            Family::MariaDb => mariadb::position(connection).await,
            Family::MySql => mysql8::executed(connection).await,
        }
    }

    /// What lets the agent's own account write while nobody else can yet; a statement of it may follow.
    pub(super) fn let_the_agent_write(self) -> &'static str {
        match self {
            // It passes `read_only`.
            Family::MariaDb => "",
            Family::MySql => "SET GLOBAL super_read_only=0; ",
        }
    }

    pub(super) async fn close(self, connection: &mut Connection) -> Result<Closing> {
        match self {
            Family::MariaDb => statements::close(connection, "read_only").await,
            // The other one as well, with or without it.
            Family::MySql => statements::close(connection, "super_read_only").await,
        }
    }

    pub(super) async fn replicate_from(
        self,
        connection: &mut Connection,
        source: IpAddr,
        password: &Secret,
    ) -> Result<()> {
        match self {
            Family::MariaDb => mariadb::replicate_from(connection, source, password).await,
            Family::MySql => mysql8::replicate_from(connection, source, password).await,
        }
    }

    pub(super) async fn wait_until_applied(
        self,
        connection: &mut Connection,
        position: &str,
        limit: Duration,
    ) -> Result<bool> {
        match self {
            Family::MariaDb => mariadb::wait_until_applied(connection, position, limit).await,
            Family::MySql => mysql8::wait_until_applied(connection, position, limit).await,
        }
    }

    pub(super) async fn received_on_disk(self, connection: &mut Connection) -> Result<History> {
        match self {
            Family::MariaDb => relay_log::received(connection).await,
            Family::MySql => mysql8::received(connection).await,
        }
    }

    pub(super) async fn apply_relay_log(self, connection: &mut Connection) -> Result<Option<String>> {
        match self {
            Family::MariaDb => relay_log::apply(connection).await,
            Family::MySql => mysql8::apply_relay_log(connection).await,
        }
    }

    /// How a statement gives a user its password. Statements lie in the binary log of both servers, and in every backup; the
    /// password itself must not.
    pub(super) fn identified_by(self, password: &str) -> String {
        match self {
            Family::MariaDb => mariadb::identified_by(password),
            // The server writes a hash into its binary log.
            Family::MySql => format!("IDENTIFIED BY {}", statements::literal(password)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_the_family() {
        for (version, family) in [
            ("10.11.19-MariaDB-0+deb12u1-log", Some(Family::MariaDb)),
            ("8.4.0", Some(Family::MySql)),
            ("8.4.3-3", Some(Family::MySql)),
            ("9.7.4-2", Some(Family::MySql)),
            ("8.0.44", None),
            ("5.7.44-48-log", None),
            ("x", None),
        ] {
            assert_eq!(Family::of(version).ok(), family, "{version}");
        }
    }
}
