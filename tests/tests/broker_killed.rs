//! The broker dies at every step of a provision, of a change of plan and of a deprovision, and a director hangs on one of two instances. The
//! steps are the broker's own requests, so a new step is tested without a change here.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::broker::{self, DB_LEADER_FOLLOWER, DB_SINGLE};
use tests::processes;
use tests::proxy::{Hold, Proxy, Seen, Side, Which};
use tests::stack::Wiring;
use tests::steps::{Step, hold, kills_of};
use tests::wait::until;
use tests::{Stack, eventually};
use tokio::sync::{MutexGuard, OnceCell};

/// The stack, and whose turn it is: a killed broker is everybody's.
static STACK: OnceCell<(Stack, tokio::sync::Mutex<()>)> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);

async fn stack() -> Result<(&'static Stack, MutexGuard<'static, ()>)> {
    let start = async || Ok::<_, anyhow::Error>((Stack::start(Wiring::ThroughProxy).await?, Default::default()));
    let (stack, turn) = STACK.get_or_try_init(start).await?;
    Ok((stack, turn.lock().await))
}

fn proxy(stack: &Stack) -> Result<&Proxy> {
    stack.proxy.as_ref().context("the stack has no proxy")
}

/// Kill the broker once the step is held. False where the operation ends without coming by.
async fn kill_at(stack: &Stack, id: &str, hold: Hold) -> Result<bool> {
    let reached = eventually("the step is held or the operation ends", LIMIT, async || {
        let answer = stack.broker.last_operation(id).await?;
        let ended = answer.status == 410 || answer.body["state"] != "in progress";
        Ok((hold.is_reached() || ended).then(|| hold.is_reached()))
    });
    if !reached.await? {
        return Ok(false);
    }
    let pid = broker_pid(stack)?;
    processes::kill(pid);
    until("the broker is dead", LIMIT, || !processes::is_alive(pid)).await?;
    hold.release();
    eventually("a new broker answers", LIMIT, async || {
        Ok((stack.broker.get("/v2/catalog").await?.status == 200).then_some(()))
    })
    .await?;
    Ok(true)
}

fn broker_pid(stack: &Stack) -> Result<i32> {
    let all = processes::of_stack(stack.directory());
    let found = all.iter().find(|process| process.program == "mysql-broker");
    found.map(|process| process.pid).context("no broker runs")
}

/// How often the director did what the broker asked for.
async fn done(stack: &Stack, deployment: &str, description: &str) -> Result<usize> {
    let tasks = stack.director.get(&format!("/tasks?deployment={deployment}&state=done&limit=100&verbose=1")).await?;
    let tasks = tasks.as_array().context("read the tasks")?.iter();
    Ok(tasks.filter(|task| task["description"].as_str().is_some_and(|text| text.starts_with(description))).count())
}

/// The requests of one undisturbed life: those of the provision and those of the deprovision.
async fn undisturbed(stack: &Stack, plan: &'static str) -> Result<(Vec<Seen>, Vec<Seen>)> {
    let id = broker::new_id();
    let proxy = proxy(stack)?;
    let start = proxy.seen().len();
    stack.broker.provisioned(&id, plan).await?;
    let middle = proxy.seen().len();
    stack.broker.deprovisioned(&id, plan).await?;
    let seen = proxy.seen();
    Ok((seen[start..middle].to_vec(), seen[middle..].to_vec()))
}

async fn provision_with_a_kill(stack: &Stack, plan: &'static str, id: &str, kill: &(Step, Side)) -> Result<bool> {
    let hold = hold(proxy(stack)?, &kill.0, kill.1);
    stack.broker.provision(id, plan).await?;
    let was_killed = kill_at(stack, id, hold).await?;
    let end = stack.broker.settled(id).await.with_context(|| format!("killed at {kill:?}"))?;
    ensure!(end["state"] == "succeeded", "killed at {kill:?}, the provision ended as {end}");
    let deployment = broker::deployment_of(id);
    let all = stack.director.deployments().await?;
    ensure!(all.iter().filter(|name| **name == deployment).count() == 1, "killed at {kill:?}: {all:?}");
    let count = done(stack, &deployment, "create deployment").await?;
    ensure!(count == 1, "killed at {kill:?}, the broker deployed {count} times");
    Ok(was_killed)
}

/// The change of a single server to a pair, which has every step that an update can have.
async fn update_with_a_kill(stack: &Stack, id: &str, kill: &(Step, Side)) -> Result<bool> {
    let hold = hold(proxy(stack)?, &kill.0, kill.1);
    stack.broker.update(id, &json!({"plan_id": DB_LEADER_FOLLOWER})).await?;
    let was_killed = kill_at(stack, id, hold).await?;
    let end = stack.broker.settled(id).await.with_context(|| format!("killed at {kill:?}"))?;
    ensure!(end["state"] == "succeeded", "killed at {kill:?}, the update ended as {end}");
    let deployment = broker::deployment_of(id);
    for (description, expected) in [("create deployment", 2), ("run errand configure-leader-follower", 1)] {
        let count = done(stack, &deployment, description).await?;
        ensure!(count == expected, "killed at {kill:?}, the broker did `{description}` {count} times, not {expected}");
    }
    let now = stack.broker.get(&format!("/v2/service_instances/{id}")).await?;
    ensure!(now.body["plan_id"] == DB_LEADER_FOLLOWER, "killed at {kill:?}, the instance is {}", now.body);
    Ok(was_killed)
}

