//! What must hold at the end: every promised row is on both servers, and nothing of the instance is left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::mysql::{self, Credentials};
use tests::stack::block;
use tests::wait::{eventually, until};
use tests::writer::Record;
use tests::{Stack, processes};

use crate::failover::Crash;
use crate::instance::Instance;
use crate::scene::Scene;

/// Time for the follower to catch up, and for the last process to go.
const LIMIT: Duration = Duration::from_secs(30);
/// More lost rows than this are counted, not named.
const NAMED: usize = 20;

/// Compare what was promised with what both servers hold.
pub(crate) async fn rows(
    scene: &mut Scene,
    stack: &Stack,
    instance: &Instance,
    user: &Credentials,
    record: &Record,
    crash: &Crash,
) -> Result<()> {
    scene.step("Compare: what the writer was promised, and what both servers hold");
    let pair = instance.show(scene, stack).await?;
    let mut leader = user.at(pair.leader.ip()).connect().await?;
    let mut follower = user.at(pair.follower.ip()).connect().await?;
    let on_leader = mysql::numbers(&mut leader).await?;
    let catching_up = eventually("the follower has what the leader has", LIMIT, async || {
        Ok((mysql::numbers(&mut follower).await? == on_leader).then_some(()))
    });
    scene.patiently("the follower catches up", catching_up).await?;
    let sums = (mysql::checksum(&mut leader).await?, mysql::checksum(&mut follower).await?);
    ensure!(sums.0 == sums.1, "CHECKSUM TABLE differs: {sums:?}");
    let promised = record.promised();
    scene.say(&format!("acknowledged to the writer  {}", promised.len()));
    scene.say(&format!("on the leader               {} (CHECKSUM TABLE {})", on_leader.len(), sums.0));
    scene.say(&format!("on the follower             {} (CHECKSUM TABLE {})", on_leader.len(), sums.1));
    let lost: BTreeSet<u64> = promised.difference(&on_leader).copied().collect();
    explain(scene, record, crash, &on_leader, &lost)?;
    let invented: Vec<&u64> = on_leader.difference(&promised).filter(|row| !record.unknown.contains(row)).collect();
    ensure!(invented.is_empty(), "rows that the writer never sent: {invented:?}");
    let kept = record.unknown.intersection(&on_leader).count();
    scene.say(&format!("answers that never came     {} ({kept} of them were committed)", record.unknown.len()));
    scene.say(&format!("refused as read-only        {}", record.refused));
    Ok(())
}

/// Lost rows are allowed in one place: the newest ones of the leader that was killed while it replicated asynchronously.
fn explain(scene: &Scene, record: &Record, crash: &Crash, kept: &BTreeSet<u64>, lost: &BTreeSet<u64>) -> Result<()> {
    let by_the_killed = |row: &u64| {
        let at = record.acknowledged.iter().find(|(number, _)| number == row).map(|(_, at)| *at);
        at.is_some_and(|at| at >= crash.led_from && at <= crash.killed_at + Duration::from_secs(1))
    };
    let unexplained: Vec<&u64> = lost.iter().filter(|row| !by_the_killed(row)).collect();
    ensure!(unexplained.is_empty(), "acknowledged rows are lost that no crash explains: {unexplained:?}");
    let received = record.acknowledged.iter().filter(|(_, at)| *at <= crash.killed_at).map(|(row, _)| *row);
    let last_kept = received.filter(|row| kept.contains(row)).max().unwrap_or_default();
    ensure!(lost.iter().all(|row| *row > last_kept), "a row older than {last_kept} is lost: {lost:?}");
    let names: Vec<String> = lost.iter().take(NAMED).map(u64::to_string).collect();
    match lost.len() {
        0 => scene.say("lost                        0"),
        count => scene.say(&format!(
            "lost                        {count}: {} (acknowledged by the killed leader, not yet sent to its follower: \
             the price of asynchronous replication)",
            names.join(", ")
        )),
    }
    Ok(())
}

/// Where the instance can be seen on this machine.
pub(crate) struct Traces {
    roots: Vec<PathBuf>,
    cids: Vec<String>,
}

/// Remember where the instance lives, while it does.
pub(crate) async fn traces(stack: &Stack, instance: &Instance) -> Result<Traces> {
    let instances = stack.director.instances(&instance.deployment).await?;
    let roots = instances.iter().map(|one| stack.director.vm_root(one)).collect::<Result<_>>()?;
    let cids = instances.into_iter().map(|one| one.cid.context("an instance without a VM")).collect::<Result<_>>()?;
    Ok(Traces { roots, cids })
}

/// After the deprovision nothing of the instance runs or listens, and after the end of the stack nothing at all.
pub(crate) async fn nothing_is_left(scene: &mut Scene, stack: Stack, traces: &Traces) -> Result<()> {
    scene.step("Nothing is left: no process, no directory, no address in use; the disks are kept as orphans");
    scene.director(&stack.director, &["deployments"]).await?;
    scene.director(&stack.director, &["disks", "--orphaned"]).await?;
    let processes_left = || traces.cids.iter().map(|cid| processes::of_vm(stack.directory(), cid).len()).sum::<usize>();
    until("every process of the instance is gone", LIMIT, || processes_left() == 0).await?;
    let roots: Vec<_> = traces.roots.iter().filter(|root| root.exists()).collect();
    ensure!(roots.is_empty(), "directories are left: {roots:?}");
    // Its Open Service Broker API, and the witness.
    let broker = stack.broker.url.trim_start_matches("http://");
    let address = broker.rsplit_once(':').map_or(broker, |(address, _)| address);
    let is_broker = |listener: &str| listener.rsplit_once(':').is_some_and(|(listener, _)| listener == address);
    let others = || block::listeners(stack.block).into_iter().filter(|one| !is_broker(one)).collect::<Vec<_>>();
    until("nothing but the broker listens", LIMIT, || others().is_empty()).await?;
    scene.say(&format!("processes 0, directories 0, listeners 0 (beside the broker on {broker})"));
    let (directory, number) = (stack.directory().to_owned(), stack.block);
    stack.shutdown()?;
    ensure!(!directory.exists(), "{} is left", directory.display());
    ensure!(processes::of_stack(&directory).is_empty(), "processes of the stack are left");
    ensure!(block::listeners(number).is_empty(), "listeners of the stack are left");
    scene.say(&format!("the stack is removed: {} is gone, 127.{number}.0.0/16 is free", directory.display()));
    Ok(())
}
