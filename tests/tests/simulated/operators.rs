//! Operators beside the broker: they cancel its tasks, have tasks of their own, and take machines away.

use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::{Broker, Director, Stack, eventually};

use crate::ending::{DELETE, POST, failed_with, nothing_twice, sent};
use crate::{LIMIT, stack};

const CREATION: &str = "create deployment";
const CONFIGURATION: &str = "run errand configure-leader-follower";
const ANOTHER: &str = "waiting for another task on the deployment";
const REPLICATION: &str = "Replication between the two servers could not be configured.";

async fn go_wrong(director: &Director, id: &str, act: &str, kind: &str, more: Value) -> Result<()> {
    simulation::add_fault(director, &fault(&deployment_of(id), act, kind, more)).await
}

/// A creation in which there is time to cancel it, and whose task then takes its time to end.
async fn creation_that_lingers(stack: &Stack) -> Result<(String, u64)> {
    let id = new_id();
    go_wrong(&stack.director, &id, "create_vm", "delay", json!({"latency_ms": 4000})).await?;
    go_wrong(&stack.director, &id, "deploy", "linger", json!({"latency_ms": 3000})).await?;
    let answer = stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    ensure!(answer.status == 202, "{answer:?}");
    let task = at_work(&stack.director, &id, CREATION).await?;
    Ok((id, task))
}

/// The number of the task that is at work on an instance.
pub(crate) async fn at_work(director: &Director, id: &str, description: &str) -> Result<u64> {
    let path = format!("/tasks?deployment={}&state=processing&verbose=1", deployment_of(id));
    eventually(format!("`{description}` is at work"), LIMIT, async || {
        let tasks = director.get(&path).await?;
        let is_meant = |task: &&Value| task["description"].as_str().is_some_and(|told| told.starts_with(description));
        Ok(tasks.as_array().into_iter().flatten().find(is_meant).and_then(|task| task["id"].as_u64()))
    })
    .await
}

pub(crate) async fn cancel(director: &Director, task: u64) -> Result<()> {
    let answer = director.request(Method::DELETE, &format!("/task/{task}"), None).await?;
    ensure!(answer.status == StatusCode::NO_CONTENT, "{answer:?}");
    Ok(())
}

/// An errand of an operator's, at work.
pub(crate) async fn errand(director: &Director, id: &str) -> Result<u64> {
    let path = format!("/deployments/{}/errands/inspect/runs", deployment_of(id));
    let task = director.request(Method::POST, &path, Some(("application/json", "{}".into()))).await?.task()?;
    at_work(director, id, "run errand inspect").await.map(|_| task)
}

async fn state(director: &Director, task: u64) -> Result<Value> {
    Ok(director.get(&format!("/tasks/{task}")).await?["state"].clone())
}

