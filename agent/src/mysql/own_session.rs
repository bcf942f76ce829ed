//! A session of the agent's own that is kept for several statements in a row. Each time that one is given back the server is
//! asked whether it can be used again; in a hand-over that would be outage.

use std::time::Duration;

use anyhow::Result;
use sqlx::MySql;
use sqlx::pool::PoolConnection;

use super::statements::{self, run, value};
use super::{CONNECT_LIMIT, Closing, Commits, Database, Family, STATEMENT_LIMIT, within};

/// The session.
pub(crate) struct OwnSession {
    family: Family,
    connection: PoolConnection<MySql>,
}

impl Database {
    pub(crate) async fn own_session(&self) -> Result<OwnSession> {
        within(CONNECT_LIMIT, "take a session of the agent's own", async {
            let (family, connection) = self.session().await?;
            Ok(OwnSession { family, connection })
        })
        .await
    }
}

impl OwnSession {
    /// By which the server knows it.
    pub(crate) async fn id(&mut self) -> Result<u64> {
        within(STATEMENT_LIMIT, "ask for the session's number", async {
            Ok(value(&mut self.connection, "SELECT CONNECTION_ID()").await?.parse()?)
        })
        .await
    }

    /// As [`Database::close`], with another limit, which the session has until it is given back. While it waits, new statements
    /// that write wait behind it.
    pub(crate) async fn close(&mut self, limit: Duration) -> Result<Closing> {
        within(limit + STATEMENT_LIMIT / 10, "make the server read-only", async {
            let seconds = limit.as_secs().max(1);
            run(&mut self.connection, &format!("SET SESSION lock_wait_timeout={seconds}")).await?;
            self.family.close(&mut self.connection).await
        })
        .await
    }

    /// The last transaction of this server's history.
    pub(crate) async fn position(&mut self) -> Result<String> {
        within(STATEMENT_LIMIT, "ask the server for its position", self.family.position(&mut self.connection)).await
    }

    /// Wait until the applier has applied `position`; false when it has not within `limit`.
    pub(crate) async fn wait_until_applied(&mut self, position: &str, limit: Duration) -> Result<bool> {
        let waited = self.family.wait_until_applied(&mut self.connection, position, limit);
        within(limit + STATEMENT_LIMIT, "wait until everything is applied", waited).await
    }

    /// Make the server writable under an epoch, which is the first transaction that it writes, once its guard knows until
    /// when; `opens` is called right before it may acknowledge anything. The session was there first: a server that ends in
    /// between takes it along, so the one that is opened is the one that has this guard.
    pub(crate) async fn open_as_leader(
        &mut self,
        epoch: u64,
        leader: &str,
        commits: Commits,
        guarded: impl Future<Output = Result<()>>,
        opens: impl FnOnce(),
    ) -> Result<()> {
        within(STATEMENT_LIMIT, "make the server writable", async {
            let prepared = async {
                self.family.write_leadership(&mut self.connection, epoch, leader).await?;
                self.family.set_commits(&mut self.connection, commits).await
            };
            tokio::try_join!(prepared, guarded)?;
            opens();
            statements::open(&mut self.connection).await
        })
        .await
    }
}
