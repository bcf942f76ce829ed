//! Copies the leader's data to this server: a physical backup, streamed from agent to agent, unpacked beside the data
//! directory, prepared, and put in its place in one rename. A crash before that rename leaves the old data, one after it
//! the new; what is half made is removed at the next start.

mod leader;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::StreamExt;
use rustix::fs::{CWD, RenameFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::agent::Agent;
use crate::gtid::History;
use crate::mysqld::{make_incoming, remove_if_there, replaced};
use crate::report::Report;
use crate::topology::Server;
pub(crate) use leader::backup;

/// A leader that sends nothing for this long has stopped sending.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// For the whole copy, and for making it consistent.
const COPY_LIMIT: Duration = Duration::from_secs(24 * 3600);
const PREPARE_LIMIT: Duration = Duration::from_secs(3600);
const START_LIMIT: Duration = Duration::from_secs(600);
const SAY_AGAIN: Duration = Duration::from_secs(2);
/// What must stay free on the disk.
const RESERVE_BYTES: u64 = 64 << 20;
/// The disk is asked again after as much as this.
const CHECK_BYTES: u64 = 16 << 20;

/// Replace this server's data by a copy of the leader's.
pub(crate) async fn copy_from_leader(agent: &Agent, leader: &Server, report: &Report) -> Result<()> {
    let (files, run) = (agent.files.clone(), rand::random());
    let made = tokio::task::spawn_blocking(move || make_incoming(&files, run)).await;
    let incoming = made.context("make a directory for the copy")??;
    let copied = copy_and_prepare(agent, leader, &incoming, report).await;
    if copied.is_ok() {
        put_in_place(agent, &incoming).await?;
    }
    // The half copy, or the data that was replaced.
    let removed =
        tokio::task::spawn_blocking(move || remove_if_there(&incoming)).await.context("remove the old data")?;
    copied.and(removed)
}

async fn copy_and_prepare(agent: &Agent, leader: &Server, incoming: &Path, report: &Report) -> Result<()> {
    report.say(format!("Copying the data of {} to {}", leader.instance, agent.instance.name()));
    let bytes = timeout(COPY_LIMIT, receive(agent, incoming, report)).await.context("the copy took too long")??;
    report.say(format!("Copied {} MB; preparing them", bytes >> 20));
    prepare(agent, incoming, report).await?;
    let written = leader.executed.clone().context("read the leader's history")?;
    let history = written.united_with(&position_of(incoming)?);
    clean(incoming)?;
    let name = agent.files.copied();
    let name = name.file_name().context("the file has a name")?;
    std::fs::write(incoming.join(name), history.in_order()).context("write the copied history")?;
    let directory = std::fs::File::open(incoming).context("open the copy")?;
    tokio::task::spawn_blocking(move || rustix::fs::syncfs(&directory)).await?.context("write the copy to the disk")
}

async fn receive(agent: &Agent, incoming: &Path, report: &Report) -> Result<u64> {
    let mut stream = Box::pin(agent.pair()?.client.backup().await.context("the leader does not give a backup")?);
    let mut unpacker = start("mbstream", |command| command.arg("-x").arg("-C").arg(incoming).stdin(Stdio::piped()))?;
    let mut input = unpacker.stdin.take().context("mbstream has an input")?;
    let (mut bytes, mut checked, mut spoken) = (0, 0, Instant::now());
    while let Some(chunk) = timeout(SILENCE_LIMIT, stream.next()).await.context("the leader stopped sending")? {
        let chunk = chunk.context("the leader broke the copy off; its log says why")?;
        if timeout(SILENCE_LIMIT, input.write_all(&chunk)).await.context("mbstream stopped unpacking")?.is_err() {
            break; // it has ended; its exit says why
        }
        bytes += chunk.len() as u64;
        if bytes - checked > CHECK_BYTES || checked == 0 {
            checked = bytes;
            check_space(incoming)?;
        }
        if spoken.elapsed() > SAY_AGAIN {
            spoken = Instant::now();
            report.say(format!("Copied {} MB", bytes >> 20));
        }
    }
    drop(input);
    finish(unpacker, "mbstream", SILENCE_LIMIT).await?;
    Ok(bytes)
}

fn check_space(directory: &Path) -> Result<()> {
    let disk = rustix::fs::statvfs(directory).context("ask for the free space of the disk")?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free > RESERVE_BYTES,
        "the persistent disk has only {} MB left and cannot hold a copy of the leader's data; give the plan a larger one",
        free >> 20
    );
    Ok(())
}

