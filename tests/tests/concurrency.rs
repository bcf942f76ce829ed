//! Requests that meet: many at once, and each in the middle of another one. Each has one answer, and each thing is made
//! once. On simulated VMs, so that it is exact what the director was asked for.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tests::broker::{Answer, DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault, sum};
use tests::stack::Wiring;
use tests::{Stack, eventually};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
const POST: &str = "POST /deployments";
const ERRAND: &str = "POST /deployments/{deployment}/errands/{errand}/runs";
const MANY: usize = 50;

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await
}

/// Something takes so long on an instance that something else can be done meanwhile.
async fn slow(stack: &Stack, id: &str, act: &str, latency_ms: u64) -> Result<()> {
    let delay = fault(&deployment_of(id), act, "delay", json!({"latency_ms": latency_ms}));
    simulation::add_fault(&stack.director, &delay).await
}

async fn creation_that_takes(stack: &Stack, latency_ms: u64) -> Result<String> {
    let id = new_id();
    slow(stack, &id, "deploy", latency_ms).await?;
    let answer = stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    ensure!(answer.status == 202, "{answer:?}");
    asked(stack, &id, POST).await?;
    Ok(id)
}

/// Wait until the director was asked.
async fn asked(stack: &Stack, id: &str, act: &str) -> Result<()> {
    eventually(format!("the director is asked for {act}"), LIMIT, async || {
        let requests = simulation::requests(&stack.director, Some(&deployment_of(id))).await?;
        Ok((count(&requests, act) > 0).then_some(()))
    })
    .await
}

fn is_busy(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 422 && answer.body["error"] == "ConcurrencyError", "{answer:?}");
    Ok(())
}

/// All of them began, or found, the same operation.
fn is_one_operation(answers: &[Answer]) -> Result<()> {
    for answer in answers {
        ensure!(answer.status == 202 && answer.body == answers[0].body, "{answer:?} and {:?}", answers[0]);
    }
    Ok(())
}

fn binding_path(id: &str, binding: &str) -> String {
    format!("/v2/service_instances/{id}/service_bindings/{binding}")
}

/// Bind on slow servers, and do something while the binding is made.
async fn during_a_bind(
    stack: &Stack,
    id: &str,
    binding: &str,
    act: impl AsyncFnOnce() -> Result<Answer>,
) -> Result<(Answer, Answer)> {
    let poll = format!("{}/last_operation", binding_path(id, binding));
    slow(stack, id, "agent", 500).await?;
    let meanwhile = async {
        eventually("the binding is being made", LIMIT, async || {
            Ok((stack.broker.get(&poll).await?.body["state"] == "in progress").then_some(()))
        })
        .await?;
        is_busy(&stack.broker.bind(id, DB_SINGLE, binding).await?)?;
        is_busy(&stack.broker.unbind(id, DB_SINGLE, binding).await?)?;
        act().await
    };
    tokio::try_join!(stack.broker.bind(id, DB_SINGLE, binding), meanwhile)
}

#[tokio::test]
async fn fifty_identical_provisions_at_once_make_one_deployment() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());

    let answers = try_join_all((0..MANY).map(|_| stack.broker.provision(&id, DB_LEADER_FOLLOWER))).await?;
    let end = stack.broker.settled(&id).await?;

    is_one_operation(&answers)?;
    assert_eq!(end["state"], "succeeded");
    let requests = simulation::requests(&stack.director, Some(&deployment_of(&id))).await?;
    assert_eq!((count(&requests, POST), count(&requests, ERRAND)), (1, 1), "{requests}");
    assert_eq!(stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn polls_ask_the_director_nothing_and_run_no_errand() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let deployment = deployment_of(&id);
    // The reconciler waits for this answer, so whatever is asked meanwhile is asked because of the polls.
    let look = fault(&deployment, "GET /tasks", "delay", json!({"after": 1, "count": 1, "latency_ms": 3000}));
    simulation::add_fault(&stack.director, &look).await?;
    stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    eventually("the look at the tasks hangs", LIMIT, async || {
        let requests = simulation::requests(&stack.director, Some(&deployment)).await?;
        Ok((count(&requests, "GET /tasks") == 2).then_some(()))
    })
    .await?;

    let before = simulation::requests(&stack.director, Some(&deployment)).await?;
    let answers = try_join_all((0..MANY).map(|_| stack.broker.last_operation(&id))).await?;
    let after = simulation::requests(&stack.director, Some(&deployment)).await?;

    ensure!(answers.iter().all(|answer| answer.body["state"] == "in progress"), "{answers:?}");
    assert_eq!(sum(&before), sum(&after), "{before} {after}");
    let (_, end) = tokio::try_join!(polled(stack, &id), stack.broker.settled(&id))?;
    assert_eq!(end["state"], "succeeded");
    let requests = simulation::requests(&stack.director, Some(&deployment)).await?;
    assert_eq!((count(&requests, POST), count(&requests, ERRAND)), (1, 1), "{requests}");
    Ok(())
}

