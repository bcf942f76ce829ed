//! An act: several statements that see and change one state of the database.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Connection;
use super::log::Log;

/// An act in progress; dropped, it has not happened.
#[derive(Debug)]
pub(crate) struct Act {
    tx: Connection,
    /// Of a database that leaves it to us when a commit comes to the disk.
    log: Option<Arc<Log>>,
}

impl Act {
    pub(super) fn new(tx: Connection, log: Option<Arc<Log>>) -> Act {
        Act { tx, log }
    }

    /// It has happened for good.
    pub(crate) async fn commit(self) -> anyhow::Result<()> {
        let Some(log) = self.log else { return Ok(self.tx.commit().await?) };
        let commit = log.commit();
        // Where this fails, or is cut off, it may still come: until the next one everybody who reads waits for a flush.
        self.tx.commit().await?;
        commit.ended();
        log.flush().await
    }

    /// It has happened, unless the whole machine fails in the next moment: for what nobody would miss then.
    pub(crate) async fn commit_lightly(self) -> anyhow::Result<()> {
        Ok(self.tx.commit().await?)
    }

    /// It has not happened.
    pub(crate) async fn rollback(self) -> anyhow::Result<()> {
        Ok(self.tx.rollback().await?)
    }
}

impl Deref for Act {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.tx
    }
}

impl DerefMut for Act {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.tx
    }
}
