//! Deletions with every fault that one can meet.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::Stack;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::stack::Wiring;

use crate::ending::{
    Case, DELETE, LOOK, TASKS, answer, case, deleted, denied, failed_with, is_gone, made, named, nothing_twice, page,
    play, stays, times, unknown,
};
use crate::stack;

#[tokio::test]
async fn a_deletion_ends_well_or_with_a_sentence_whatever_goes_wrong() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    // A VM that is mended is another fault.
    stack.director.set_resurrection(false).await?;
    let cases = named([at_the_wire(), at_work()].into_iter().flatten().collect());
    made(&stack, &cases, DB_LEADER_FOLLOWER).await?;

    play(&stack, &cases, async |id| stack.broker.deprovision(id, DB_LEADER_FOLLOWER).await).await?;

    deleted(&stack, &cases, DB_LEADER_FOLLOWER).await?;
    stack.shutdown()
}

fn at_the_wire() -> Vec<Case> {
    let of_a_proxy = |count, status| json!({"count": count, "status": status});
    let no_route = "404 Not Found: Requested route does not exist.\n";
    vec![
        case("F1.1 the answer is lost", is_gone(0, 1), &[(DELETE, "lose_answer", times(1))]),
        case("F1.1 the request is lost", is_gone(0, 2), &[(DELETE, "lose_request", times(1))]),
        case("F1.3 looks at the tasks are lost", is_gone(0, 1), &[(TASKS, "lose_answer", times(4))]),
        case("F1.3 looks at the deployment are lost", is_gone(0, 1), &[(LOOK, "lose_answer", times(4))]),
        case("F2.1 it is not known who asks", is_gone(0, 2), &[(DELETE, "answer", unknown(1))]),
        case("F2.2 it is not allowed for a while", is_gone(0, 3), &[(DELETE, "answer", denied(2))]),
        case("F3.1 503 to the deletion", is_gone(0, 2), &[(DELETE, "answer", of_a_proxy(1, 503))]),
        case("F3.1 502 to looks", is_gone(0, 1), &[(LOOK, "answer", of_a_proxy(6, 502))]),
        // What has another 404 than the director's may be there all the same.
        case("F3.1 a proxy that knows no route", is_gone(0, 1), &[(LOOK, "answer", answer(2, 404, no_route))]),
        case("F9.1 half of the tasks", is_gone(0, 1), &[(TASKS, "truncate", times(2))]),
        case("F9.2 instead of the task", is_gone(0, 2), &[(DELETE, "answer", page(1))]),
        case("F9.2 instead of the tasks", is_gone(0, 1), &[(TASKS, "answer", page(2))]),
        case("F10.1 long ago", is_gone(0, 1), &[(TASKS, "edit", json!({"set": {"timestamp": 1}}))]),
    ]
}

fn at_work() -> Vec<Case> {
    let could_not = "The virtual machines could not be deleted.";
    let dead = json!({"count": 1, "code": 450_002, "message": "Timed out sending 'get_state'"});
    vec![
        case("F4.1 a VM that does not answer", is_gone(0, 2), &[("delete", "fail", dead)]),
        case("F4.1 for ever", stays(could_not, 0, 5), &[("delete", "fail", json!({}))]),
        case("F4.2 the deletion", is_gone(0, 2), &[("delete", "time_out", times(1))]),
        case("F4.5 the deletion", is_gone(0, 1), &[("delete", "queue", json!({"latency_ms": 3000}))]),
        case("F5.1 the deletion", is_gone(0, 3), &[("delete", "lock_conflict", times(2))]),
        case("F6.1 a VM", is_gone(0, 2), &[("vm_state", "silent", json!({"instance": 0}))]),
        case("F6.8 the deletion's worker dies", is_gone(0, 2), &[("delete", "worker_dies", times(1))]),
        case("F6.10 one VM is left", is_gone(0, 2), &[("delete_vm", "fail", json!({"instance": 1, "count": 1}))]),
        case("F7.5 jobs do not stop", is_gone(0, 2), &[("stop_jobs", "fail", json!({"instance": 0}))]),
    ]
}

#[tokio::test]
async fn what_somebody_else_has_deleted_is_gone() -> Result<()> {
    let stack = stack().await?;
    let (before, between) = (new_id(), new_id());
    for id in [&before, &between] {
        stack.broker.provisioned(id, DB_SINGLE).await?;
        let path = format!("/deployments/{}", deployment_of(id));
        stack.director.run(reqwest::Method::DELETE, &path, None).await?;
    }
    // As if it was there for one look more.
    let seen = json!({"count": 1, "status": 200, "body": r#"{"manifest":null}"#});
    simulation::add_fault(&stack.director, &fault(&deployment_of(&between), LOOK, "answer", seen)).await?;

    for (id, deletions) in [(&before, 0), (&between, 1)] {
        stack.broker.deprovisioned(id, DB_SINGLE).await?;
        let requests = simulation::requests(&stack.director, Some(&deployment_of(id))).await?;
        // One of them is ours.
        assert_eq!(count(&requests, DELETE), deletions + 1, "{requests}");
        assert_eq!(stack.broker.deprovision(id, DB_SINGLE).await?.status, 410);
        nothing_twice(&stack.director, id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_ignored_instance_is_kept_until_it_is_ignored_no_more() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (broker, director, deployment) = (&stack.broker, &stack.director, deployment_of(&id));
    broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let ignore = async |ignore: bool| {
        let path = format!("/deployments/{deployment}/instance_groups/mysql/1/ignore");
        let body = json!({"ignore": ignore}).to_string();
        director.request(reqwest::Method::PUT, &path, Some(("application/json", body))).await
    };
    assert_eq!(ignore(true).await?.status, 200);

    broker.deprovision(&id, DB_LEADER_FOLLOWER).await?;
    let end = broker.settled(&id).await?;

    failed_with(&end, &id, "An operator has excluded one of its virtual machines from every change.")?;
    assert_eq!(director.instances(&deployment).await?.len(), 2);
    let requests = simulation::requests(director, Some(&deployment)).await?;
    assert_eq!(count(&requests, DELETE), 1, "force changes nothing: {requests}");
    ignore(false).await?;
    broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    ensure!(!director.deployments().await?.contains(&deployment), "the deployment is still there");
    nothing_twice(director, &id).await
}
