//! Updates with every fault that one can meet. Whatever fails, the old manifest is kept, and a later update repairs it.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, fault};
use tests::stack::Wiring;
use tests::{Broker, Director, Stack};

use crate::ending::{
    Case, ERRAND, POST, ROWS, TASKS, answer, case, deleted, denied, fails, made, named, nothing_twice, page, play,
    succeeds, times,
};
use crate::stack;

const VMS: &str = "The virtual machines could not be updated.";
const REPLICATION: &str = "Replication between the two servers could not be configured.";

fn change() -> Value {
    json!({"parameters": {"workload": "read-heavy"}})
}

async fn manifest(director: &Director, id: &str) -> Result<Value> {
    director.get(&format!("/deployments/{}", deployment_of(id))).await
}

async fn updated(broker: &Broker, id: &str, change: &Value) -> Result<()> {
    let answer = broker.update(id, change).await?;
    ensure!(answer.status == 202, "{answer:?}");
    let end = broker.settled(id).await?;
    ensure!(end["state"] == "succeeded", "the update ended as {end}");
    Ok(())
}

#[tokio::test]
async fn an_update_ends_well_or_with_a_sentence_whatever_goes_wrong() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    // A VM that is mended is another fault.
    stack.director.set_resurrection(false).await?;
    let cases = named([at_the_wire(), at_work()].into_iter().flatten().collect());
    made(&stack, &cases, DB_LEADER_FOLLOWER).await?;

    play(&stack, &cases, async |id| stack.broker.update(id, &change()).await).await?;

    // The same one again, where there is something left to do.
    try_join_all(cases.iter().map(async |(id, _)| match stack.broker.update(id, &change()).await?.status {
        200 => Ok(()),
        status => {
            let end = stack.broker.settled(id).await?;
            ensure!(status == 202 && end["state"] == "succeeded", "{status}: the repair of {id} ended as {end}");
            Ok(())
        }
    }))
    .await?;
    deleted(&stack, &cases, DB_LEADER_FOLLOWER).await?;
    stack.shutdown()
}

fn at_the_wire() -> Vec<Case> {
    let looks = || json!({"after": 1, "count": 3});
    let of_a_proxy = |count, status| json!({"count": count, "status": status});
    let no_route = "404 Not Found: Requested route does not exist.\n";
    vec![
        case("F1.1 the answer of the deployment is lost", succeeds(1, 1), &[(POST, "lose_answer", times(1))]),
        case("F1.1 the deployment is lost", succeeds(2, 1), &[(POST, "lose_request", times(1))]),
        case("F1.1 the answer of the errand is lost", succeeds(1, 1), &[(ERRAND, "lose_answer", times(1))]),
        case("F1.3 looks at the tasks are lost", succeeds(1, 1), &[(TASKS, "lose_answer", looks())]),
        case("F2.2 it is not allowed for a while", succeeds(3, 1), &[(POST, "answer", denied(2))]),
        case("F3.1 503 to the deployment", succeeds(2, 1), &[(POST, "answer", of_a_proxy(1, 503))]),
        case("F3.1 502 to looks", succeeds(1, 1), &[(TASKS, "answer", of_a_proxy(6, 502))]),
        case("F3.1 a proxy that knows no route", succeeds(1, 1), &[(ROWS, "answer", answer(2, 404, no_route))]),
        case("F9.1 half of the tasks", succeeds(1, 1), &[(TASKS, "truncate", times(2))]),
        case("F9.2 instead of the tasks", succeeds(1, 1), &[(TASKS, "answer", page(2))]),
        case("F9.2 instead of the deployment's task", succeeds(2, 1), &[(POST, "answer", page(1))]),
        case("F10.2 the oldest first", succeeds(1, 1), &[(TASKS, "edit", json!({"reverse": true}))]),
    ]
}

