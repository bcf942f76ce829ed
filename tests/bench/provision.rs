//! From the PUT to `succeeded`, against the same servers made by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::Stack;
use tests::broker::{self, DB_LEADER_FOLLOWER};

use crate::floor::{Floor, Topology};

/// Provision once so that caches are as they will be, and return the settings that the product gave its server.
pub(crate) async fn warm_up(stack: &Stack) -> Result<String> {
    let id = broker::new_id();
    stack.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let instances = stack.director.instances(&broker::deployment_of(&id)).await?;
    let root = stack.director.vm_root(instances.first().context("a pair without instances")?)?;
    let path = find(&root, 3).with_context(|| format!("find the server's settings below {}", root.display()))?;
    let settings = std::fs::read_to_string(path).context("read the server's settings")?;
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    Ok(settings)
}

/// The product's times and the floor's, taken in turns.
pub(crate) async fn measure(
    stack: &Stack,
    floor: &Floor,
    plan: &str,
    topology: Topology,
    repetitions: u32,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut product, mut bare) = (Vec::new(), Vec::new());
    for repetition in 1..=repetitions {
        let id = broker::new_id();
        let started = Instant::now();
        stack.broker.provisioned(&id, plan).await?;
        product.push(started.elapsed());
        stack.broker.deprovisioned(&id, plan).await?;
        bare.push(floor.start(topology)?);
        floor.stop()?;
        eprintln!("{} {repetition}/{repetitions}: {:?} against {:?}", topology.plan(), product.last(), bare.last());
    }
    Ok((product, bare))
}

fn find(directory: &Path, depth: u32) -> Option<std::path::PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let here = entries.iter().find(|path| path.extension().is_some_and(|extension| extension == "cnf")).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir() && depth > 0).find_map(|path| find(path, depth - 1)))
}
