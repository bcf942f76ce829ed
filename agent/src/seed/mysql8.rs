//! A copy of a MySQL server's data: the server fetches it from the leader's server itself (`CLONE`), into a directory of
//! its own and not over its own data. So the server stays read-only and goes on, and a copy that is cut off changes nothing.
//! The copy brings the leader's history along.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::time::{Instant, timeout};

use super::{COPY_LIMIT, SAY_AGAIN, check_space};
use crate::agent::Agent;
use crate::report::{Report, sentence};

/// Directories in directories of a data directory: schemas, and the server's own.
const DEPTH: usize = 4;

/// Fill the directory with a copy of the leader's data.
pub(super) async fn copy(agent: &Agent, incoming: &Path, report: &Report) -> Result<()> {
    // The server makes it, and insists on that.
    std::fs::remove_dir(incoming).context("leave the directory for the copy to the server")?;
    let copied = copy_with_progress(agent, incoming, report).await;
    if copied.is_err()
        && let Err(error) = agent.database.stop_cloning().await
    {
        tracing::warn!("a copy of no use may go on: {}", sentence(&error));
    }
    copied
}

async fn copy_with_progress(agent: &Agent, incoming: &Path, report: &Report) -> Result<()> {
    let pair = agent.pair()?;
    let begun = Instant::now();
    let cloned = agent.database.clone_from(pair.address, &pair.replication_password, incoming, COPY_LIMIT);
    let mut cloned = Box::pin(cloned);
    loop {
        match timeout(SAY_AGAIN, &mut cloned).await {
            Ok(done) => {
                done?;
                report.say(format!("Copied {} MB", bytes_in(incoming, DEPTH) >> 20));
                return Ok(());
            }
            Err(_) => {
                check_space(incoming.parent().context("the copy has a place")?)?;
                let megabytes = bytes_in(incoming, DEPTH) >> 20;
                report.say(format!("Copied {megabytes} MB in {} s", begun.elapsed().as_secs()));
            }
        }
    }
}

/// What is written of a copy that grows meanwhile; what cannot be read does not count.
fn bytes_in(directory: &Path, depth: usize) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(file) if file.is_dir() && depth > 0 => bytes_in(&entry.path(), depth - 1),
        Ok(file) => file.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
