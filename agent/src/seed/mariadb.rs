//! A copy of a MariaDB server's data: a physical backup, streamed from agent to agent, unpacked and prepared here. It does
//! not bring the leader's history along; that is read before the copy and left in it for the first start.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::{COPY_LIMIT, SAY_AGAIN, check_space, write_to_disk};
use crate::agent::Agent;
use crate::gtid::History;
use crate::report::Report;
use crate::topology::Server;

/// A leader that sends nothing for this long has stopped sending.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// For making the copy consistent.
const PREPARE_LIMIT: Duration = Duration::from_secs(3600);
/// The disk is asked again after as much as this.
const CHECK_BYTES: u64 = 16 << 20;

/// Fill the directory with a copy of the leader's data.
pub(super) async fn copy(agent: &Agent, leader: &Server, incoming: &Path, report: &Report) -> Result<()> {
    let bytes = timeout(COPY_LIMIT, receive(agent, incoming, report)).await.context("the copy took too long")??;
    report.say(format!("Copied {} MB; preparing them", bytes >> 20));
    prepare(agent, incoming, report).await?;
    let written = leader.executed.clone().context("read the leader's history")?;
    let history = written.united_with(&position_of(incoming)?);
    clean(incoming)?;
    let name = agent.files.copied();
    let name = name.file_name().context("the file has a name")?;
    std::fs::write(incoming.join(name), history.in_order()).context("write the copied history")
}

async fn receive(agent: &Agent, incoming: &Path, report: &Report) -> Result<u64> {
    let mut stream = Box::pin(agent.pair()?.client.backup().await.context("the leader does not give a backup")?);
    let mut unpacker = start("mbstream", |command| command.arg("-x").arg("-C").arg(incoming).stdin(Stdio::piped()))?;
    let mut input = unpacker.stdin.take().context("mbstream has an input")?;
    widen(&input);
    let (mut bytes, mut checked, mut spoken, mut is_whole) = (0, 0, Instant::now(), true);
    // What is on the disk already need not be waited for in the end.
    let mut writing = tokio::spawn(write_to_disk(incoming.to_owned()));
    while let Some(chunk) = timeout(SILENCE_LIMIT, stream.next()).await.context("the leader stopped sending")? {
        let chunk = chunk.context("the leader broke the copy off; its log says why")?;
        if timeout(SILENCE_LIMIT, input.write_all(&chunk)).await.context("mbstream stopped unpacking")?.is_err() {
            is_whole = false;
            break;
        }
        bytes += chunk.len() as u64;
        if bytes - checked > CHECK_BYTES || checked == 0 {
            checked = bytes;
            check_space(incoming)?;
            if writing.is_finished() {
                writing = tokio::spawn(write_to_disk(incoming.to_owned()));
            }
        }
        if spoken.elapsed() > SAY_AGAIN {
            spoken = Instant::now();
            report.say(format!("Copied {} MB", bytes >> 20));
        }
    }
    drop(input);
    let said = finish(unpacker, "mbstream", SILENCE_LIMIT).await?;
    // Its exit is the one of success also where it could not make a file.
    ensure!(is_whole, "mbstream ended before the copy did: {}", last_lines(&said));
    Ok(bytes)
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
            Ok(done) => return done.map(drop),
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

/// Start a program of the server's packages; it ends with its handle.
pub(super) fn start(program: &'static str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<Child> {
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

/// Have a pipe hold as much as it may, so that neither side waits for the other one at every few pages.
pub(super) fn widen(pipe: impl AsFd) {
    const BYTES: usize = 1 << 20;
    // Where more is not allowed, it holds less.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, BYTES);
}

/// Wait for a program's end; what it said, where it ended well.
async fn finish(mut child: Child, name: &str, limit: Duration) -> Result<String> {
    let said = said(&mut child);
    let (exit, said) = timeout(limit, async { tokio::join!(child.wait(), said) })
        .await
        .with_context(|| format!("{name} did not end within {} s", limit.as_secs()))?;
    check_exit(exit.with_context(|| format!("wait for {name}"))?, name, &said)?;
    Ok(said)
}

/// The last of what a program writes to its standard error, read to the end so that it is never held up.
pub(crate) fn said(child: &mut Child) -> impl Future<Output = String> + Send + use<> {
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

pub(crate) fn check_exit(exit: ExitStatus, name: &str, said: &str) -> Result<()> {
    if exit.success() {
        return Ok(());
    }
    Err(anyhow!("{name} failed ({exit}): {}", last_lines(said)))
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}
