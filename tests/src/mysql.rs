//! MySQL as an application sees it: the credentials of a binding, connections over TCP, and what two servers hold.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

/// Time to get a connection: the stable address may hold one for 30 s while nobody leads.
const CONNECT_LIMIT: Duration = Duration::from_secs(40);

/// The credentials object of a binding.
#[derive(Clone, Deserialize, PartialEq, Eq)]
pub struct Credentials {
    /// The stable address.
    pub hostname: String,
    /// 3306.
    pub port: u16,
    /// The schema.
    pub name: String,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: String,
    /// `mysql://...`.
    pub uri: String,
    /// `jdbc:mysql://...`.
    #[serde(rename = "jdbcUrl")]
    pub jdbc_url: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The credentials in the answer to a bind.
    ///
    /// # Errors
    /// The answer has none, or not all fields.
    pub fn from_answer(body: &Value) -> Result<Credentials> {
        serde_json::from_value(body["credentials"].clone()).context("read the credentials of the binding")
    }

    /// The same user on another address.
    #[must_use]
    pub fn at(&self, host: &str) -> Credentials {
        Credentials { hostname: host.to_owned(), ..self.clone() }
    }

    /// A connection to the credentials' address.
    ///
    /// # Errors
    /// Nobody answers, or the server refuses the user.
    pub async fn connect(&self) -> Result<MySqlConnection> {
        let attempt = tokio::time::timeout(CONNECT_LIMIT, self.options().connect()).await;
        let connection = attempt.with_context(|| format!("{}:{} does not answer", self.hostname, self.port))?;
        connection.with_context(|| format!("connect to {}:{}", self.hostname, self.port))
    }

    /// How to connect.
    #[must_use]
    pub fn options(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .host(&self.hostname)
            .port(self.port)
            .username(&self.username)
            .password(&self.password)
            .database(&self.name)
            // MySQL takes a password over TLS; MariaDB has no certificate unless it is given one.
            .ssl_mode(MySqlSslMode::Preferred)
    }
}

/// Run a statement.
///
/// # Errors
/// The server refuses it; the cause is a [`sqlx::Error`].
pub async fn execute(connection: &mut MySqlConnection, sql: &str) -> Result<u64> {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    Ok(done.with_context(|| format!("run {sql}"))?.rows_affected())
}

/// The first column of the first row, as text.
///
/// # Errors
/// The server refuses the query, or there is no row.
pub async fn text(connection: &mut MySqlConnection, sql: &str) -> Result<String> {
    let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    row.with_context(|| format!("run {sql}"))?.try_get_unchecked(0).with_context(|| format!("read the result of {sql}"))
}

/// The number that the server gave its refusal.
#[must_use]
pub fn error_number(cause: &anyhow::Error) -> Option<u16> {
    let cause = cause.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>())?;
    cause.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(|error| error.number())
}

/// The numbers in the writer's table.
///
/// # Errors
/// The server refuses the query.
pub async fn numbers(connection: &mut MySqlConnection) -> Result<BTreeSet<u64>> {
    let rows = connection.fetch_all("SELECT n FROM numbered_rows").await.context("read the numbered rows")?;
    rows.iter().map(|row| row.try_get_unchecked::<u64, _>(0).context("read a number")).collect()
}

/// `CHECKSUM TABLE` of the writer's table.
///
/// # Errors
/// The server refuses it.
pub async fn checksum(connection: &mut MySqlConnection) -> Result<u64> {
    let row = connection.fetch_one("CHECKSUM TABLE numbered_rows EXTENDED").await.context("take the checksum")?;
    row.try_get_unchecked(1).context("read the checksum")
}
