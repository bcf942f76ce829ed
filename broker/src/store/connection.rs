//! A connection to the state database on which no answer is waited for without end. The drivers wait for as long as the
//! connection lives, and that of a server that has stopped in its tracks lives on; a server that still works keeps its own,
//! shorter limits (see `place.rs`).

use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, Describe, Either, Execute, Executor, SqlStr, Transaction};

use super::kept::Held;

/// How long one answer may take: longer than the server's own limits, so that a server that is only slow says so itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(12);

/// A connection, for single statements or for an act.
#[derive(Debug)]
pub(crate) enum Connection {
    Single(PoolConnection<Any>),
    Act(Transaction<'static, Any>),
    /// SQLite's, for both.
    Kept(Held),
}

impl Connection {
    /// Keep what the act has changed; what single statements change is kept at once.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Connection::Single(_) => Ok(()),
            Connection::Act(transaction) => in_time(transaction.commit()).await,
            Connection::Kept(held) => held.commit().await,
        }
    }

    /// Drop what the act has changed.
    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Connection::Single(_) => Ok(()),
            Connection::Act(transaction) => in_time(transaction.rollback()).await,
            Connection::Kept(held) => held.rollback().await,
        }
    }

    fn raw(&mut self) -> &mut AnyConnection {
        match self {
            Connection::Single(connection) => connection,
            Connection::Act(transaction) => transaction,
            Connection::Kept(held) => held.raw(),
        }
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    // All rows at once: no answer that is asked for here is long.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<AnyQueryResult, AnyRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let answer = in_time(self.raw().fetch_many(query).try_collect::<Vec<_>>());
        stream::once(answer).map_ok(|parts| stream::iter(parts.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<AnyRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        Box::pin(in_time(self.raw().fetch_optional(query)))
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, sqlx::Result<AnyStatement>>
    where
        'c: 'e,
    {
        Box::pin(in_time(self.raw().prepare_with(sql, parameters)))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Any>>>
    where
        'c: 'e,
    {
        Box::pin(in_time(self.raw().describe(sql)))
    }
}

/// The answer, or that there was none in time.
pub(super) async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let silence = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server is silent"));
    tokio::time::timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| Err(silence()))
}
