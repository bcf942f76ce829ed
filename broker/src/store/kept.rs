//! The one connection to a SQLite file. SQLite has one writer anyway, and reads take microseconds; so the queue is ours, and
//! fair. A pool of one would ask the connection after each use whether it still lives, which takes as long as the use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// How often somebody had it who may have changed something.
    uses: Arc<AtomicU64>,
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
        Kept { options, settings, line: Arc::new(Mutex::new(Line::Missing)), uses: Arc::default() }
    }

    /// Wait for a turn.
    pub(super) async fn hold(&self) -> sqlx::Result<Held> {
        let held = self.hold_to_read().await?;
        self.uses.fetch_add(1, Ordering::SeqCst);
        Ok(held)
    }

    /// What was read before this changed may not be true any more.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::SeqCst)
    }

    /// Wait for a turn, and change nothing.
    pub(super) async fn hold_to_read(&self) -> sqlx::Result<Held> {
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
    /// no use any more; the next act finds that out, where nobody has begun one.
    async fn undo_what_was_dropped(&mut self) -> sqlx::Result<()> {
        if !self.is_in_act {
            return Ok(());
        }
        match in_time(self.connection.execute("ROLLBACK")).await {
            Ok(_) => {}
            // Nothing was begun yet, or all has ended already.
            Err(sqlx::Error::Database(error)) if error.message().contains("no transaction is active") => {}
            Err(error) => return Err(error),
        }
        self.is_in_act = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use sqlx::AnyConnection;

    use crate::store::{Act, Place, Store};

    const SWEEPS: i64 = 20;

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

    /// None where it waits for the last of so many times.
    async fn cut_off<T>(act: impl Future<Output = T>, waits: usize) -> Option<T> {
        let (mut act, mut left) = (pin!(act), waits);
        poll_fn(|cx| match left {
            0 => Poll::Ready(None),
            _ => {
                left -= 1;
                act.as_mut().poll(cx).map(Some)
            }
        })
        .await
    }

    /// Begin an act again and again, and give it up where it waits for the first time, for the second, and so on. How often that
    /// is depends on how quick the thread of the database is; so all of it many times. Says how often it was given up.
    async fn given_up_everywhere(store: &Store, end: impl AsyncFn(Act)) -> i64 {
        let act = async || {
            let mut act = store.begin().await.unwrap();
            sqlx::query("INSERT INTO t VALUES (1)").execute(&mut *act).await.unwrap();
            end(act).await;
        };
        let mut given_up = 0;
        for _ in 0..SWEEPS {
            let mut waits = 1;
            while cut_off(act(), waits).await.is_none() {
                store.begin().await.unwrap().commit().await.unwrap();
                (waits, given_up) = (waits + 1, given_up + 1);
            }
        }
        given_up
    }

    #[tokio::test]
    async fn whoever_gives_up_in_the_middle_of_a_word_leaves_nothing_begun() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path()).await;

        assert!(given_up_everywhere(&store, async |act| act.rollback().await.unwrap()).await > 0);
        assert_eq!(rows(&store).await, 0);

        let given_up = given_up_everywhere(&store, async |act| act.commit().await.unwrap()).await;
        // Those that came to their end; and of the others none, or those that were given up behind their commit.
        assert!((SWEEPS..=SWEEPS + given_up).contains(&rows(&store).await));
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
