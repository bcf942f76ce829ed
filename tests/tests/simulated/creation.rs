//! Creations of pairs with every fault that one can meet.

use anyhow::{Context, Result, ensure};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tests::broker::{DB_LEADER_FOLLOWER, deployment_of, new_id};
use tests::proxy::Seen;
use tests::simulation::{self, count, fault};
use tests::stack::Wiring;
use tests::{Director, OwnBroker, Stack};

use crate::ending::{
    Case, ERRAND, OUTPUT, POST, ROWS, TASKS, answer, case, deleted, denied, fails, named, nothing_twice, page, play,
    succeeds, times, unknown,
};
use crate::operators::at_work;

const VMS: &str = "The virtual machines could not be created.";
const REPLICATION: &str = "Replication between the two servers could not be configured.";

#[tokio::test]
async fn a_creation_ends_well_or_with_a_sentence_whatever_goes_wrong() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let cases = [lost(), refused(), of_the_deployment(), of_the_errand(), of_the_machines(), garbled()];
    let cases = named(cases.into_iter().flatten().collect());

    play(&stack, &cases, async |id| stack.broker.provision(id, DB_LEADER_FOLLOWER).await).await?;

    deleted(&stack, &cases, DB_LEADER_FOLLOWER).await?;
    stack.shutdown()
}

/// A task waits for ten seconds. In front of many others it would begin to wait at any time.
#[tokio::test]
async fn a_lock_that_its_worker_has_left_for_longer_than_a_task_waits_is_waited_for() -> Result<()> {
    let (stack, id) = (crate::stack().await?, new_id());
    let deployment = deployment_of(&id);
    let dies = fault(&deployment, "deploy", "worker_dies", json!({"count": 1, "latency_ms": 25_000}));
    simulation::add_fault(&stack.director, &dies).await?;

    stack.broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;

    let requests = simulation::requests(&stack.director, Some(&deployment)).await?;
    let tasks = stack.director.get(&format!("/tasks?deployment={deployment}&state=error")).await?;
    ensure!(count(&requests, POST) > 2 && tasks.to_string().contains("Failed to acquire lock"), "{requests} {tasks}");
    nothing_twice(&stack.director, &id).await?;
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}

/// As by a proxy that lost the answer. The second task dies on the lock, and is the newest by number and by time.
#[tokio::test]
async fn of_a_deployment_that_somebody_has_sent_twice_the_task_that_works_counts() -> Result<()> {
    let (stack, id) = (crate::stack().await?, new_id());
    let (director, deployment) = (&stack.director, deployment_of(&id));
    let own = OwnBroker::start(stack).await?;
    let slow = fault(&deployment, "create_vm", "delay", json!({"latency_ms": 16_000}));
    simulation::add_fault(director, &slow).await?;
    own.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    let first = at_work(director, &id, "create deployment").await?;
    let first = director.get(&format!("/tasks/{first}")).await?;

    let sent = own.proxy.seen().into_iter().find(|seen| seen.method == "POST").context("find what was sent")?;
    let second = send_again(director, &sent, first["context_id"].as_str().unwrap_or_default()).await?;
    let second = director.finished(second).await?;
    let told = own.broker.last_operation(&id).await?.body;
    let end = own.broker.settled(&id).await?;

    ensure!(second["state"] == "error" && second.to_string().contains("Failed to acquire lock"), "{second}");
    assert_eq!((&told["state"], &end["state"]), (&json!("in progress"), &json!("succeeded")), "{end}");
    let requests = simulation::requests(director, Some(&deployment)).await?;
    assert_eq!([POST, ERRAND].map(|act| count(&requests, act)), [2, 1], "one is not the broker's: {requests}");
    nothing_twice(director, &id).await?;
    own.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}

/// The same request to the director; the answer is its task.
async fn send_again(director: &Director, sent: &Seen, context: &str) -> Result<u64> {
    let authority = reqwest::Certificate::from_pem(director.ca_pem.as_bytes())?;
    let http = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().redirect(Policy::none()).build()?;
    let secret = std::fs::read_to_string(&director.secret_path)?;
    let request = http.post(format!("{}{}", director.url, sent.path)).basic_auth(&director.client, Some(secret));
    let request = request.header("content-type", "text/yaml").header("x-bosh-context-id", context);
    let answer = request.body(sent.body.clone()).send().await?;
    let location = answer.headers().get("location").context("find the task of what was sent again")?.to_str()?;
    location.rsplit('/').next().unwrap_or_default().parse().context("read the number of a task")
}

