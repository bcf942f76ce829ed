//! One attempt in SQL, and what its answer proves.

use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Either, Executor, Row as _};

use super::{Family, TABLE, Way};
use crate::history::{Row, Term};

/// The servers' numbers for "this server is read-only", "the table is not there (yet)" and "this server is
/// offline": certainly not committed.
const REFUSALS: [u16; 4] = [1290, 1836, 1146, 3032];

/// How a client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// One row, committed by itself.
    OneRow,
    /// Two rows in a transaction.
    TwoRows,
}

/// What a client may conclude.
pub(super) enum Answer {
    /// The server said so; with its term, where that arrived as well.
    Committed(Option<Term>),
    NotCommitted,
    Lost,
}

impl Statement {
    /// How many rows one attempt has.
    pub(super) fn rows(self) -> u64 {
        match self {
            Statement::OneRow => 1,
            Statement::TwoRows => 2,
        }
    }

    /// Try to commit the rows.
    pub(super) async fn write(self, way: &Way, connection: &mut MySqlConnection, rows: &[Row]) -> Answer {
        let Some((first, rest)) = rows.split_first() else { return Answer::NotCommitted };
        match self {
            Statement::OneRow => insert(way, connection, *first).await,
            Statement::TwoRows => transaction(way, connection, *first, rest).await,
        }
    }
}

/// Nothing is committed before `COMMIT` is sent, whatever breaks.
async fn transaction(way: &Way, connection: &mut MySqlConnection, first: Row, rest: &[Row]) -> Answer {
    if run(connection, "BEGIN").await.is_err() {
        return Answer::NotCommitted;
    }
    let Answer::Committed(term) = insert(way, connection, first).await else { return abandon(connection).await };
    for row in rest {
        let Answer::Committed(_) = insert(way, connection, *row).await else { return abandon(connection).await };
    }
    match run(connection, "COMMIT").await {
        Ok(()) => Answer::Committed(term),
        Err(cause) => from_error(&cause),
    }
}

/// The session may have lost its transaction or not; it must not take a part of it into the next one.
async fn abandon(connection: &mut MySqlConnection) -> Answer {
    match run(connection, "ROLLBACK").await {
        Ok(()) | Err(_) => Answer::NotCommitted,
    }
}

/// The statement writes down the term that its server has, and gives it back: in the same answer, or, where the server
/// cannot, in the next one of the same packet. One statement reads the term and writes: what a server that is promoted in
/// between would say is not mixed up.
async fn insert(way: &Way, connection: &mut MySqlConnection, row: Row) -> Answer {
    let Row { client, number } = row;
    let term = way.term;
    let insert = format!("INSERT INTO {TABLE} (client, n, term) VALUES ({client}, {number}, {term})");
    let sql = match way.family {
        Family::Mariadb => format!("{insert} RETURNING term"),
        Family::Mysql => format!("{insert}; SELECT term FROM {TABLE} WHERE client = {client} AND n = {number}"),
    };
    let mut answers = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(sql)));
    let (mut is_committed, mut term) = (false, None);
    let failure = loop {
        match answers.try_next().await {
            Ok(Some(Either::Left(_))) => is_committed = true,
            Ok(Some(Either::Right(found))) => term = found.try_get_unchecked::<Option<Term>, _>(0).ok().flatten(),
            Ok(None) => break None,
            Err(cause) => break Some(cause),
        }
    };
    match failure {
        _ if is_committed => Answer::Committed(term),
        Some(cause) => from_error(&cause),
        None => Answer::Lost,
    }
}

async fn run(connection: &mut MySqlConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(sql)).await.map(drop)
}

fn from_error(cause: &sqlx::Error) -> Answer {
    let error = cause.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    match error {
        Some(error) if REFUSALS.contains(&error.number()) => Answer::NotCommitted,
        Some(_) | None => Answer::Lost,
    }
}