async fn prepare(agent: &Agent, incoming: &Path, report: &Report) -> Result<()> {
    let prepare = start("mariabackup", |command| {
        command
            .args(["--no-defaults", "--prepare"])
            .arg(format!("--target-dir={}", incoming.display()))
            .arg(format!("--tmpdir={}", agent.files.temporary.display()))
    })?;
    let begun = Instant::now();
    let mut finished = Box::pin(finish(prepare, "mariabackup --prepare", PREPARE_LIMIT));
    loop {
        match timeout(SAY_AGAIN, &mut finished).await {
            Ok(done) => return done,
            Err(_) => report.say(format!("Preparing the copy for {} s", begun.elapsed().as_secs())),
        }
    }
}

/// The position of the copy: `file offset gtid`. The backup writes it last, so it is there only when all is.
fn position_of(incoming: &Path) -> Result<History> {
    let file = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"].map(|name| incoming.join(name));
    let file =
        file.iter().find(|file| file.is_file()).context("the copy does not say at which position it was made")?;
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    Ok(text.split_whitespace().nth(2).unwrap_or_default().parse()?)
}

/// The backup's own notes are not part of a data directory.
fn clean(incoming: &Path) -> Result<()> {
    for entry in std::fs::read_dir(incoming).context("look through the copy")? {
        let entry = entry.context("look through the copy")?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ["xtrabackup_", "mariadb_backup_", "backup-my"].iter().any(|prefix| name.starts_with(prefix)) {
            std::fs::remove_file(entry.path()).with_context(|| format!("remove {name} from the copy"))?;
        }
    }
    Ok(())
}

async fn put_in_place(agent: &Agent, incoming: &Path) -> Result<()> {
    let resting = agent.mysqld.rest().await;
    let data: PathBuf = agent.files.data.clone();
    match rustix::fs::renameat_with(CWD, incoming, CWD, &data, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // Not on every file system. After a crash between the first two renames the next start undoes the first one.
        Err(_) => {
            let replaced = replaced(&agent.files);
            std::fs::rename(&data, &replaced).context("move the old data away")?;
            std::fs::rename(incoming, &data).context("move the copy to its place")?;
            std::fs::rename(&replaced, incoming).context("move the old data away")?;
        }
    }
    drop(resting);
    agent.mysqld.until_up(START_LIMIT).await.context("start the server on the copied data")
}

/// Start a program of the server's packages; it ends with its handle.
fn start(program: &'static str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<Child> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    match arguments(&mut command).spawn() {
        Ok(child) => Ok(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("cannot find the program {program}; install the Debian package mariadb-backup")
        }
        Err(error) => Err(error).with_context(|| format!("start {program}")),
    }
}

async fn finish(mut child: Child, name: &str, limit: Duration) -> Result<()> {
    let said = said(&mut child);
    let (exit, said) = timeout(limit, async { tokio::join!(child.wait(), said) })
        .await
        .with_context(|| format!("{name} did not end within {} s", limit.as_secs()))?;
    check_exit(exit.with_context(|| format!("wait for {name}"))?, name, &said)
}

/// The last of what a program writes to its standard error, read to the end so that it is never held up.
fn said(child: &mut Child) -> impl Future<Output = String> + Send + use<> {
    let stderr = child.stderr.take();
    async move {
        const KEPT: usize = 2000;
        let Some(mut stderr) = stderr else { return String::new() };
        let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..read]);
            kept.drain(..kept.len().saturating_sub(KEPT));
        }
        String::from_utf8_lossy(&kept).into_owned()
    }
}

fn check_exit(exit: ExitStatus, name: &str, said: &str) -> Result<()> {
    if exit.success() {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().rev().take(3).collect();
    Err(anyhow!("{name} failed ({exit}): {}", lines.into_iter().rev().collect::<Vec<_>>().join("; ")))
}
