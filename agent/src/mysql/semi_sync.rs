//! Semi-synchronous replication: a commit that waits for the follower's receipt. Each server has two sides of it, which are
//! switched apart: the source's, which makes commits wait, and the replica's, which makes the receiver send receipts.

use agent::api::ReplicationMode;
use anyhow::{Context, Result};

use super::statements::{rows, run, text};
use super::{Commits, Connection, Database, Family, STATEMENT_LIMIT, within};

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
            timeout_ms: said.number(&format!("{source}_timeout"))?,
        })
    }

    pub(super) async fn set_commits(self, connection: &mut Connection, commits: Commits) -> Result<()> {
        match commits {
            Commits::AsTheyDid => Ok(()),
            Commits::Wait { timeout_ms } => self.enable_source(connection, timeout_ms).await,
            // Each millisecond is outage, and MySQL needs a second to switch off what is on.
            Commits::GoOn if self.semi_sync(connection).await?.is_source_enabled => {
                self.disable_source(connection).await
            }
            Commits::GoOn => Ok(()),
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
