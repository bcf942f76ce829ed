//! The director's own crashes, its resurrector and what it keeps of an instance. One test at a time: they share a
//! director and stop it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::broker::{self, DB_LEADER_FOLLOWER, DB_SINGLE};
use tests::processes;
use tests::stack::Wiring;
use tests::wait::until;
use tests::{Service, Stack, Writer, eventually, mysql};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

static STACK: OnceCell<(Stack, Mutex<()>)> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

async fn stack() -> Result<(&'static Stack, MutexGuard<'static, ()>)> {
    let start = async || Ok::<_, anyhow::Error>((Stack::start(Wiring::Direct).await?, Mutex::default()));
    let (stack, turn) = STACK.get_or_try_init(start).await?;
    Ok((stack, turn.lock().await))
}

async fn end(pid: i32, how: fn(i32)) -> Result<()> {
    how(pid);
    until("the director's process is gone", LIMIT, || !processes::is_alive(pid)).await
}

#[tokio::test]
async fn a_director_that_is_started_again_finds_its_vms_untouched() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let user = service.bind().await?.credentials;
    let before = service.instances().await?;
    let instance = before.first().context("no instance")?;
    let writer = Writer::start(&user, PAUSE).await?;
    let mut session = user.at(instance.ip()).connect().await?;
    let vms = || {
        let mut all = processes::of_stack(stack.directory());
        all.retain(|process| process.vm.is_some());
        all.sort_by_key(|process| process.pid);
        all
    };
    let running = vms();

    for how in [processes::terminate as fn(i32), processes::kill] {
        end(stack.director_pid()?, how).await?;
        assert_eq!(mysql::text(&mut session, "SELECT 'untouched'").await?, "untouched");
        stack.start_director().await?;
    }

    assert_eq!(vms(), running);
    let after = service.instances().await?;
    assert_eq!((&after[0].cid, &after[0].ips), (&instance.cid, &instance.ips));
    assert_eq!(user.hostname, service.bind().await?.credentials.hostname);
    writer.goes_on(100, LIMIT).await?;
    writer.finish().await?;
    service.delete().await
}

#[tokio::test]
async fn a_director_killed_in_the_middle_of_a_provision_only_delays_it() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let id = broker::new_id();
    let deployment = broker::deployment_of(&id);
    assert_eq!(stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?.status, 202);
    eventually("the director works on it", LIMIT, async || {
        let tasks = stack.director.get("/tasks?state=processing&verbose=1").await?;
        Ok(tasks.as_array().into_iter().flatten().any(|task| task["deployment"] == deployment.as_str()).then_some(()))
    })
    .await?;

    end(stack.director_pid()?, processes::kill).await?;
    stack.start_director().await?;

    let end = stack.broker.settled(&id).await?;
    ensure!(end["state"] == "succeeded", "the provision ended as {end}");
    let found = stack.director.deployments().await?;
    assert_eq!(found.iter().filter(|name| **name == deployment).count(), 1);
    assert_eq!(stack.director.instances(&deployment).await?.len(), 2);
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}

#[tokio::test]
async fn a_vm_whose_processes_are_gone_is_resurrected_with_its_disk_and_address() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let user = service.bind().await?.credentials;
    let before = service.instances().await?.pop().context("no instance")?;
    let writer = Writer::start(&user, PAUSE).await?;
    writer.goes_on(50, LIMIT).await?;
    let cid = before.cid.clone().context("no VM")?;
    let mut victims = processes::of_vm(stack.directory(), &cid);
    victims.sort_by_key(|process| process.program != "tandem-director");

    victims.iter().for_each(|process| processes::kill(process.pid));
    writer.goes_on(50, LIMIT).await?;

    let after = service.instances().await?.pop().context("no instance")?;
    assert_ne!(after.cid, before.cid);
    assert_eq!((&after.id, &after.ips, &after.az), (&before.id, &before.ips, &before.az));
    let record = writer.finish().await?;
    let kept = mysql::numbers(&mut user.connect().await?).await?;
    let lost: Vec<_> = record.promised().difference(&kept).copied().collect();
    assert_eq!(lost, Vec::<u64>::new());
    service.delete().await
}

#[tokio::test]
async fn a_recreated_instance_keeps_its_name_address_and_data() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let user = service.bind().await?.credentials;
    let before = service.instances().await?.pop().context("no instance")?;
    mysql::execute(&mut user.connect().await?, "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)").await?;

    service.act("recreate", &before).await?;

    let after = service.instances().await?.pop().context("no instance")?;
    ensure!(after.cid != before.cid, "a recreated VM is another VM");
    assert_eq!((&after.id, &after.ips, &after.az), (&before.id, &before.ips, &before.az));
    assert_eq!(mysql::text(&mut user.connect().await?, "SELECT CAST(n AS CHAR) FROM kept").await?, "7");
    service.delete().await
}