fn lost() -> Vec<Case> {
    // Longer than the broker waits.
    let late = json!({"count": 1, "latency_ms": 33_000});
    vec![
        case("F1.1 the answer of the deployment is lost", succeeds(1, 1), &[(POST, "lose_answer", times(1))]),
        case("F1.1 the deployment is lost", succeeds(2, 1), &[(POST, "lose_request", times(1))]),
        case("F1.1 the answer of the errand is lost", succeeds(1, 1), &[(ERRAND, "lose_answer", times(1))]),
        case("F1.1 the errand is lost", succeeds(1, 2), &[(ERRAND, "lose_request", times(1))]),
        case("F1.2 the answer of the deployment comes too late", succeeds(1, 1), &[(POST, "delay_answer", late)]),
        case("F1.2 the answer of the deployment breaks off", succeeds(1, 1), &[(POST, "truncate", times(1))]),
        case(
            "F1.3 looks at the tasks are lost",
            succeeds(1, 1),
            &[(TASKS, "lose_answer", json!({"after": 1, "count": 3}))],
        ),
        case("F1.3 looks at the instances are lost", succeeds(1, 1), &[(ROWS, "lose_answer", times(3))]),
        case("F1.3 looks at an output are lost", succeeds(1, 1), &[(OUTPUT, "lose_answer", times(3))]),
    ]
}

fn refused() -> Vec<Case> {
    let of_a_proxy = |count, status| json!({"count": count, "status": status});
    let gone = r#"{"code":10000,"description":"Task 1 not found"}"#;
    let no_route = "404 Not Found: Requested route does not exist.\n";
    vec![
        case("F2.1 a look", succeeds(1, 1), &[(TASKS, "answer", unknown(1))]),
        case("F2.1 the deployment", succeeds(2, 1), &[(POST, "answer", unknown(1))]),
        case("F2.1 the errand", succeeds(1, 2), &[(ERRAND, "answer", unknown(1))]),
        case("F2.2 the deployment is not allowed for a while", succeeds(3, 1), &[(POST, "answer", denied(2))]),
        case("F2.2 the errand is not allowed for a while", succeeds(1, 3), &[(ERRAND, "answer", denied(2))]),
        case("F3.1 502 to looks at the tasks", succeeds(1, 1), &[(TASKS, "answer", of_a_proxy(6, 502))]),
        case("F3.1 503 to looks at the instances", succeeds(1, 1), &[(ROWS, "answer", of_a_proxy(6, 503))]),
        case("F3.1 504 to looks at an output", succeeds(1, 1), &[(OUTPUT, "answer", of_a_proxy(6, 504))]),
        case("F3.1 504 to the deployment", succeeds(2, 1), &[(POST, "answer", of_a_proxy(1, 504))]),
        case("F3.1 502 to the errand", succeeds(1, 2), &[(ERRAND, "answer", of_a_proxy(1, 502))]),
        case("F3.1 a proxy that knows no route", succeeds(1, 1), &[(ROWS, "answer", answer(2, 404, no_route))]),
        case("F3.3 an output is gone for a while", succeeds(1, 1), &[(OUTPUT, "answer", answer(2, 404, gone))]),
    ]
}

fn of_the_deployment() -> Vec<Case> {
    let fail = |code: u32, message: &str| ("deploy", "fail", json!({"code": code, "message": message}));
    let dies = |latency_ms: u64| ("deploy", "worker_dies", json!({"count": 1, "latency_ms": latency_ms}));
    let no_az = "Instance group 'mysql' must specify availability zone that matches availability zones of network";
    vec![
        case("F4.1 no such VM type", fails(VMS, 1, 0), &[fail(140_004, "no such VM type")]),
        case("F8.5 no such AZ", fails(VMS, 1, 0), &[fail(150_006, no_az)]),
        case("F4.2 the deployment", succeeds(2, 1), &[("deploy", "time_out", times(1))]),
        case("F4.5 the deployment", succeeds(1, 1), &[("deploy", "queue", json!({"latency_ms": 3000}))]),
        case("F5.1 the deployment", succeeds(3, 1), &[("deploy", "lock_conflict", times(2))]),
        case("F6.8 the deployment's worker dies", succeeds(2, 1), &[dies(0)]),
        case("F6.9 the lock stays for a moment", succeeds(2, 1), &[dies(2000)]),
    ]
}