pub(crate) async fn is_waiting(broker: &Broker, id: &str, words: &str) -> Result<()> {
    eventually(format!("the operation is {words}"), LIMIT, async || {
        let told = broker.last_operation(id).await?.body;
        Ok(told["description"].as_str().is_some_and(|text| text.contains(words)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_creation_that_an_operator_cancels_fails_when_its_task_has_ended() -> Result<()> {
    let stack = stack().await?;
    let (id, task) = creation_that_lingers(stack).await?;

    cancel(&stack.director, task).await?;
    let (ending, told) = (state(&stack.director, task).await?, stack.broker.last_operation(&id).await?);
    let end = stack.broker.settled(&id).await?;

    assert_eq!((ending, &told.body["state"]), (json!("cancelling"), &json!("in progress")));
    failed_with(&end, &id, "The virtual machines could not be created.")?;
    assert_eq!(state(&stack.director, task).await?, "cancelled");
    assert_eq!(sent(&stack.director, &id).await?, [1, 0, 0]);
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}

#[tokio::test]
async fn an_errand_that_an_operator_cancels_fails_its_creation_and_does_not_run_again() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    go_wrong(&stack.director, &id, "run_errand", "delay", json!({"latency_ms": 60_000})).await?;
    stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    let task = at_work(&stack.director, &id, CONFIGURATION).await?;

    cancel(&stack.director, task).await?;
    let end = stack.broker.settled(&id).await?;

    failed_with(&end, &id, REPLICATION)?;
    let output = |kind: &str| format!("/tasks/{task}/output?type={kind}");
    let result = stack.director.request(Method::GET, &output("result"), None).await?.text;
    let events = stack.director.request(Method::GET, &output("event"), None).await?.text;
    ensure!(result.contains(r#""exit_code":143"#) && events.contains(r#""code":10001"#), "{result} {events}");
    assert_eq!(state(&stack.director, task).await?, "cancelled");
    assert_eq!(sent(&stack.director, &id).await?, [1, 1, 0]);
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}

#[tokio::test]
async fn a_deletion_waits_for_the_creation_that_it_has_cancelled() -> Result<()> {
    let stack = stack().await?;
    let (id, task) = creation_that_lingers(stack).await?;

    stack.broker.deprovision(&id, DB_LEADER_FOLLOWER).await?;
    is_waiting(&stack.broker, &id, ANOTHER).await?;
    let ending = state(&stack.director, task).await?;
    let end = stack.broker.settled(&id).await?;

    assert_eq!((ending, &end["state"]), (json!("cancelling"), &json!("gone")));
    let requests = simulation::requests(&stack.director, Some(&deployment_of(&id))).await?;
    let sent = [POST, "DELETE /task/{id}", DELETE].map(|act| count(&requests, act));
    assert_eq!(sent, [1, 1, 1], "{requests}");
    nothing_twice(&stack.director, &id).await
}

#[tokio::test]
async fn an_update_and_a_deletion_wait_for_an_operators_errand() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (broker, director) = (&stack.broker, &stack.director);
    broker.provisioned(&id, DB_SINGLE).await?;
    go_wrong(director, &id, "run_errand", "delay", json!({"latency_ms": 3000})).await?;

    let first = errand(director, &id).await?;
    broker.update(&id, &json!({"parameters": {"workload": "read-heavy"}})).await?;
    is_waiting(&stack.broker, &id, ANOTHER).await?;
    let updated = broker.settled(&id).await?;
    let second = errand(director, &id).await?;
    broker.deprovision(&id, DB_SINGLE).await?;
    is_waiting(&stack.broker, &id, ANOTHER).await?;
    let deleted = broker.settled(&id).await?;

    assert_eq!((&updated["state"], &deleted["state"]), (&json!("succeeded"), &json!("gone")));
    assert_eq!((state(director, first).await?, state(director, second).await?), (json!("done"), json!("done")));
    // The errands are the operator's.
    assert_eq!(sent(director, &id).await?, [2, 2, 1]);
    nothing_twice(director, &id).await
}

#[tokio::test]
async fn a_pair_with_a_detached_server_is_updated_when_it_is_whole_again_and_deleted_in_any_case() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (broker, director, deployment) = (&stack.broker, &stack.director, deployment_of(&id));
    let change = json!({"parameters": {"workload": "read-heavy"}});
    broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let pair = director.instances(&deployment).await?;
    let follower = &pair[1];

    director.act(&deployment, "stop?hard=true", follower).await?;
    broker.update(&id, &change).await?;
    let without = broker.settled(&id).await?;
    director.act(&deployment, "start", follower).await?;
    broker.update(&id, &change).await?;
    let with = broker.settled(&id).await?;

    failed_with(&without, &id, REPLICATION)?;
    ensure!(without["instance_usable"] == true, "{without}");
    assert_eq!(with["state"], "succeeded", "{with}");
    nothing_twice(director, &id).await?;
    director.act(&deployment, "stop?hard=true", follower).await?;
    broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    ensure!(!director.deployments().await?.contains(&deployment), "the deployment is still there");
    Ok(())
}
