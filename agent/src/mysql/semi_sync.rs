//! Semi-synchronous replication: a commit that waits for the follower's receipt. Each server has two sides of it, which are
//! switched apart: the source's, which makes commits wait, and the replica's, which makes the receiver send receipts.

use std::time::Duration;

use agent::api::ReplicationMode;
use anyhow::{Context, Result, ensure};

use super::statements::{rows, run, text, value};
use super::{Commits, Connection, Database, Family, REPLICATION, STATEMENT_LIMIT, within};

const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A follower's connection that was ended is gone in moments.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What the server says about its semi-synchronous replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SemiSync {
    /// Commits are to wait for a receipt.
    pub(crate) is_source_enabled: bool,
    /// They do wait: it is enabled, and was not given up after a time-out.
    pub(crate) is_source_on: bool,
    /// The receiver is to send receipts, from its next connection on.
    pub(crate) is_replica_enabled: bool,
    /// It does.
    pub(crate) is_replica_on: bool,
    /// Followers that send receipts.
    pub(crate) clients: u64,
    /// Commits that wait for a receipt now.
    pub(crate) waiting_sessions: u64,
    /// Commits that got their receipt since the server started; MariaDB may count those that were cut, too.
    pub(crate) acknowledged: u64,
    /// After this a commit no longer waits, and the source's side is off until a follower has caught up.
    pub(crate) timeout_ms: u64,
}

impl SemiSync {
    pub(super) fn mode(&self) -> ReplicationMode {
        match self.is_source_on || self.is_replica_on {
            true => ReplicationMode::Semisync,
            false => ReplicationMode::Async,
        }
    }
}

impl Family {
    pub(super) async fn semi_sync(self, connection: &mut Connection) -> Result<SemiSync> {
        let mut said = Said::default();
        said.ask(connection, "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync%'").await?;
        said.ask(connection, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'").await?;
        let (source, replica) = self.ends();
        Ok(SemiSync {
            is_source_enabled: said.is_on(&format!("{source}_enabled")),
            is_source_on: said.is_on(&format!("{source}_status")),
            is_replica_enabled: said.is_on(&format!("{replica}_enabled")),
            is_replica_on: said.is_on(&format!("{replica}_status")),
            clients: said.number(&format!("{source}_clients"))?,
            waiting_sessions: said.number(&format!("{source}_wait_sessions"))?,
            acknowledged: said.number(&format!("{source}_yes_tx"))?,
            timeout_ms: said.number(&format!("{source}_timeout"))?,
        })
    }

    pub(super) async fn set_commits(self, connection: &mut Connection, commits: Commits) -> Result<()> {
        match commits {
            Commits::AsTheyDid => Ok(()),
            Commits::Wait { timeout_ms } => self.enable_source(connection, timeout_ms).await,
            // Each millisecond is outage, and MySQL needs a second to switch off what is on.
            Commits::GoOn => {
                let query = format!("SELECT @@GLOBAL.rpl_semi_sync_{}_enabled", self.ends().0);
                match value(connection, &query).await?.as_str() {
                    "0" => Ok(()),
                    _ => self.disable_source(connection).await,
                }
            }
        }
    }

    async fn enable_source(self, connection: &mut Connection, timeout_ms: u64) -> Result<()> {
        let (source, _) = self.ends();
        // The time first: a commit must never wait by another one.
        run(connection, &format!("SET GLOBAL rpl_semi_sync_{source}_timeout={timeout_ms}")).await?;
        run(connection, &format!("SET GLOBAL rpl_semi_sync_{source}_enabled=ON")).await
    }

    async fn disable_source(self, connection: &mut Connection) -> Result<()> {
        run(connection, &format!("SET GLOBAL rpl_semi_sync_{}_enabled=OFF", self.ends().0)).await
    }

    /// For how long it has been dead the server does not say: the time that it gives is that of the connection. MySQL holds on
    /// to none.
    async fn has_dead_follower(self, connection: &mut Connection) -> Result<bool> {
        if self == Family::MySql {
            return Ok(false);
        }
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='{REPLICATION}' AND COMMAND='Killed'"
        );
        Ok(value(connection, &query).await? != "0")
    }

    /// The two sides in the names of variables.
    fn ends(self) -> (String, String) {
        let words = self.words();
        (words.source.to_ascii_lowercase(), words.replica.to_ascii_lowercase())
    }
}

impl Database {
    /// Have commits wait for a receipt, each at most for `timeout_ms`.
    pub(crate) async fn enable_semi_sync_source(&self, timeout_ms: u64) -> Result<()> {
        within(STATEMENT_LIMIT, "have commits wait for the follower", async {
            let (family, mut connection) = self.session().await?;
            family.enable_source(&mut connection, timeout_ms).await
        })
        .await
    }

    /// Does the server hold on to a follower's connection that has ended? MariaDB 10.11 can lose the wake-up by which one ends
    /// (`Ack_receiver::remove_slave`), where it ends right after it began and the machine is busy. The follower gets no other
    /// connection before the source's side has been switched off.
    pub(crate) async fn keeps_a_dead_follower(&self) -> Result<bool> {
        within(STATEMENT_LIMIT, "ask for the connections of followers", async {
            let (family, mut connection) = self.session().await?;
            family.has_dead_follower(&mut connection).await
        })
        .await
    }

    /// Let go of such connections. The server must be closed, and nobody left who waits for a commit: those go on.
    pub(crate) async fn let_go_of_dead_followers(&self) -> Result<()> {
        within(ENDS_WITHIN, "let go of the follower's last connection", async {
            let (family, mut connection) = self.session().await?;
            if !family.has_dead_follower(&mut connection).await? {
                return Ok(());
            }
            // Of somebody who may write on a closed server.
            let waiting = family.semi_sync(&mut connection).await?.waiting_sessions;
            ensure!(
                waiting == 0,
                "{waiting} commits of the closed server wait for the follower, and would be acknowledged"
            );
            family.disable_source(&mut connection).await?;
            // Whoever opens the server switches it on again, and that would be the lost wake-up once more.
            while family.has_dead_follower(&mut connection).await? {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        })
        .await
    }

    /// Let commits wait no longer; those that do go on. MySQL needs a second for it, so this has no place in an outage.
    pub(crate) async fn disable_semi_sync_source(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "let commits wait for the follower no longer", async {
            let (family, mut connection) = self.session().await?;
            family.disable_source(&mut connection).await
        })
        .await
    }
}

/// Names and values; the names in lower case and without what all begin with.
#[derive(Default)]
struct Said(std::collections::BTreeMap<String, String>);

impl Said {
    async fn ask(&mut self, connection: &mut Connection, query: &str) -> Result<()> {
        for row in rows(connection, query).await? {
            let name = text(&row, "Variable_name")?.to_ascii_lowercase();
            let name = name.trim_start_matches("rpl_semi_sync_").to_owned();
            self.0.insert(name, text(&row, "Value")?);
        }
        Ok(())
    }

    fn is_on(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == "ON")
    }

    /// A server without the plugin has no such variable.
    fn number(&self, name: &str) -> Result<u64> {
        self.0.get(name).map_or(Ok(0), |value| value.parse().with_context(|| format!("read {name}")))
    }
}
