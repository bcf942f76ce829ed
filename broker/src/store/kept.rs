//! The one connection to a SQLite file. SQLite has one writer anyway, and reads take microseconds; so the queue is ours, and
//! fair. A pool of one would ask the connection after each use whether it still lives, which takes as long as the use.

use std::sync::Arc;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, Connection as _, Executor};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::timeout;

use super::ACQUIRE_LIMIT;
use super::connection::in_time;

/// The connection, for one at a time.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    options: AnyConnectOptions,
    settings: &'static str,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug)]
enum Line {
    Missing,
    Open(Open),
    /// For good.
    Closed,
}

#[derive(Debug)]
struct Open {
    connection: AnyConnection,
    /// Something was begun that has neither happened nor been undone.
    is_in_act: bool,
}

/// The connection, as long as this is held.
#[derive(Debug)]
pub(crate) struct Held(OwnedMappedMutexGuard<Line, Open>);

impl Kept {
    /// Nobody connects yet.
    pub(super) fn new(options: AnyConnectOptions, settings: &'static str) -> Kept {
        Kept { options, settings, line: Arc::new(Mutex::new(Line::Missing)) }
    }

    /// Wait for a turn.
    pub(super) async fn hold(&self) -> sqlx::Result<Held> {
        let line = timeout(ACQUIRE_LIMIT, Arc::clone(&self.line).lock_owned()).await;
        let mut line = line.map_err(|_| sqlx::Error::PoolTimedOut)?;
        if let Line::Open(open) = &mut *line
            && open.undo_what_was_dropped().await.is_err()
        {
            *line = Line::Missing;
        }
        if let Line::Missing = *line {
            let mut connection = in_time(AnyConnection::connect_with(&self.options)).await?;
            in_time(connection.execute(self.settings)).await?;
            *line = Line::Open(Open { connection, is_in_act: false });
        }
        let open = OwnedMutexGuard::try_map(line, |line| match line {
            Line::Open(open) => Some(open),
            Line::Missing | Line::Closed => None,
        });
        open.map(Held).map_err(|_| sqlx::Error::PoolClosed)
    }

    /// Wait for a turn, and begin an act.
    pub(super) async fn begin(&self) -> sqlx::Result<Held> {
        let mut held = self.hold().await?;
        held.0.is_in_act = true;
        // Immediate: a transaction that reads first must not find at its first write that it is outdated.
        in_time(held.raw().execute("BEGIN IMMEDIATE")).await?;
        Ok(held)
    }

    /// Nobody connects any more.
    pub(super) async fn close(&self) -> sqlx::Result<()> {
        match std::mem::replace(&mut *self.line.lock().await, Line::Closed) {
            Line::Open(open) => open.connection.close().await,
            Line::Missing | Line::Closed => Ok(()),
        }
    }
}

impl Held {
    pub(super) fn raw(&mut self) -> &mut AnyConnection {
        &mut self.0.connection
    }

    /// What was begun has happened; what single statements change has at once.
    pub(super) async fn commit(self) -> sqlx::Result<()> {
        self.end("COMMIT").await
    }

    /// What was begun has not happened.
    pub(super) async fn rollback(self) -> sqlx::Result<()> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, word: &'static str) -> sqlx::Result<()> {
        if self.0.is_in_act {
            in_time(self.raw().execute(word)).await?;
            self.0.is_in_act = false;
        }
        Ok(())
    }
}

impl Open {
    /// Whoever had it before may have gone in the middle of an act, or of a word about it. An error is a connection that is of
    /// no use any more.
    async fn undo_what_was_dropped(&mut self) -> sqlx::Result<()> {
        if !self.is_in_act {
            return Ok(());
        }
        match in_time(self.connection.execute("ROLLBACK")).await {
            // Where nothing was begun yet, or all has ended already, the database says so.
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
        self.is_in_act = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::AnyConnection;

    use crate::store::{Place, Store};

    async fn store(directory: &std::path::Path) -> Store {
        let store = Store::open(&Place::File(directory.join("state.db"))).await.unwrap();
        sqlx::query("CREATE TABLE t (i INTEGER)").execute(&mut store.connection().await.unwrap()).await.unwrap();
        store
    }

    async fn rows(store: &Store) -> i64 {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM t");
        count.fetch_one(&mut store.connection().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn an_act_that_is_dropped_has_not_happened_and_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path()).await;

        let mut act = store.begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *act).await.unwrap();
        drop(act);
        assert_eq!(rows(&store).await, 0);

        let mut act = store.begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES (2)").execute(&mut *act).await.unwrap();
        act.commit().await.unwrap();
        assert_eq!(rows(&store).await, 1);
    }

    #[tokio::test]
    async fn whoever_gives_up_in_the_middle_of_a_word_leaves_nothing_begun() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path()).await;

        for polls in 0..20 {
            let act = async {
                let mut act = store.begin().await.unwrap();
                sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *act).await.unwrap();
                act.rollback().await.unwrap();
            };
            // Cut off at every place where it waits.
            let mut act = Box::pin(act);
            for _ in 0..polls {
                let polled = futures_util::poll!(&mut act);
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(act);
            store.begin().await.unwrap().commit().await.unwrap();
        }

        assert_eq!(rows(&store).await, 0);
    }

    #[tokio::test]
    async fn a_closed_one_is_the_only_one_that_was_open() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path()).await;

        store.close().await;

        assert!(crate::store::is_away(&store.connection().await.unwrap_err()));
        let url = format!("sqlite://{}", directory.path().join("state.db").display());
        let mut alone = <AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
        // The log goes with the last connection.
        assert!(!directory.path().join("state.db-wal").exists());
        sqlx::query("INSERT INTO t VALUES (1)").execute(&mut alone).await.unwrap();
    }
}