/// Poll from many sides until the operation is over.
async fn polled(stack: &Stack, id: &str) -> Result<()> {
    eventually("the polls see the end", LIMIT, async || {
        let answers = try_join_all((0..MANY).map(|_| stack.broker.last_operation(id))).await?;
        Ok(answers.iter().all(|answer| answer.body["state"] == "succeeded").then_some(()))
    })
    .await
}

#[tokio::test]
async fn during_a_deletion_everything_else_is_refused_as_concurrent() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    let broker = &stack.broker;
    broker.provisioned(&id, DB_SINGLE).await?;
    broker.bind(&id, DB_SINGLE, &binding).await?;
    slow(stack, &id, "delete", 2000).await?;

    is_one_operation(&try_join_all((0..MANY).map(|_| broker.deprovision(&id, DB_SINGLE))).await?)?;

    is_busy(&broker.provision(&id, DB_SINGLE).await?)?;
    is_busy(&broker.provision(&id, DB_LEADER_FOLLOWER).await?)?;
    is_busy(&broker.update(&id, &json!({"plan_id": DB_LEADER_FOLLOWER})).await?)?;
    is_busy(&broker.bind(&id, DB_SINGLE, &binding).await?)?;
    is_busy(&broker.bind(&id, DB_SINGLE, &new_id()).await?)?;
    is_busy(&broker.unbind(&id, DB_SINGLE, &binding).await?)?;
    assert_eq!(broker.get(&format!("/v2/service_instances/{id}")).await?.status, 404);
    broker.settled(&id).await?;
    assert_eq!(broker.unbind(&id, DB_SINGLE, &binding).await?.status, 410);
    broker.provisioned(&id, DB_SINGLE).await
}

#[tokio::test]
async fn during_an_update_the_same_one_is_the_same_operation_and_everything_else_is_refused() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    let broker = &stack.broker;
    broker.provisioned(&id, DB_SINGLE).await?;
    broker.bind(&id, DB_SINGLE, &binding).await?;
    slow(stack, &id, "deploy", 2000).await?;
    let change = json!({"parameters": {"workload": "read-heavy"}});

    is_one_operation(&try_join_all((0..MANY).map(|_| broker.update(&id, &change))).await?)?;

    is_busy(&broker.update(&id, &json!({"plan_id": DB_LEADER_FOLLOWER})).await?)?;
    is_busy(&broker.provision(&id, DB_SINGLE).await?)?;
    is_busy(&broker.provision(&id, DB_LEADER_FOLLOWER).await?)?;
    is_busy(&broker.deprovision(&id, DB_SINGLE).await?)?;
    is_busy(&broker.bind(&id, DB_SINGLE, &binding).await?)?;
    is_busy(&broker.bind(&id, DB_SINGLE, &new_id()).await?)?;
    is_busy(&broker.unbind(&id, DB_SINGLE, &binding).await?)?;
    is_busy(&broker.get(&format!("/v2/service_instances/{id}")).await?)?;
    assert_eq!(broker.get(&binding_path(&id, &binding)).await?.status, 200);
    assert_eq!(broker.unbind(&id, DB_SINGLE, &new_id()).await?.status, 410);
    assert_eq!(broker.settled(&id).await?["state"], "succeeded");
    let requests = simulation::requests(&stack.director, Some(&deployment_of(&id))).await?;
    assert_eq!(count(&requests, POST), 2, "one for the creation, one for the update: {requests}");
    assert_eq!(broker.bind(&id, DB_SINGLE, &binding).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn of_two_updates_at_once_one_is_taken_and_the_other_one_refused() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    slow(stack, &id, "deploy", 1000).await?;
    let changes = ["read-heavy", "write-heavy"].map(|workload| json!({"parameters": {"workload": workload}}));

    let answers = try_join_all((0..MANY).map(|at| stack.broker.update(&id, &changes[at % 2]))).await?;

    let winner = answers.iter().position(|answer| answer.status == 202).unwrap_or(0) % 2;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().enumerate().partition(|(at, _)| at % 2 == winner);
    is_one_operation(&taken.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>())?;
    refused.iter().try_for_each(|(_, answer)| is_busy(answer))?;
    assert_eq!(stack.broker.settled(&id).await?["state"], "succeeded");
    let shown = stack.broker.get(&format!("/v2/service_instances/{id}")).await?;
    assert_eq!(shown.body["parameters"], changes[winner]["parameters"]);
    Ok(())
}

