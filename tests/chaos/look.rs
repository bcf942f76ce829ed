//! What two servers say of themselves, for the report on a promise that was not kept: who waits for what, and how replication
//! stands.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::mysql::MySqlConnection;
use sqlx::{Column, Executor, Row};
use tests::history::Side;
use tokio::time::timeout;

use crate::pair::Pair;

/// A server that hangs says nothing.
const LIMIT: Duration = Duration::from_secs(5);
const QUESTIONS: [&str; 3] = ["SHOW FULL PROCESSLIST", "SHOW REPLICA STATUS", "SHOW GLOBAL STATUS LIKE '%semi%sync%'"];

/// Print it.
pub(crate) async fn print(pair: &Pair) {
    for side in Side::BOTH {
        let said = timeout(LIMIT, ask(pair, side)).await.context("no answer").flatten();
        println!("--- the server {side:?} of pair {}:\n{}", pair.number, said.unwrap_or_else(|why| format!("{why:#}")));
    }
}

async fn ask(pair: &Pair, side: Side) -> Result<String> {
    let mut connection = pair.admin(side).await?;
    let mut said = String::new();
    for question in QUESTIONS {
        said += &rows(&mut connection, question).await.with_context(|| question)?;
    }
    Ok(said)
}

/// What is empty says nothing.
async fn rows(connection: &mut MySqlConnection, question: &'static str) -> Result<String> {
    let rows = connection.fetch_all(sqlx::raw_sql(question)).await?;
    let row = |row: &sqlx::mysql::MySqlRow| {
        let values = row.columns().iter().filter_map(|column| {
            let value: Option<String> = row.try_get_unchecked(column.ordinal()).ok()?;
            value.filter(|value| !value.is_empty()).map(|value| format!("{}={value}", column.name()))
        });
        values.collect::<Vec<_>>().join(" ") + "\n"
    };
    Ok(rows.iter().map(row).collect())
}
