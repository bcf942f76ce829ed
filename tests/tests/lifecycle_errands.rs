//! A plan's own errands, after each deployment and before the deletion: in their order, each once for an operation whatever
//! happens to the broker, and with a say in how the operation ends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::proxy::{Side, Which};
use tests::simulation::{self, fault};
use tests::stack::Wiring;
use tests::{OwnBroker, Stack};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
/// Of a pair, on one of its servers and on both; a single server has no other errand than `inspect`.
const PAIR: &str =
    "{post_deploy: [{name: make-read-only, instances: [mysql/1]}, {name: inspect}], pre_delete: [{name: inspect}]}";
const SINGLE: &str = "{post_deploy: [{name: inspect, instances: [mysql]}], pre_delete: [{name: inspect}]}";

/// A broker whose plans have errands.
async fn start() -> Result<(&'static Stack, OwnBroker)> {
    let stack = STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await?;
    let own = OwnBroker::start(stack).await?;
    let mut catalog = own.catalog()?.replace("One MySQL server", "One server with errands");
    for (topology, errands) in [("single-node", SINGLE), ("leader-follower", PAIR)] {
        let block = format!("    deployment: {{topology: {topology}");
        ensure!(catalog.contains(&block), "the catalog has no `{block}`");
        catalog = catalog.replace(&block, &format!("    lifecycle_errands: {errands}\n{block}"));
    }
    own.offer(&catalog, "One server with errands").await?;
    Ok((stack, own))
}

/// What the director did for an instance, in order: the errands by name, with how they ended.
async fn done(stack: &Stack, id: &str) -> Result<Vec<String>> {
    let tasks = stack.director.get(&format!("/tasks?deployment={}&limit=100&verbose=1", deployment_of(id))).await?;
    let mut tasks = tasks.as_array().context("read the tasks")?.clone();
    tasks.sort_by_key(|task| task["id"].as_u64());
    let told = |task: &Value| {
        let description = task["description"].as_str().unwrap_or_default();
        let words: Vec<&str> = description.split(' ').filter(|word| !matches!(*word, "run" | "errand")).collect();
        format!("{} {}", words.first().unwrap_or(&""), task["state"].as_str().unwrap_or_default())
    };
    Ok(tasks.iter().map(told).collect())
}

async fn go_wrong(stack: &Stack, id: &str, act: &str, kind: &str, more: Value) -> Result<()> {
    simulation::add_fault(&stack.director, &fault(&deployment_of(id), act, kind, more)).await
}

#[tokio::test]
async fn the_errands_of_a_plan_run_after_its_deployment_and_before_its_deletion() -> Result<()> {
    let (stack, own) = start().await?;
    let id = new_id();

    own.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let created = done(stack, &id).await?;
    own.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;

    let expected = ["create done", "configure-leader-follower done", "make-read-only done", "inspect done"];
    assert_eq!(created, expected);
    assert_eq!(done(stack, &id).await?[expected.len()..], ["inspect done", "delete done"]);
    let bodies: Vec<Value> = own
        .proxy
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("/errands/"))
        .map(|seen| serde_json::from_str::<Value>(&seen.body).unwrap_or_default()["instances"].clone())
        .collect();
    assert_eq!(bodies[1..], [json!([{"group": "mysql", "id": "1"}]), json!([]), json!([])]);
    Ok(())
}

#[tokio::test]
async fn an_update_runs_them_again_and_a_killed_broker_runs_none_twice() -> Result<()> {
    let (stack, mut own) = start().await?;
    let id = new_id();
    let deployment = deployment_of(&id);
    let is_errand = move |path: &str| path.contains(&deployment) && path.contains("/errands/inspect/");
    let lost = own.proxy.hold(Side::After, Which::First, {
        let is_errand = is_errand.clone();
        move |seen| is_errand(&seen.path)
    });

    own.broker.provision(&id, DB_SINGLE).await?;
    lost.reached(LIMIT).await?;
    own.kill()?;
    drop(lost);
    own.start_again().await?;
    let end = own.broker.settled(&id).await?;

    ensure!(end["state"] == "succeeded", "the provision ended as {end}");
    assert_eq!(done(stack, &id).await?, ["create done", "inspect done"]);
    own.broker.update(&id, &json!({"parameters": {"workload": "write-heavy"}})).await?;
    let end = own.broker.settled(&id).await?;
    ensure!(end["state"] == "succeeded", "the update ended as {end}");
    assert_eq!(done(stack, &id).await?[2..], ["create done", "inspect done"]);

    // The request is recorded, and never arrives.
    let lost = own.proxy.hold(Side::Before, Which::First, move |seen| is_errand(&seen.path));
    own.broker.deprovision(&id, DB_SINGLE).await?;
    lost.reached(LIMIT).await?;
    own.kill()?;
    own.start_again().await?;
    own.broker.settled(&id).await?;
    assert_eq!(done(stack, &id).await?[4..], ["inspect done", "delete done"]);
    drop(lost);
    Ok(())
}

#[tokio::test]
async fn an_exit_code_fails_the_operation_and_a_failed_creation_is_deleted_without_errands() -> Result<()> {
    let (stack, own) = start().await?;
    let id = new_id();
    // On the second server only.
    go_wrong(
        stack,
        &id,
        "run_errand",
        "exit",
        json!({"instance": 1, "after": 1, "exit_code": 7, "stderr": "no smoke"}),
    )
    .await?;

    own.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    let end = own.broker.settled(&id).await?;

    let told = end["description"].as_str().context("read the sentence")?;
    ensure!(end["state"] == "failed" && told.contains("An errand after the deployment failed."), "{end}");
    ensure!(!told.contains("no smoke") && own.log()?.contains("exit code 7:  no smoke"), "{told} {}", own.log()?);
    let before = done(stack, &id).await?.len();
    own.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    assert_eq!(done(stack, &id).await?[before..], ["delete done"]);
    Ok(())
}

#[tokio::test]
async fn a_failed_errand_before_a_deletion_keeps_the_instance_until_it_succeeds() -> Result<()> {
    let (stack, own) = start().await?;
    let id = new_id();
    own.broker.provisioned(&id, DB_SINGLE).await?;
    go_wrong(stack, &id, "run_errand", "exit", json!({"count": 1, "exit_code": 3})).await?;

    own.broker.deprovision(&id, DB_SINGLE).await?;
    let end = own.broker.settled(&id).await?;

    let told = end["description"].as_str().context("read the sentence")?;
    ensure!(end["state"] == "failed" && told.contains("An errand before the deletion failed."), "{end}");
    assert_eq!(done(stack, &id).await?, ["create done", "inspect done", "inspect done"]);
    // Half deleted, it is deleted without another errand.
    go_wrong(stack, &id, "delete_vm", "fail", json!({"count": 5})).await?;
    own.broker.deprovision(&id, DB_SINGLE).await?;
    let end = own.broker.settled(&id).await?;
    ensure!(end["state"] == "failed", "the deletion ended as {end}");
    let before = done(stack, &id).await?;
    own.broker.deprovisioned(&id, DB_SINGLE).await?;
    assert_eq!(before[3..], [&["inspect done"], &["delete error"; 5][..]].concat());
    assert_eq!(done(stack, &id).await?[before.len()..], ["delete done"]);
    Ok(())
}