#[tokio::test]
async fn an_instance_is_updated_while_a_binding_is_made() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    // The machines are not touched before there is a user.
    slow(stack, &id, "deploy", 4000).await?;

    let change = json!({"parameters": {"workload": "read-heavy"}});
    let (made, updated) = during_a_bind(stack, &id, &binding, async || stack.broker.update(&id, &change).await).await?;

    assert_eq!((made.status, updated.status), (201, 202), "{made:?} {updated:?}");
    assert_eq!(stack.broker.settled(&id).await?["state"], "succeeded");
    let again = stack.broker.bind(&id, DB_SINGLE, &binding).await?;
    assert_eq!((again.status, again.body), (200, made.body));
    Ok(())
}

#[tokio::test]
async fn a_binding_that_is_made_during_the_deletion_goes_with_its_instance() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    stack.broker.provisioned(&id, DB_SINGLE).await?;

    let delete = async || stack.broker.deprovision(&id, DB_SINGLE).await;
    let (made, deleted) = during_a_bind(stack, &id, &binding, delete).await?;

    assert_eq!(deleted.status, 202, "{deleted:?}");
    ensure!(made.status == 201 || is_busy(&made).is_ok(), "{made:?}");
    stack.broker.settled(&id).await?;
    assert_eq!(stack.broker.unbind(&id, DB_SINGLE, &binding).await?.status, 410);
    ensure!(!stack.director.deployments().await?.contains(&deployment_of(&id)), "the deployment is still there");
    Ok(())
}

#[tokio::test]
async fn a_deletion_during_the_creation_is_accepted_and_ends_it() -> Result<()> {
    let stack = stack().await?;
    let id = creation_that_takes(stack, 5000).await?;

    let answers = try_join_all((0..MANY).map(|_| stack.broker.deprovision(&id, DB_LEADER_FOLLOWER))).await?;
    let end = stack.broker.settled(&id).await?;

    is_one_operation(&answers)?;
    ensure!(end["state"] == "gone" || end["state"] == "succeeded", "{end}");
    ensure!(!stack.director.deployments().await?.contains(&deployment_of(&id)), "the deployment is still there");
    let requests = simulation::requests(&stack.director, Some(&deployment_of(&id))).await?;
    assert_eq!((count(&requests, POST), count(&requests, ERRAND)), (1, 0), "{requests}");
    Ok(())
}

#[tokio::test]
async fn a_binding_or_an_update_during_the_creation_is_refused_and_possible_after_it() -> Result<()> {
    let stack = stack().await?;
    let (id, binding) = (creation_that_takes(stack, 1000).await?, new_id());

    let early = stack.broker.bind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    let change = json!({"parameters": {"replication_mode": "semi-sync"}});
    is_busy(&stack.broker.update(&id, &change).await?)?;
    assert_eq!(stack.broker.unbind(&id, DB_LEADER_FOLLOWER, &binding).await?.status, 410, "there is none");
    stack.broker.settled(&id).await?;
    let later = try_join_all((0..MANY).map(|_| stack.broker.bind(&id, DB_LEADER_FOLLOWER, &binding))).await?;
    let last = stack.broker.bind(&id, DB_LEADER_FOLLOWER, &binding).await?;

    is_busy(&early)?;
    assert_eq!(last.status, 200, "{last:?}");
    assert_eq!(later.iter().filter(|answer| answer.status == 201).count(), 1, "{later:?}");
    for answer in later {
        match answer.status {
            200 | 201 => assert_eq!(answer.body["credentials"], last.body["credentials"]),
            _ => is_busy(&answer)?,
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_deletion_of_a_bound_instance_and_an_unbind_at_once_leave_nothing() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    stack.broker.bind(&id, DB_SINGLE, &binding).await?;

    let deleted = stack.broker.deprovision(&id, DB_SINGLE);
    let unbound = stack.broker.unbind(&id, DB_SINGLE, &binding);
    let (deleted, unbound) = tokio::try_join!(deleted, unbound)?;

    ensure!(deleted.status == 202, "{deleted:?}");
    ensure!(matches!(unbound.status, 200 | 410) || is_busy(&unbound).is_ok(), "{unbound:?}");
    stack.broker.settled(&id).await?;
    let again = stack.broker.unbind(&id, DB_SINGLE, &binding).await?;
    assert_eq!(again.status, 410, "{again:?}");
    Ok(())
}

#[tokio::test]
async fn operations_that_wait_share_their_looks_at_the_tasks() -> Result<()> {
    let stack = stack().await?;

    let ids = try_join_all((0..20).map(|_| creation_that_takes(stack, 4000))).await?;

    for id in &ids {
        assert_eq!(stack.broker.settled(id).await?["state"], "succeeded");
        let requests = simulation::requests(&stack.director, Some(&deployment_of(id))).await?;
        // Some before and after each of two tasks. Each for itself would be about eighty.
        ensure!(count(&requests, "GET /tasks") <= 20, "{requests}");
        assert_eq!((count(&requests, POST), count(&requests, ERRAND)), (1, 1), "{requests}");
    }
    Ok(())
}
