//! Copies the leader's data to this server, beside its own data directory, and puts the copy in its place in one rename. A
//! crash before that rename leaves the old data, one after it the new; what is half made is removed at the next start. How
//! a copy is made is the server family's own: `seed/mariadb.rs`, `seed/mysql8.rs`.

mod leader;
mod mariadb;
mod mysql8;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, RenameFlags};

use crate::agent::Agent;
use crate::mysql::Family;
use crate::mysqld::{make_incoming, remove_if_there, replaced};
use crate::report::Report;
use crate::topology::Server;
pub(crate) use leader::backup;
pub(crate) use mariadb::{check_exit, said};

/// For the whole copy.
const COPY_LIMIT: Duration = Duration::from_secs(24 * 3600);
const START_LIMIT: Duration = Duration::from_secs(600);
const SAY_AGAIN: Duration = Duration::from_secs(2);
/// What must stay free on the disk.
const RESERVE_BYTES: u64 = 64 << 20;

/// Replace this server's data by a copy of the leader's.
pub(crate) async fn copy_from_leader(agent: &Agent, leader: &Server, report: &Report) -> Result<()> {
    let (files, run) = (agent.files.clone(), rand::random());
    let made = tokio::task::spawn_blocking(move || make_incoming(&files, run)).await;
    let incoming = made.context("make a directory for the copy")??;
    let copied = copy(agent, leader, &incoming, report).await;
    if copied.is_ok() {
        put_in_place(agent, &incoming).await?;
    }
    // The half copy, or the data that was replaced.
    let removed =
        tokio::task::spawn_blocking(move || remove_if_there(&incoming)).await.context("remove the old data")?;
    copied.and(removed)
}

async fn copy(agent: &Agent, leader: &Server, incoming: &Path, report: &Report) -> Result<()> {
    report.say(format!("Copying the data of {} to {}", leader.instance, agent.instance.name()));
    match agent.database.family().await? {
        Family::MariaDb => mariadb::copy(agent, leader, incoming, report).await?,
        Family::MySql => mysql8::copy(agent, incoming, report).await?,
    }
    write_to_disk(incoming.to_owned()).await
}

/// Write what is there of the copy to the disk.
async fn write_to_disk(incoming: PathBuf) -> Result<()> {
    let directory = std::fs::File::open(incoming).context("open the copy")?;
    tokio::task::spawn_blocking(move || rustix::fs::syncfs(&directory)).await?.context("write the copy to the disk")
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
