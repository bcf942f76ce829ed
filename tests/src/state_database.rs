//! The state database of a broker, as its operator may look into it: a file, or, where the environment names a PostgreSQL
//! server (`tests/with-postgres.sh`), a database of its own there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

/// The server's URL without a database, and its password.
const SERVER: &str = "TANDEM_POSTGRES";
const PASSWORD: &str = "TANDEM_POSTGRES_PASSWORD";

/// Where it is.
#[derive(Clone, Debug)]
pub enum StateDatabase {
    /// SQLite.
    File(PathBuf),
    /// PostgreSQL.
    Server {
        /// `postgres://USER@HOST/DATABASE`.
        url: String,
        /// The user's.
        password: String,
    },
}

impl StateDatabase {
    /// A new one.
    ///
    /// # Errors
    /// The server does not make it.
    pub async fn new(name: &str, file: PathBuf) -> Result<StateDatabase> {
        let Ok(server) = std::env::var(SERVER) else { return Ok(StateDatabase::File(file)) };
        let password = std::env::var(PASSWORD).with_context(|| format!("read {PASSWORD}"))?;
        let admin = StateDatabase::Server { url: format!("{server}/postgres"), password: password.clone() };
        let sql = format!("CREATE DATABASE \"{name}\"");
        admin.connect().await?.execute(AssertSqlSafe(sql)).await.context("make the broker's state database")?;
        Ok(StateDatabase::Server { url: format!("{server}/{name}"), password })
    }

    /// The property `state_database` of the job `mysql-broker`; null for a file.
    #[must_use]
    pub fn property(&self) -> Value {
        match self {
            StateDatabase::File(_) => Value::Null,
            StateDatabase::Server { url, password } => json!({"url": url, "password": password}),
        }
    }

    /// How many rows there are, such as `service_bindings` or `operations WHERE state = 'failed'`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count(&self, rows: &str) -> Result<i64> {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {rows}"));
        let row = self.connect().await?.fetch_one(sql).await.with_context(|| format!("count {rows}"))?;
        row.try_get(0).context("read the count")
    }

    /// Every byte that is kept: the file with its log, or every row of every table in words.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn dump(&self) -> Result<Vec<u8>> {
        match self {
            StateDatabase::File(file) => read_all(file),
            StateDatabase::Server { .. } => self.rows().await,
        }
    }

    async fn rows(&self) -> Result<Vec<u8>> {
        let mut db = self.connect().await?;
        let sql = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
        let tables = db.fetch_all(sql).await.context("list the tables")?;
        ensure!(!tables.is_empty(), "the state database has no table");
        let mut dump = Vec::new();
        for table in tables {
            let table: String = table.try_get(0).context("read a table's name")?;
            let sql = AssertSqlSafe(format!("SELECT row_to_json(t)::text FROM \"{table}\" t"));
            for row in db.fetch_all(sql).await.with_context(|| format!("dump {table}"))? {
                let row: String = row.try_get(0).context("read a row")?;
                dump.extend_from_slice(format!("{table} {row}\n").as_bytes());
            }
        }
        Ok(dump)
    }

    async fn connect(&self) -> Result<AnyConnection> {
        sqlx::any::install_default_drivers();
        let url = match self {
            StateDatabase::File(file) => format!("sqlite://{}", file.display()),
            StateDatabase::Server { url, password } => format!("{url}?password={password}"),
        };
        AnyConnection::connect(&url).await.context("connect to the state database")
    }
}

/// The file, and what SQLite keeps beside it.
fn read_all(file: &Path) -> Result<Vec<u8>> {
    let directory = file.parent().context("find the directory of the state database")?;
    let mut dump = Vec::new();
    for entry in fs::read_dir(directory).context("list the state database's files")? {
        let path = entry.context("list the state database's files")?.path();
        dump.extend(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(dump)
}