fn at_work() -> Vec<Case> {
    let fail = json!({"code": 400_007, "message": "'mysql/0' is not running after update"});
    let of_second = json!({"instance": 1});
    vec![
        case("F4.1 the deployment", fails(VMS, 1, 0), &[("deploy", "fail", fail)]),
        case("F4.2 the deployment", succeeds(2, 1), &[("deploy", "time_out", times(1))]),
        case("F4.5 the deployment", succeeds(1, 1), &[("deploy", "queue", json!({"latency_ms": 3000}))]),
        case("F4.6 the errand", fails(REPLICATION, 1, 1), &[("run_errand", "exit", json!({"exit_code": 7}))]),
        case("F4.9 the errand", fails(REPLICATION, 1, 1), &[("run_errand", "fail", json!({}))]),
        case("F5.1 the deployment", succeeds(3, 1), &[("deploy", "lock_conflict", times(2))]),
        case("F6.1 a VM", fails(VMS, 1, 0), &[("vm_state", "silent", of_second.clone())]),
        case("F6.8 the deployment's worker dies", succeeds(2, 1), &[("deploy", "worker_dies", times(1))]),
        case("F7.2 a VM is not told", fails(VMS, 1, 0), &[("configure_vm", "fail", of_second.clone())]),
        case("F7.2 jobs do not start again", fails(VMS, 1, 0), &[("start_jobs", "fail", of_second)]),
    ]
}

#[tokio::test]
async fn a_failed_update_leaves_the_old_manifest_and_the_next_one_brings_the_new_one() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (broker, director) = (&stack.broker, &stack.director);
    broker.provisioned(&id, DB_SINGLE).await?;
    let old = manifest(director, &id).await?;
    let once = fault(&deployment_of(&id), "start_jobs", "fail", times(1));
    simulation::add_fault(director, &once).await?;

    broker.update(&id, &change()).await?;
    let end = broker.settled(&id).await?;

    ensure!(end["state"] == "failed" && end["update_repeatable"] == true, "{end}");
    assert_eq!(manifest(director, &id).await?, old);
    assert_eq!(broker.get(&format!("/v2/service_instances/{id}")).await?.body["parameters"], json!({}));
    updated(broker, &id, &change()).await?;
    assert_ne!(manifest(director, &id).await?, old);
    nothing_twice(director, &id).await?;
    broker.deprovisioned(&id, DB_SINGLE).await
}

/// What a dry run has left beside a single server has no data, and is no reason to look for a leader.
#[tokio::test]
async fn a_phantom_beside_a_single_server_makes_no_pair() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    let phantom = json!({"agent_id": null, "cid": null, "job": "mysql", "index": 1, "id": "phantom", "az": "z1",
        "ips": [], "vm_created_at": null, "expects_vm": true});
    let rows = fault(&deployment_of(&id), ROWS, "edit", json!({"append": [phantom]}));
    simulation::add_fault(&stack.director, &rows).await?;

    updated(&stack.broker, &id, &change()).await?;

    nothing_twice(&stack.director, &id).await?;
    stack.broker.deprovisioned(&id, DB_SINGLE).await
}

#[tokio::test]
async fn the_server_that_is_left_with_the_higher_index_is_updated_and_gets_a_follower_again() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (broker, director, deployment) = (&stack.broker, &stack.director, deployment_of(&id));
    broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let pair = director.instances(&deployment).await?;
    director.errand_on(&deployment, "switchover", &pair[0]).await?.succeeded()?;

    updated(broker, &id, &json!({"plan_id": DB_SINGLE})).await?;
    let left = director.instances(&deployment).await?;
    updated(broker, &id, &change()).await?;
    updated(broker, &id, &json!({"plan_id": DB_LEADER_FOLLOWER})).await?;

    assert_eq!(left.iter().map(|instance| (instance.index, &instance.id)).collect::<Vec<_>>(), [(1, &pair[1].id)]);
    let inspected = director.errand_on(&deployment, "inspect", &pair[1]).await?.succeeded()?.stdout;
    ensure!(inspected.contains(&format!("{}: Leader", pair[1].ip())), "{inspected}");
    nothing_twice(director, &id).await?;
    broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}
