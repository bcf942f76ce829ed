//! The simulated CPI, as authors of broker tests use it: a whole life of service instances without a MySQL server, and
//! faults of every kind that directors are known for. Whatever goes wrong, the operation ends, and nothing is made twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::stack::Wiring;
use tests::{Stack, eventually};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
const POST: &str = "POST /deployments";

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await
}

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

/// How a creation with faults has to end.
#[derive(Clone, Copy)]
enum End {
    /// With so many requests for the deployment.
    Succeeds(u64),
    /// With these words for the user, and so many requests.
    Fails(&'static str, u64),
}

struct Case {
    name: &'static str,
    faults: Vec<Value>,
    end: End,
}

/// Faults of one creation: `(act, fault, more)`.
fn case(name: &'static str, end: End, faults: &[(&str, &str, Value)]) -> Case {
    let faults = faults.iter().map(|(act, kind, more)| fault("", act, kind, more.clone())).collect();
    Case { name, faults, end }
}

/// The groups of faults that directors are known for.
fn cases() -> Vec<Case> {
    use End::{Fails, Succeeds};
    let vms = "The virtual machines could not be created.";
    let replication = "Replication between the two servers could not be configured.";
    let (tasks, output, rows) = ("GET /tasks", "GET /tasks/{id}/output", "GET /deployments/{deployment}/instances");
    let errand = "POST /deployments/{deployment}/errands/{errand}/runs";
    let once = || json!({"count": 1});
    let page = || json!({"count": 2, "status": 200, "body": "<html>maintenance</html>"});
    let denied =
        || json!({"count": 2, "status": 401, "body": r#"{"code":600000,"description":"Require one of the scopes"}"#});
    let gone = json!({"count": 2, "status": 404, "body": r#"{"code":10000,"description":"Task 1 not found"}"#});
    let huge = json!({"exit_code": 1, "stdout": "x".repeat(2 << 20), "stderr": "the disk is full"});
    let phantom = json!({"append": [{"agent_id": null, "cid": null, "job": "mysql", "index": 9, "id": "phantom",
        "az": "z1", "ips": [], "vm_created_at": null, "expects_vm": false}], "reverse": true});
    vec![
        case("1 the answer of the deploy is lost", Succeeds(1), &[(POST, "lose_answer", once())]),
        case("1 the deploy is lost", Succeeds(2), &[(POST, "lose_request", once())]),
        case("1 the answer of the errand is lost", Succeeds(1), &[(errand, "lose_answer", once())]),
        case("1 looks are lost", Succeeds(1), &[(tasks, "lose_answer", json!({"after": 1, "count": 3}))]),
        case(
            "2 a token expires",
            Succeeds(1),
            &[(tasks, "answer", json!({"count": 1, "status": 401, "body": "Not authorized: '/tasks'\n"}))],
        ),
        case("2 no scope for a while", Succeeds(3), &[(POST, "answer", denied())]),
        case("3 the director restarts", Succeeds(1), &[(tasks, "answer", json!({"count": 6, "status": 502}))]),
        case("3 a proxy gives up on the deploy", Succeeds(2), &[(POST, "answer", json!({"count": 1, "status": 504}))]),
        case("3 an output vanishes", Succeeds(1), &[(output, "answer", gone)]),
        case(
            "4 the task fails",
            Fails(vms, 1),
            &[("deploy", "fail", json!({"code": 140_004, "message": "no such VM type"}))],
        ),
        case("4 the task times out", Succeeds(2), &[("deploy", "time_out", once())]),
        case("4 the task is stuck in the queue", Succeeds(1), &[("deploy", "queue", json!({"latency_ms": 3000}))]),
        case(
            "4 the errand has an exit code",
            Fails(replication, 1),
            &[("run_errand", "exit", json!({"exit_code": 7}))],
        ),
        case("4 the errand is skipped", Fails(replication, 1), &[("errand", "skip", json!({}))]),
        case("4 the agent fails in an errand", Fails(replication, 1), &[("run_errand", "fail", json!({}))]),
        case("5 another task has the lock", Succeeds(3), &[("deploy", "lock_conflict", json!({"count": 2}))]),
        case("5 another task has the lock of the errand", Succeeds(1), &[("errand", "lock_conflict", once())]),
        case(
            "6 a worker dies and its lock stays",
            Succeeds(2),
            &[("deploy", "worker_dies", json!({"count": 1, "latency_ms": 2000}))],
        ),
        case("6 an errand's worker dies", Succeeds(1), &[("errand", "worker_dies", once())]),
        case("6 phantoms in another order", Succeeds(1), &[(rows, "edit", phantom)]),
        case("6 an agent is silent for a while", Succeeds(1), &[("agent", "lose_answer", json!({"count": 3}))]),
        case("7 a VM cannot be made", Fails(vms, 1), &[("create_vm", "fail", json!({"instance": 1}))]),
        case("7 jobs do not start", Fails(vms, 1), &[("start_jobs", "fail", json!({}))]),
        case("9 an HTML page instead of tasks", Succeeds(1), &[(tasks, "answer", page())]),
        case("9 half of the tasks", Succeeds(1), &[(tasks, "truncate", json!({"count": 2}))]),
        case("9 tasks that are not UTF-8", Succeeds(1), &[(tasks, "garble", json!({"count": 2}))]),
        case("9 an errand says too much", Fails(replication, 1), &[("run_errand", "exit", huge)]),
        case("10 clocks differ", Succeeds(1), &[(tasks, "edit", json!({"set": {"timestamp": 1}, "reverse": true}))]),
    ]
}

#[tokio::test]
async fn a_creation_ends_well_or_with_a_sentence_whatever_goes_wrong() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let cases: Vec<(String, Case)> = cases().into_iter().map(|case| (new_id(), case)).collect();
    let faults = cases.iter().flat_map(|(id, case)| {
        let deployment = deployment_of(id);
        case.faults.iter().map(move |fault| with_deployment(fault, &deployment))
    });
    simulation::set_faults(&stack.director, &faults.collect()).await?;

    let ended = join_all(cases.iter().map(|(id, case)| ends_as_it_must(&stack, id, case))).await;
    let wrong: Vec<String> = ended.into_iter().filter_map(|ended| ended.err().map(|why| format!("{why:#}"))).collect();
    assert_eq!(wrong, Vec::<String>::new());

    simulation::clear(&stack.director).await?;
    try_join_all(cases.iter().map(|(id, _)| stack.broker.deprovisioned(id, DB_LEADER_FOLLOWER))).await?;
    assert_eq!(stack.director.deployments().await?, ["mysql-broker"]);
    stack.shutdown()
}

fn with_deployment(fault: &Value, deployment: &str) -> Value {
    let mut fault = fault.clone();
    fault["deployment"] = json!(deployment);
    fault
}

async fn ends_as_it_must(stack: &Stack, id: &str, Case { name, end, .. }: &Case) -> Result<()> {
    let answer = stack.broker.provision(id, DB_LEADER_FOLLOWER).await?;
    ensure!(answer.status == 202, "{name}: {answer:?}");
    let ended = stack.broker.settled(id).await.context(*name)?;
    let requests = simulation::requests(&stack.director, Some(&deployment_of(id))).await?;
    let (state, words, posts) = match *end {
        End::Succeeds(posts) => ("succeeded", "Instance provisioning completed", posts),
        End::Fails(words, posts) => ("failed", words, posts),
    };
    let description = ended["description"].as_str().unwrap_or_default();
    ensure!(ended["state"] == state && description.contains(words), "{name}: {ended}");
    ensure!(count(&requests, POST) == posts, "{name}: {requests}");
    let tasks = stack.director.get(&format!("/tasks?deployment={}&state=done", deployment_of(id))).await?;
    let deploys = tasks.as_array().into_iter().flatten().filter(|task| task["description"] == "create deployment");
    ensure!(deploys.count() <= 1, "{name}: deployed more than once: {tasks}");
    Ok(())
}

#[tokio::test]
async fn a_deletion_ends_well_whatever_goes_wrong() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let delete = "DELETE /deployments/{deployment}";
    let cases = [
        (delete, "lose_answer", json!({"count": 1})),
        (delete, "lose_request", json!({"count": 1})),
        (delete, "answer", json!({"count": 1, "status": 503})),
        ("delete", "lock_conflict", json!({"count": 2})),
        ("delete", "worker_dies", json!({"count": 1})),
        ("delete", "fail", json!({"count": 1, "code": 450_002, "message": "Timed out sending 'get_state'"})),
        // Half of the deployment is left.
        ("delete_vm", "fail", json!({"instance": 1, "count": 1})),
        ("vm_state", "silent", json!({"instance": 0})),
        ("stop_jobs", "fail", json!({"instance": 0})),
    ];
    let ids: Vec<String> = cases.iter().map(|_| new_id()).collect();
    try_join_all(ids.iter().map(|id| stack.broker.provisioned(id, DB_LEADER_FOLLOWER))).await?;
    let faults = ids.iter().zip(&cases);
    let faults = faults.map(|(id, (act, kind, more))| fault(&deployment_of(id), act, kind, more.clone()));
    simulation::set_faults(&stack.director, &faults.collect()).await?;

    let started = Instant::now();
    let ended = join_all(ids.iter().map(|id| stack.broker.deprovisioned(id, DB_LEADER_FOLLOWER))).await;

    let named = ended.into_iter().zip(&cases);
    let wrong: Vec<String> =
        named.filter_map(|(end, case)| end.err().map(|why| format!("{case:?}: {why:#}"))).collect();
    assert_eq!(wrong, Vec::<String>::new(), "after {:?}", started.elapsed());
    assert_eq!(stack.director.deployments().await?, ["mysql-broker"]);
    stack.shutdown()
}
