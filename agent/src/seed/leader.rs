//! The leader's half of a copy of MariaDB: `mariabackup` to its standard output, passed on as it comes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::body::{Body, Bytes};
use futures_util::stream;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};

use super::mariadb::{check_exit, said, start, widen};
use crate::agent::Agent;
use crate::mysql::{ADMIN, Family};
use crate::mysqld::{make_private_directory, remove_file_if_there, write_private};
use crate::report::sentence;

const PIECE: usize = 1 << 20;
const END_LIMIT: Duration = Duration::from_secs(60);

/// A running backup.
struct Backup {
    child: Child,
    output: ChildStdout,
    said: tokio::task::JoinHandle<String>,
    _turn: tokio::sync::OwnedSemaphorePermit,
    _login: Login,
}

/// The file with the password, for as long as it is needed; a password must not be among the arguments.
struct Login(std::path::PathBuf);

impl Drop for Login {
    fn drop(&mut self) {
        let _ = remove_file_if_there(&self.0);
    }
}

/// Start a backup; its stream breaks when the backup fails, and the backup ends when the stream is dropped.
pub(crate) async fn backup(agent: &Agent) -> Result<Body> {
    ensure!(
        agent.database.family().await? == Family::MariaDb,
        "this server is not MariaDB, and a copy asks it for its data itself"
    );
    let turn = Arc::clone(&agent.backups).try_acquire_owned().context("another backup of this server is running")?;
    // The follower begins to read with this log: an earlier one may be damaged, and be why there is a copy.
    agent.database.rotate_binary_log().await?;
    let login = Login(agent.files.backup_login());
    write_private(&login.0, &login_text(agent))?;
    let directory = agent.files.run.join("backup");
    make_private_directory(&directory)?;
    let mut child = start("mariabackup", |command| {
        command
            .arg(format!("--defaults-file={}", login.0.display()))
            .args(["--backup", "--stream=mbstream"])
            .arg(format!("--target-dir={}", directory.display()))
            .stdout(Stdio::piped())
    })?;
    let output = child.stdout.take().context("mariabackup has an output")?;
    widen(&output);
    let said = tokio::spawn(said(&mut child));
    let backup = Backup { child, output, said, _turn: turn, _login: login };
    Ok(Body::from_stream(stream::try_unfold(Some(backup), next_piece)))
}

fn login_text(agent: &Agent) -> String {
    let password = agent.instance.admin_password.reveal().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[mariabackup]\nuser = {ADMIN}\npassword = \"{password}\"\nsocket = {}\ndatadir = {}\ntmpdir = {}\n",
        agent.files.socket.for_agent.display(),
        agent.files.data.display(),
        agent.files.temporary.display()
    )
}

async fn next_piece(backup: Option<Backup>) -> Result<Option<(Bytes, Option<Backup>)>> {
    let Some(mut backup) = backup else { return Ok(None) };
    let mut piece = Vec::with_capacity(PIECE);
    let read = backup.output.read_buf(&mut piece).await.context("read from mariabackup")?;
    if read > 0 {
        return Ok(Some((piece.into(), Some(backup))));
    }
    let Backup { child, said, _turn, _login, .. } = backup;
    let ended = end(child, said).await.inspect_err(|error| tracing::error!("the backup failed: {}", sentence(error)));
    ended.map(|()| None)
}

async fn end(mut child: Child, said: tokio::task::JoinHandle<String>) -> Result<()> {
    let exit = tokio::time::timeout(END_LIMIT, child.wait()).await.context("mariabackup did not end")?;
    check_exit(exit.context("wait for mariabackup")?, "mariabackup", &said.await.unwrap_or_default())
}
