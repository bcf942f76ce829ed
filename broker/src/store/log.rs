//! Commits that outlast the machine, many for the price of one. SQLite itself would bring each commit to the disk while it
//! holds the only connection. Here a commit is handed to the operating system, which is enough to outlast this program, and
//! one flush of SQLite's log then brings it and all before it to the disk. (`synchronous = NORMAL`: SQLite flushes the log
//! before it moves pages from there to the file, so the file is always whole. <https://sqlite.org/wal.html>)

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a disk may take, and how long its turn is waited for.
const LIMIT: Duration = Duration::from_secs(12);

/// SQLite's log of a file, and how much of it is on the disk, counted in commits.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// May be read by somebody else from now on.
    begun: AtomicU64,
    over: AtomicU64,
    flushed: AtomicU64,
    /// One flushes, and most of those who wait for it need not any more.
    turn: Arc<Mutex<()>>,
    /// A flush has failed. The system reports that once and takes what it lost for written: no later flush can be believed.
    is_broken: Arc<AtomicBool>,
}

/// A commit under way. One of which nobody knows whether it came, or still comes, is over with the next one, which has the
/// connection behind it.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    log: &'a Log,
    number: u64,
}

impl Commit<'_> {
    /// It is in the log, and so is all before it.
    pub(super) fn ended(self) {
        self.log.over.fetch_max(self.number, Ordering::SeqCst);
    }
}

impl Log {
    /// The log of a database.
    pub(super) fn of(file: &Path) -> Log {
        let mut path = file.as_os_str().to_owned();
        path.push("-wal");
        let (begun, over, flushed, turn, is_broken) = Default::default();
        Log { path: path.into(), begun, over, flushed, turn, is_broken }
    }

    /// Something is about to be committed that must be on the disk before anybody hears of it. Only for who has the connection.
    pub(super) fn commit(&self) -> Commit<'_> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Commit { log: self, number }
    }

    /// Bring to the disk what has been committed.
    pub(super) async fn flush(&self) -> anyhow::Result<()> {
        self.flush_to(self.over.load(Ordering::SeqCst)).await
    }

    /// Bring to the disk what may have been read.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        self.flush_to(self.begun.load(Ordering::SeqCst)).await
    }

    async fn flush_to(&self, wanted: u64) -> anyhow::Result<()> {
        let is_flushed = || self.flushed.load(Ordering::SeqCst) >= wanted;
        if is_flushed() {
            return Ok(());
        }
        let act = "bring the state database to the disk";
        let turn = timeout(LIMIT, Arc::clone(&self.turn).lock_owned()).await.context(act)?;
        if is_flushed() {
            return Ok(());
        }
        ensure!(
            !self.is_broken.load(Ordering::SeqCst),
            "{act}: that has failed before; look after the disk, then restart"
        );
        let over = self.over.load(Ordering::SeqCst);
        let (path, is_broken) = (self.path.clone(), Arc::clone(&self.is_broken));
        // The turn goes along: a flush that hangs is not joined by another.
        let flushing = tokio::task::spawn_blocking(move || {
            let flushed = flush(&path);
            is_broken.fetch_or(flushed.is_err(), Ordering::SeqCst);
            drop(turn);
            flushed
        });
        timeout(LIMIT, flushing).await.context(act)?.context(act)?.context(act)?;
        self.flushed.fetch_max(over, Ordering::SeqCst);
        Ok(())
    }
}

/// Opened each time, since SQLite may have made it anew. SQLite has no locks on this file that closing it would lose.
fn flush(path: &Path) -> std::io::Result<()> {
    match File::open(path) {
        Ok(log) => log.sync_data(),
        // Everything was moved to the file, and flushed there, before the log was deleted.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Place, Store};

    #[tokio::test]
    async fn the_log_is_where_sqlite_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state.db");
        let store = Store::open(&Place::File(file.clone())).await.unwrap();

        store.begin().await.unwrap().commit().await.unwrap();

        assert!(Log::of(&file).path.is_file());
    }

    #[tokio::test]
    async fn what_was_flushed_is_not_flushed_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state.db");
        let log = Log::of(&file);

        log.commit().ended();
        log.flush().await.unwrap();
        // From now on every flush fails: the log is a link that leads in a circle.
        std::os::unix::fs::symlink(&file, directory.path().join("state.db-wal")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("state.db-wal"), &file).unwrap();

        log.flush().await.unwrap();
        log.settle().await.unwrap();
        let commit = log.commit();
        log.flush().await.unwrap();
        log.settle().await.expect_err("somebody may have read it");
        commit.ended();
        log.flush().await.expect_err("it is committed");
    }
}
