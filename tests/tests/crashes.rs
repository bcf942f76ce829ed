//! What dies and what that costs: a server, an agent, a whole VM. The resurrector is off here; `director.rs` has it on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE};
use tests::director::Instance;
use tests::processes::{self, Process};
use tests::service::Pair;
use tests::stack::Wiring;
use tests::wait::until;
use tests::{Service, Stack, Writer, eventually, mysql};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

async fn stack() -> Result<&'static Stack> {
    STACK
        .get_or_try_init(async || {
            let stack = Stack::start(Wiring::Direct).await?;
            stack.director.set_resurrection(false).await?;
            Ok(stack)
        })
        .await
}

fn process(stack: &Stack, instance: &Instance, program: &str) -> Result<Process> {
    let cid = instance.cid.as_deref().context("an instance without a VM")?;
    let found = processes::of_vm(stack.directory(), cid).into_iter().find(|process| process.program == program);
    found.with_context(|| format!("{program} does not run on {}", instance.slug()))
}

/// A whole VM, its supervisor first.
fn kill_vm(stack: &Stack, instance: &Instance) -> Result<()> {
    let cid = instance.cid.as_deref().context("no VM")?;
    let mut victims = processes::of_vm(stack.directory(), cid);
    victims.sort_by_key(|process| process.program != "tandem-director");
    victims.iter().for_each(|process| processes::kill(process.pid));
    Ok(())
}

#[tokio::test]
async fn a_leader_whose_server_is_killed_leads_again_with_every_row() -> Result<()> {
    let stack = stack().await?;
    let service = Service::pair_on(stack).await?;
    let user = service.bind().await?.credentials;
    let leader = service.pair().await?.leader;
    let writer = Writer::start(&user, PAUSE).await?;
    writer.goes_on(100, LIMIT).await?;
    let killed = process(stack, &leader, "mariadbd")?;

    processes::kill(killed.pid);
    writer.goes_on(100, LIMIT).await?;

    assert_ne!(process(stack, &leader, "mariadbd")?.pid, killed.pid);
    assert_eq!(service.pair().await?.leader.id, leader.id);
    let record = writer.finish().await?;
    let kept = mysql::numbers(&mut user.connect().await?).await?;
    let lost: Vec<_> = record.promised().difference(&kept).copied().collect();
    assert_eq!(lost, Vec::<u64>::new());
    service.delete().await
}

#[tokio::test]
async fn a_follower_whose_server_is_killed_follows_again() -> Result<()> {
    let stack = stack().await?;
    let service = Service::pair_on(stack).await?;
    let user = service.bind().await?.credentials;
    let Pair { leader, follower } = service.pair().await?;
    let writer = Writer::start(&user, PAUSE).await?;
    let killed = process(stack, &follower, "mariadbd")?;

    processes::kill(killed.pid);
    until("the agent starts the server again", LIMIT, || {
        process(stack, &follower, "mariadbd").is_ok_and(|process| process.pid != killed.pid)
    })
    .await?;

    let pair = eventually("the pair is whole again", LIMIT, async || service.pair().await.map(Some)).await?;
    assert_eq!(pair.leader.id, leader.id);
    let written = *writer.finish().await?.promised().last().context("nothing was written")?;
    eventually("the follower has the last row", LIMIT, async || {
        let rows = mysql::numbers(&mut user.at(follower.ip()).connect().await?).await?;
        Ok(rows.contains(&written).then_some(()))
    })
    .await?;
    service.delete().await
}

#[tokio::test]
async fn a_server_stays_up_while_its_agent_is_killed_and_started_again() -> Result<()> {
    let stack = stack().await?;
    let service = Service::pair_on(stack).await?;
    let user = service.bind().await?.credentials;
    let leader = service.pair().await?.leader;
    let mut session = user.at(leader.ip()).connect().await?;
    let server = process(stack, &leader, "mariadbd")?;
    let agent = process(stack, &leader, "mysql-agent")?;

    processes::kill(agent.pid);
    let pair = eventually("the new agent reports the same leader", LIMIT, async || {
        let is_new = process(stack, &leader, "mysql-agent")?.pid != agent.pid;
        Ok(Some(service.pair().await?).filter(|_| is_new))
    })
    .await?;

    assert_eq!(pair.leader.id, leader.id);
    assert_eq!(process(stack, &leader, "mariadbd")?, server);
    assert_eq!(mysql::text(&mut session, "SELECT 'same session'").await?, "same session");
    mysql::execute(&mut user.connect().await?, "CREATE TABLE still_writable (n INT)").await?;
    service.delete().await
}

#[tokio::test]
async fn a_killed_leader_loses_only_its_newest_rows_and_comes_back_as_follower() -> Result<()> {
    let stack = stack().await?;
    let service = Service::pair_on(stack).await?;
    let user = service.bind().await?.credentials;
    let Pair { leader: old, follower: new } = service.pair().await?;
    let writer = Writer::start(&user, PAUSE).await?;
    writer.goes_on(200, LIMIT).await?;

    let killed_at = Instant::now();
    kill_vm(stack, &old)?;
    service.errand("make-leader", &new).await?.succeeded()?;
    writer.goes_on(100, LIMIT).await?;
    let arguments = ["-d", &service.deployment(), "recreate", "--no-converge", "--fix", &old.slug()].map(str::to_owned);
    stack.director.cli(&arguments).await?.succeeded()?;
    service.errand("configure-leader-follower", &old).await?.succeeded()?;

    let pair = service.pair().await?;
    assert_eq!((&pair.leader.id, &pair.follower.id), (&new.id, &old.id));
    assert_eq!(pair.follower.ips, old.ips);
    let record = writer.finish().await?;
    let kept = mysql::numbers(&mut user.connect().await?).await?;
    let lost: Vec<u64> = record.promised().difference(&kept).copied().collect();
    let before: Vec<u64> = record.acknowledged.iter().filter(|(_, at)| *at <= killed_at).map(|(row, _)| *row).collect();
    ensure!(before.ends_with(&lost), "lost rows are not the newest of the killed leader: {lost:?}");
    service.delete().await
}

#[tokio::test]
async fn a_pair_whose_follower_is_lost_becomes_one_server_with_every_row() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    shrinks_without_its_follower(service).await
}

#[tokio::test]
async fn a_pair_whose_commits_wait_for_a_lost_follower_becomes_one_server_with_every_row() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let in_sync = json!({"parameters": {"replication_mode": "semi-sync"}});
    shrinks_without_its_follower(service.updated(DB_LEADER_FOLLOWER, &in_sync).await?).await
}

async fn shrinks_without_its_follower(service: Service<'_>) -> Result<()> {
    let user = service.bind().await?.credentials;
    let Pair { leader, follower } = service.pair().await?;
    let writer = Writer::start(&user, PAUSE).await?;
    writer.goes_on(100, LIMIT).await?;
    kill_vm(service.stack, &follower)?;

    let service = service.updated(DB_SINGLE, &json!({"plan_id": DB_SINGLE})).await?;

    let left: Vec<_> = service.instances().await?.into_iter().map(|instance| instance.id).collect();
    assert_eq!(left, [leader.id.as_str()]);
    writer.goes_on(100, LIMIT).await?;
    let record = writer.finish().await?;
    let kept = mysql::numbers(&mut user.connect().await?).await?;
    let lost: Vec<_> = record.promised().difference(&kept).copied().collect();
    assert_eq!(lost, Vec::<u64>::new());
    service.delete().await
}
