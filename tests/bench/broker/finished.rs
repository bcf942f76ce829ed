//! Many instances in the state database that nobody works on: rows like those of one that was really made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tests::Stack;
use tests::stack::BROKER_DEPLOYMENT;

/// The broker's state database.
pub(super) fn database(stack: &Stack) -> Result<PathBuf> {
    let config = stack.director.job_config(BROKER_DEPLOYMENT, "mysql-broker")?;
    let root = config["spec"]["root"].as_str().context("read the root of the broker's VM")?;
    Ok(Path::new(root).join("store/mysql-broker/state.db"))
}

/// Copy an instance with its operations so many times, under other ids.
pub(super) async fn multiply(database: &Path, id: &str, times: u32) -> Result<()> {
    eprintln!("copying a finished instance {times} times");
    let mut db = SqliteConnectOptions::new().filename(database).connect().await.context("open the state database")?;
    let mut tx = db.begin_with("BEGIN IMMEDIATE").await.context("begin to copy")?;
    for (table, key) in [("service_instances", "id"), ("operations", "instance_id")] {
        let columns = columns(&mut tx, table).await?;
        // What must be another one in every copy gets a number; everything else stays.
        let value = |name: &String| match name.as_str() {
            "certificate_name" => format!("{name} || '-' || n"),
            "id" | "instance_id" => format!("{name} || '-' || n"),
            _ => name.clone(),
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let sql = format!(
            "WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < {times}) \
             INSERT INTO {table} ({}) SELECT {} FROM {table}, copies WHERE {key} = '{id}'",
            columns.join(", "),
            values.join(", ")
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await.with_context(|| format!("copy rows of {table}"))?;
    }
    tx.commit().await.context("keep the copies")?;
    db.close().await.context("close the state database")
}

async fn columns(db: &mut SqliteConnection, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_info($1)";
    sqlx::query_scalar(sql).bind(table).fetch_all(db).await.with_context(|| format!("list the columns of {table}"))
}