fn of_the_errand() -> Vec<Case> {
    let exit = |exit_code: i32, stdout: String| {
        ("run_errand", "exit", json!({"exit_code": exit_code, "stdout": stdout, "stderr": "the disk is full"}))
    };
    let fail = ("errand", "fail", json!({"code": 510_000, "message": "it is stopped"}));
    vec![
        case("F4.1 the errand's task", fails(REPLICATION, 1, 1), &[fail]),
        case("F4.2 the errand", succeeds(1, 2), &[("errand", "time_out", times(1))]),
        case("F4.5 the errand", succeeds(1, 1), &[("errand", "queue", json!({"latency_ms": 3000}))]),
        case("F4.6 7", fails(REPLICATION, 1, 1), &[exit(7, String::new())]),
        case("F4.8 the errand", fails(REPLICATION, 1, 1), &[("errand", "skip", json!({}))]),
        case("F4.9 the errand", fails(REPLICATION, 1, 1), &[("run_errand", "fail", json!({}))]),
        case("F5.1 the errand", succeeds(1, 3), &[("errand", "lock_conflict", times(2))]),
        case("F6.8 the errand's worker dies", succeeds(1, 2), &[("errand", "worker_dies", times(1))]),
        case("F9.3 an errand that fails", fails(REPLICATION, 1, 1), &[exit(1, "x".repeat(2 << 20))]),
    ]
}

fn of_the_machines() -> Vec<Case> {
    let edit = |change: Value| (ROWS, "edit", change);
    // As a director lists what a dry run has left.
    let phantom = |index: u32| {
        json!({"agent_id": null, "cid": null, "job": "mysql", "index": index, "id": "phantom", "az": "z1", "ips": [],
            "vm_created_at": null, "expects_vm": true})
    };
    let old = json!({"agent_id": "old", "cid": "old", "job": "mysql", "index": 0, "id": "old", "az": "z1",
        "ips": ["127.0.0.9"], "vm_created_at": "2026-11-21T18:41:59Z", "active": false});
    let bare = json!({"set": {"agent_id": null, "vm_created_at": null, "expects_vm": null, "vitals": null}});
    vec![
        case("F6.1 an agent is silent for a while", succeeds(1, 1), &[("agent", "lose_answer", times(3))]),
        case("F6.3 behind the servers", succeeds(1, 1), &[edit(json!({"append": [phantom(9)]}))]),
        case("F6.3 before them", succeeds(1, 1), &[edit(json!({"append": [phantom(0)], "reverse": true}))]),
        case("F6.4 an old VM beside the new one", succeeds(1, 1), &[edit(json!({"append": [old]}))]),
        case("F6.5 rows say the least", succeeds(1, 1), &[edit(bare)]),
        case("F6.7 the last one first", succeeds(1, 1), &[edit(json!({"reverse": true}))]),
        case("F7.1 a VM cannot be made", fails(VMS, 1, 0), &[("create_vm", "fail", json!({"instance": 1}))]),
        case("F7.1 jobs do not start", fails(VMS, 1, 0), &[("start_jobs", "fail", json!({}))]),
        case("F8.5 rows without an AZ", succeeds(1, 1), &[edit(json!({"set": {"az": null}}))]),
    ]
}

fn garbled() -> Vec<Case> {
    let unsatisfiable = || answer(2, 416, "Byte range unsatisfiable\n");
    let clock = |timestamp: Value| (TASKS, "edit", json!({"set": {"timestamp": timestamp}}));
    vec![
        case("F9.1 tasks", succeeds(1, 1), &[(TASKS, "truncate", times(2))]),
        case("F9.1 instances", succeeds(1, 1), &[(ROWS, "truncate", times(2))]),
        case("F9.1 an output", succeeds(1, 1), &[(OUTPUT, "truncate", times(2))]),
        case("F9.2 instead of the tasks", succeeds(1, 1), &[(TASKS, "answer", page(2))]),
        case("F9.2 instead of the instances", succeeds(1, 1), &[(ROWS, "answer", page(2))]),
        case("F9.2 instead of an output", succeeds(1, 1), &[(OUTPUT, "answer", page(2))]),
        case("F9.2 instead of the deployment's task", succeeds(2, 1), &[(POST, "answer", page(1))]),
        case("F9.2 a login instead of the deployment's task", succeeds(2, 1), &[(POST, "answer", answer(1, 302, ""))]),
        case("F9.2 instead of the errand's task", succeeds(1, 2), &[(ERRAND, "answer", page(1))]),
        case("F9.4 tasks", succeeds(1, 1), &[(TASKS, "garble", times(2))]),
        case("F9.4 what our errand says", succeeds(1, 1), &[(OUTPUT, "garble", json!({}))]),
        case("F9.5 of outputs", succeeds(1, 1), &[(OUTPUT, "ignore_range", json!({}))]),
        case("F9.6 of an output", succeeds(1, 1), &[(OUTPUT, "answer", unsatisfiable())]),
        case("F10.1 long ago", succeeds(1, 1), &[clock(json!(1))]),
        case("F10.1 in another century", succeeds(1, 1), &[clock(json!(9_999_999_999_u64))]),
        case("F10.1 no time at all", succeeds(1, 1), &[clock(Value::Null)]),
        case("F10.2 the oldest first", succeeds(1, 1), &[(TASKS, "edit", json!({"reverse": true}))]),
    ]
}
