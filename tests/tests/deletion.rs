//! Deletions of what a director deletes only with force, only in part, or not at all; and what the director is asked for.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, fault};
use tests::stack::Wiring;
use tests::{OwnBroker, Stack};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await
}

/// The deletions that the director was asked for, in order: the query of each.
fn deletions(own: &OwnBroker, deployment: &str) -> Vec<String> {
    let seen = own.proxy.seen();
    let path = format!("/deployments/{deployment}");
    let asked = seen.iter().filter(|seen| seen.method == "DELETE" && seen.path.starts_with(&path));
    asked.map(|seen| seen.path[path.len()..].to_owned()).collect()
}

async fn go_wrong(stack: &Stack, deployment: &str, act: &str, kind: &str, more: Value) -> Result<()> {
    simulation::add_fault(&stack.director, &fault(deployment, act, kind, more)).await
}

#[tokio::test]
async fn a_vm_that_does_not_answer_costs_one_forced_deletion() -> Result<()> {
    let stack = stack().await?;
    let own = OwnBroker::start(stack).await?;
    let id = new_id();
    own.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;

    go_wrong(stack, &deployment_of(&id), "vm_state", "silent", json!({"instance": 0})).await?;
    own.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;

    let asked = deletions(&own, &deployment_of(&id));
    let (last, plain) = asked.split_last().context("the director was never asked")?;
    // More than one where the director was just trying to mend the VM.
    ensure!(last == "?force=true" && !plain.is_empty() && plain.iter().all(String::is_empty), "{asked:?}");
    ensure!(!stack.director.deployments().await?.contains(&deployment_of(&id)), "the deployment is still there");
    Ok(())
}

#[tokio::test]
async fn a_deployment_without_a_manifest_is_deleted() -> Result<()> {
    let stack = stack().await?;
    let own = OwnBroker::start(stack).await?;
    let id = new_id();
    go_wrong(stack, &deployment_of(&id), "create_vm", "fail", json!({})).await?;
    own.broker.provision(&id, DB_SINGLE).await?;
    let end = own.broker.settled(&id).await?;
    ensure!(end["state"] == "failed", "the provision ended as {end}");
    let left = stack.director.get(&format!("/deployments/{}", deployment_of(&id))).await?;
    assert_eq!(left, json!({"manifest": null}));

    own.broker.deprovisioned(&id, DB_SINGLE).await?;

    assert_eq!(deletions(&own, &deployment_of(&id)), [""]);
    ensure!(!stack.director.deployments().await?.contains(&deployment_of(&id)), "the deployment is still there");
    Ok(())
}

#[tokio::test]
async fn an_ignored_instance_ends_the_deletion_with_a_sentence_and_its_cause_in_the_log() -> Result<()> {
    let stack = stack().await?;
    let own = OwnBroker::start(stack).await?;
    let id = new_id();
    let deployment = deployment_of(&id);
    own.broker.provisioned(&id, DB_SINGLE).await?;
    let why = format!("You are trying to delete deployment '{deployment}', which contains ignored instance(s).");
    let event = json!({"time": 1, "error": {"code": 190_021, "message": why}});
    let once = |more: Value| json!({"count": 1, "status": 200, "body": more.to_string()});
    go_wrong(stack, &deployment, "delete", "fail", json!({"count": 1, "message": why})).await?;
    go_wrong(stack, &deployment, "GET /tasks/{id}/output", "answer", once(event)).await?;

    own.broker.deprovision(&id, DB_SINGLE).await?;
    let end = own.broker.settled(&id).await?;

    let told = end["description"].as_str().context("read the sentence")?;
    ensure!(end["state"] == "failed" && told.contains("An operator has excluded one of its virtual machines"), "{end}");
    ensure!(!told.contains("ignored instance"), "a cause is for operators: {told}");
    ensure!(own.log()?.contains(&format!("{why} (code 190021)")), "{}", own.log()?);
    assert_eq!(deletions(&own, &deployment), [""]);

    own.broker.deprovisioned(&id, DB_SINGLE).await?;
    assert_eq!(deletions(&own, &deployment), ["", ""]);
    Ok(())
}