async fn deprovision_with_a_kill(stack: &Stack, plan: &'static str, id: &str, kill: &(Step, Side)) -> Result<bool> {
    let hold = hold(proxy(stack)?, &kill.0, kill.1);
    stack.broker.deprovision(id, plan).await?;
    let was_killed = kill_at(stack, id, hold).await?;
    let end = stack.broker.settled(id).await.with_context(|| format!("killed at {kill:?}"))?;
    ensure!(
        end["state"] == "gone" || end["state"] == "succeeded",
        "killed at {kill:?}, the deprovision ended as {end}"
    );
    let all = stack.director.deployments().await?;
    ensure!(!all.contains(&broker::deployment_of(id)), "killed at {kill:?}, the deployment is still there");
    Ok(was_killed)
}

#[tokio::test]
async fn a_broker_killed_at_any_step_ends_what_it_began_exactly_once() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let (create, delete) = undisturbed(stack, DB_SINGLE).await?;
    let (create_pair, _) = undisturbed(stack, DB_LEADER_FOLLOWER).await?;
    let (creates, mut deletes) = (kills_of(&create), kills_of(&delete));
    // A pair's provision has the steps of a single node's, and more; only the others are worth two servers.
    let pairs: Vec<_> = kills_of(&create_pair).into_iter().filter(|kill| !creates.contains(kill)).collect();
    deletes.reverse();
    let mut kills = 0;

    let lives = creates.iter().map(|kill| (DB_SINGLE, kill)).chain(pairs.iter().map(|kill| (DB_LEADER_FOLLOWER, kill)));
    for (plan, kill) in lives {
        let id = broker::new_id();
        kills += u32::from(provision_with_a_kill(stack, plan, &id, kill).await?);
        match deletes.pop() {
            Some(kill) => kills += u32::from(deprovision_with_a_kill(stack, plan, &id, &kill).await?),
            None => stack.broker.deprovisioned(&id, plan).await?,
        }
    }
    for kill in deletes.iter().rev() {
        let id = broker::new_id();
        stack.broker.provisioned(&id, DB_SINGLE).await?;
        kills += u32::from(deprovision_with_a_kill(stack, DB_SINGLE, &id, kill).await?);
    }

    ensure!(kills >= 8, "only {kills} steps were found in {creates:?} {pairs:?}");
    assert_eq!(stack.director.deployments().await?, ["mysql-broker"]);
    Ok(())
}

#[tokio::test]
async fn a_broker_killed_at_any_step_of_a_change_of_plan_ends_it_exactly_once() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let id = broker::new_id();
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    let start = proxy(stack)?.seen().len();
    stack.broker.update(&id, &json!({"plan_id": DB_LEADER_FOLLOWER})).await?;
    ensure!(stack.broker.settled(&id).await?["state"] == "succeeded", "the undisturbed update failed");
    let steps = kills_of(&proxy(stack)?.seen()[start..]);
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    let mut kills = 0;

    for kill in &steps {
        let id = broker::new_id();
        stack.broker.provisioned(&id, DB_SINGLE).await?;
        kills += u32::from(update_with_a_kill(stack, &id, kill).await?);
        stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    }

    ensure!(kills >= 5, "only {kills} steps were found in {steps:?}");
    assert_eq!(stack.director.deployments().await?, ["mysql-broker"]);
    Ok(())
}

#[tokio::test]
async fn a_director_that_hangs_on_one_instance_does_not_delay_the_other() -> Result<()> {
    let (stack, _turn) = stack().await?;
    let (hanging, other) = (broker::new_id(), broker::new_id());
    let deployment = broker::deployment_of(&hanging);
    let hold = proxy(stack)?.hold(Side::Before, Which::All, move |seen| seen.concerns(&deployment));
    stack.broker.provision(&hanging, DB_SINGLE).await?;
    hold.reached(LIMIT).await?;

    let started = Instant::now();
    stack.broker.provisioned(&other, DB_SINGLE).await?;
    let alone = started.elapsed();

    let asked = Instant::now();
    assert_eq!(stack.broker.last_operation(&hanging).await?.body["state"], "in progress");
    ensure!(asked.elapsed() < Duration::from_secs(1), "last_operation waits for the director");
    ensure!(alone < Duration::from_secs(20), "the other instance took {alone:?}");
    hold.release();
    assert_eq!(stack.broker.settled(&hanging).await?["state"], "succeeded");
    assert_eq!(done(stack, &broker::deployment_of(&hanging), "create deployment").await?, 1);
    for id in [hanging, other] {
        stack.broker.deprovisioned(&id, DB_SINGLE).await?;
    }
    Ok(())
}
