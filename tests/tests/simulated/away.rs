//! A director that is not there for a while: connections are refused, and what it was at work on is broken off. And a broker
//! that is not there for so long that the director has forgotten its tasks.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::stack::Wiring;
use tests::wait::until;
use tests::{OwnBroker, Stack, processes};

use crate::ending::{DELETE, ERRAND, POST, TASKS, nothing_twice};
use crate::operators::{at_work, is_waiting};
use crate::{LIMIT, stack};

const AWAY: &str = "waiting for the director of the virtual machines";

#[tokio::test]
async fn what_is_under_way_when_the_director_goes_away_is_done_once_when_it_is_back() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let (broker, director) = (&stack.broker, &stack.director);
    let [created, configured, updated, deleted, wished] = [(); 5].map(|()| new_id());
    try_join_all([&updated, &deleted].map(|id| broker.provisioned(id, DB_SINGLE))).await?;
    for (id, act) in [(&created, "deploy"), (&configured, "run_errand"), (&updated, "deploy"), (&deleted, "delete")] {
        let slow = fault(&deployment_of(id), act, "delay", json!({"latency_ms": 600_000}));
        simulation::add_fault(director, &slow).await?;
    }
    broker.provision(&created, DB_LEADER_FOLLOWER).await?;
    broker.provision(&configured, DB_LEADER_FOLLOWER).await?;
    broker.update(&updated, &json!({"parameters": {"workload": "read-heavy"}})).await?;
    broker.deprovision(&deleted, DB_SINGLE).await?;
    at_work(director, &created, "create deployment").await?;
    at_work(director, &configured, "run errand").await?;
    at_work(director, &updated, "create deployment").await?;
    at_work(director, &deleted, "delete deployment").await?;

    let pid = stack.director_pid()?;
    processes::kill(pid);
    until("the director is gone", LIMIT, || !processes::is_alive(pid)).await?;
    let accepted = broker.provision(&wished, DB_LEADER_FOLLOWER).await?;
    let all = [&created, &configured, &updated, &deleted, &wished];
    try_join_all(all.map(|id| is_waiting(broker, id, AWAY))).await?;
    // Its faults have gone with it, and what it had counted.
    stack.start_director().await?;

    assert_eq!(accepted.status, 202, "{accepted:?}");
    for (id, end, sent) in [
        (&created, "succeeded", [1, 1, 0]),
        (&configured, "succeeded", [0, 1, 0]),
        (&updated, "succeeded", [1, 0, 0]),
        (&deleted, "gone", [0, 0, 1]),
        (&wished, "succeeded", [1, 1, 0]),
    ] {
        let ended = broker.settled(id).await?;
        ensure!(ended["state"] == end, "{id}: {ended}");
        let requests = simulation::requests(director, Some(&deployment_of(id))).await?;
        assert_eq!([POST, ERRAND, DELETE].map(|act| count(&requests, act)), sent, "{requests}");
        nothing_twice(director, id).await?;
    }
    stack.shutdown()
}

#[tokio::test]
async fn a_task_that_was_forgotten_while_the_broker_was_away_is_not_asked_for_again() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (director, deployment) = (&stack.director, deployment_of(&id));
    let mut own = OwnBroker::start(stack).await?;
    let slow = fault(&deployment, "run_errand", "delay", json!({"count": 1, "latency_ms": 3000}));
    simulation::add_fault(director, &slow).await?;
    own.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    let errand = at_work(director, &id, "run errand configure-leader-follower").await?;

    own.kill()?;
    let errand = director.finished(errand).await?;
    let rest = fault(&deployment, TASKS, "answer", json!({"status": 200, "body": json!([errand]).to_string()}));
    simulation::add_fault(director, &rest).await?;
    own.start_again().await?;
    let end = own.broker.settled(&id).await?;

    assert_eq!((&errand["state"], &end["state"]), (&json!("done"), &json!("succeeded")), "{end}");
    let requests = simulation::requests(director, Some(&deployment)).await?;
    assert_eq!([POST, ERRAND].map(|act| count(&requests, act)), [1, 1], "{requests}");
    Ok(())
}
