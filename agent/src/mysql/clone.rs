//! MySQL's way to copy a server: the server fetches another one's data, into a directory beside its own. That changes nothing
//! of the server, so it stays read-only meanwhile.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent::api::MYSQL_PORT;
use agent::config::Secret;
use anyhow::{Context, Result};
use sqlx::ConnectOptions;
use tokio::time::sleep;

use super::sessions::kill;
use super::statements::{literal, rows, run, text};
use super::{Connection, Database, REPLICATION, STATEMENT_LIMIT, within};

const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Database {
    /// Have the server copy another one's data into a new directory.
    pub(crate) async fn clone_from(
        &self,
        source: IpAddr,
        password: &Secret,
        directory: &Path,
        limit: Duration,
    ) -> Result<()> {
        self.stop_cloning().await?;
        within(limit, "copy the data of the leader", async {
            // Of its own: one whose statement is cut off is of no use to anybody else.
            let mut connection = self.pool.connect_options().connect().await?;
            start(&mut connection, source, password, directory).await
        })
        .await
    }

    /// End the copy that an agent was cut off from; the server goes on with it.
    pub(crate) async fn stop_cloning(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "end an earlier copy", async {
            let mut connection = self.connection().await?;
            loop {
                let cloning = cloning_sessions(&mut connection).await?;
                if cloning.is_empty() {
                    return Ok(());
                }
                for id in cloning {
                    kill(&mut connection, id).await?;
                }
                sleep(LOOK_AGAIN).await;
            }
        })
        .await
    }
}

async fn cloning_sessions(connection: &mut Connection) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for row in rows(connection, "SHOW PROCESSLIST").await? {
        if text(&row, "Info")?.starts_with("CLONE INSTANCE") {
            found.push(text(&row, "Id")?.parse().context("read the id of a session")?);
        }
    }
    Ok(found)
}

async fn start(connection: &mut Connection, source: IpAddr, password: &Secret, directory: &Path) -> Result<()> {
    let directory = directory.to_str().context("the directory's name is UTF-8")?;
    run(connection, &format!("SET GLOBAL clone_valid_donor_list='{source}:{MYSQL_PORT}'")).await?;
    let clone = format!(
        "CLONE INSTANCE FROM '{REPLICATION}'@'{source}':{MYSQL_PORT} IDENTIFIED BY {} DATA DIRECTORY={}",
        literal(password.reveal()),
        literal(directory)
    );
    run(connection, &clone).await
}
