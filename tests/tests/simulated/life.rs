//! A whole life of service instances without a MySQL server, as authors of broker tests use it.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, fault};
use tests::stack::Wiring;
use tests::{Stack, eventually};

use crate::{LIMIT, stack};

#[tokio::test]
async fn an_instance_lives_its_whole_life_without_a_server() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    let broker = &stack.broker;

    broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let bound = broker.bind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    let unbound = broker.unbind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;

    assert_eq!((bound.status, unbound.status), (201, 200), "{bound:?} {unbound:?}");
    assert_eq!(bound.body["credentials"]["port"], 3306);
    ensure!(!stack.director.deployments().await?.contains(&deployment_of(&id)), "the deployment is still there");
    Ok(())
}

/// There a VM may stand twice, and without vitals.
#[tokio::test]
async fn nobody_is_asked_for_vms_or_vitals() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    let (broker, deployment) = (&stack.broker, deployment_of(&id));

    broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    broker.bind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    broker.update(&id, &json!({"plan_id": DB_SINGLE})).await?;
    let updated = broker.settled(&id).await?;
    broker.unbind(&id, DB_SINGLE, &binding).await?;
    broker.deprovisioned(&id, DB_SINGLE).await?;

    assert_eq!(updated["state"], "succeeded", "{updated}");
    let requests = simulation::requests(&stack.director, Some(&deployment)).await?;
    let tasks = stack.director.get(&format!("/tasks?deployment={deployment}&limit=1000&verbose=2")).await?;
    ensure!(!requests.to_string().contains("/vms"), "{requests}");
    ensure!(!tasks.to_string().contains("retrieve vm-stats"), "{tasks}");
    Ok(())
}

/// An agent whose server dies cannot say whether the user was made before.
#[tokio::test]
async fn a_binding_is_remembered_where_its_user_may_be_there() -> Result<()> {
    let (stack, id, binding) = (stack().await?, new_id(), new_id());
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    let body = json!({"error": "ServerUnavailable", "description": "make the user: the server ended"}).to_string();
    // Behind the two looks for the leader.
    let dies = json!({"after": 2, "count": 3, "status": 503, "body": body});
    simulation::add_fault(&stack.director, &fault(&deployment_of(&id), "agent", "answer", dies)).await?;

    let bound = stack.broker.bind(&id, DB_SINGLE, &binding).await?;
    let unbound = stack.broker.unbind(&id, DB_SINGLE, &binding).await?;

    assert_eq!((bound.status, unbound.status), (500, 200), "{bound:?} {unbound:?}");
    Ok(())
}

#[tokio::test]
async fn roles_survive_errands_and_a_new_vm() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (director, deployment) = (&stack.director, deployment_of(&id));
    stack.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let instances = director.instances(&deployment).await?;
    let inspected = director.errand_on(&deployment, "inspect", &instances[0]).await?.succeeded()?.stdout;
    let leader = usize::from(!inspected.contains(&format!("{}: Leader", instances[0].ip())));
    let (old, new) = (&instances[leader], &instances[1 - leader]);

    let refused = director.errand_on(&deployment, "make-leader", new).await?;
    director.errand_on(&deployment, "make-read-only", old).await?.succeeded()?;
    director.errand_on(&deployment, "make-leader", new).await?.succeeded()?;
    director.errand_on(&deployment, "configure-leader-follower", new).await?.succeeded()?;
    director.act(&deployment, "recreate", new).await?;

    ensure!(refused.exit_code == 1 && refused.stderr.contains("data divergence"), "{refused:?}");
    let inspected = director.errand_on(&deployment, "inspect", old).await?.succeeded()?.stdout;
    ensure!(inspected.contains(&format!("{}: Leader", new.ip())), "{inspected}");
    ensure!(inspected.contains(&format!("{}: Follower", old.ip())), "{inspected}");
    Ok(())
}

#[tokio::test]
async fn simulated_vms_outlive_their_director() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let (id, binding) = (new_id(), new_id());
    stack.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let before = stack.director.instances(&deployment_of(&id)).await?;

    tests::processes::kill(stack.director_pid()?);
    stack.start_director().await?;

    let after = stack.director.instances(&deployment_of(&id)).await?;
    assert_eq!(before.iter().map(|vm| &vm.cid).collect::<Vec<_>>(), after.iter().map(|vm| &vm.cid).collect::<Vec<_>>());
    let bound = stack.broker.bind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    assert_eq!(bound.status, 201, "{bound:?}");
    stack.shutdown()
}

#[tokio::test]
async fn a_lost_vm_is_made_again() -> Result<()> {
    let (stack, id) = (stack().await?, new_id());
    let (director, deployment) = (&stack.director, deployment_of(&id));
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    let before = director.instances(&deployment).await?[0].cid.clone();

    let lost = fault(&deployment, "vm_state", "missing", json!({"count": 1}));
    simulation::add_fault(director, &lost).await?;

    eventually("the VM is another one", LIMIT, async || {
        let now = director.instances(&deployment).await?[0].cid.clone();
        Ok((now.is_some() && now != before).then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_can_never_happen_is_refused_and_the_faults_stay() -> Result<()> {
    let director = &stack().await?.director;
    let put = |body: &str| director.request(Method::PUT, "/simulation/faults", Some(("application/json", body.into())));

    for (body, expected) in [
        (r#"[{"act": "dpeloy"}]"#, "there is no 'dpeloy'"),
        (r#"[{"act": "deploy", "fault": "exit"}]"#, "'deploy' can have"),
        (r#"[{"act": "deploy", "fualt": "fail"}]"#, "unknown field"),
        ("{}", "expected a sequence"),
    ] {
        let answer = put(body).await?;
        ensure!(answer.status == 400 && answer.text.contains(expected), "{body}: {} {}", answer.status, answer.text);
    }
    Ok(())
}
