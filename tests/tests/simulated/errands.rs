//! A plan's own errands, behind a creation and before a deletion, with every fault that an errand can meet.

use anyhow::Result;
use serde_json::{Value, json};
use tests::Stack;
use tests::stack::Wiring;

use crate::ending::{
    Case, ERRAND, OUTPUT, answer, case, deleted, denied, fails, is_gone, made, named, page, play, stays, succeeds,
    times, unknown,
};

/// A pair with one errand on both servers, behind its deployment and before its deletion.
const WITH_ERRANDS: &str = "9d5c7b1e-2f3a-4c7d-8e55-0b6a4f1c3d22";
const BEHIND: &str = "An errand after the deployment failed.";
const BEFORE: &str = "An errand before the deletion failed.";

async fn start() -> Result<Stack> {
    let plan = json!({
        "id": WITH_ERRANDS, "name": "with-errands", "description": "Two servers with errands",
        "deployment": {"topology": "leader-follower", "azs": ["z1", "z2"], "vm_type": "small", "disk_type": "5GB",
                       "disk_size_in_mb": 5120},
        "lifecycle_errands": {"post_deploy": [{"name": "inspect"}], "pre_delete": [{"name": "inspect"}]},
    });
    Stack::start_offering(Wiring::Simulated, std::slice::from_ref(&plan)).await
}

/// More than a megabyte.
const LONG: usize = 3 << 19;

/// The same, behind the errand that makes a pair of the servers.
fn second(more: &Value) -> Value {
    let mut more = more.clone();
    more["after"] = json!(1);
    more
}

#[tokio::test]
async fn an_errand_behind_a_creation_runs_once_whatever_goes_wrong() -> Result<()> {
    let stack = start().await?;
    let cases = named([behind_at_the_wire(), behind_at_work()].into_iter().flatten().collect());

    play(&stack, &cases, async |id| stack.broker.provision(id, WITH_ERRANDS).await).await?;

    deleted(&stack, &cases, WITH_ERRANDS).await?;
    stack.shutdown()
}

fn behind_at_the_wire() -> Vec<Case> {
    let of_a_proxy = json!({"count": 1, "status": 504});
    vec![
        case("F1.1 the answer is lost", succeeds(1, 2), &[(ERRAND, "lose_answer", second(&times(1)))]),
        case("F1.1 the request is lost", succeeds(1, 3), &[(ERRAND, "lose_request", second(&times(1)))]),
        case("F2.1 it is not known who asks", succeeds(1, 3), &[(ERRAND, "answer", second(&unknown(1)))]),
        case("F2.2 it is not allowed for a while", succeeds(1, 4), &[(ERRAND, "answer", second(&denied(2)))]),
        case("F3.1 504", succeeds(1, 3), &[(ERRAND, "answer", second(&of_a_proxy))]),
        case("F9.1 half of the output", succeeds(1, 2), &[(OUTPUT, "truncate", second(&times(2)))]),
        case("F9.2 instead of the output", succeeds(1, 2), &[(OUTPUT, "answer", second(&page(2)))]),
        case("F9.2 instead of the task", succeeds(1, 3), &[(ERRAND, "answer", second(&page(1)))]),
        case("F9.5 of the output", succeeds(1, 2), &[(OUTPUT, "ignore_range", json!({}))]),
        case("F9.6 of the output", succeeds(1, 2), &[(OUTPUT, "answer", second(&answer(2, 416, "")))]),
    ]
}

fn behind_at_work() -> Vec<Case> {
    // The errand that makes a pair runs on the first server only.
    let on_second = |exit_code: i32, stdout: String| {
        ("run_errand", "exit", json!({"instance": 1, "exit_code": exit_code, "stdout": stdout}))
    };
    let on_both = second(&json!({"exit_code": 7}));
    let fail = second(&json!({"code": 510_000, "message": "it is stopped"}));
    let agent = json!({"instance": 1});
    vec![
        case("F4.1 the task", fails(BEHIND, 1, 2), &[("errand", "fail", fail)]),
        case("F4.2 the errand", succeeds(1, 3), &[("errand", "time_out", second(&times(1)))]),
        case("F4.5 the errand", succeeds(1, 2), &[("errand", "queue", second(&json!({"latency_ms": 3000})))]),
        case("F4.6 on both", fails(BEHIND, 1, 2), &[("run_errand", "exit", on_both)]),
        case("F4.7 on the second one", fails(BEHIND, 1, 2), &[on_second(7, String::new())]),
        case("F4.8 the errand", fails(BEHIND, 1, 2), &[("errand", "skip", second(&json!({})))]),
        case("F4.9 on the second one", fails(BEHIND, 1, 2), &[("run_errand", "fail", agent)]),
        case("F5.1 the errand", succeeds(1, 4), &[("errand", "lock_conflict", second(&times(2)))]),
        case("F6.8 its worker dies", succeeds(1, 3), &[("errand", "worker_dies", second(&times(1)))]),
        case("F9.4 and ends well", succeeds(1, 2), &[(OUTPUT, "garble", second(&json!({})))]),
        case(
            "F9.4 and does not",
            fails(BEHIND, 1, 2),
            &[(OUTPUT, "garble", second(&json!({}))), on_second(7, "it fails".into())],
        ),
        case("F9.3 and ends well", succeeds(1, 2), &[on_second(0, "x".repeat(LONG))]),
        case("F9.3 and does not", fails(BEHIND, 1, 2), &[on_second(1, "x".repeat(LONG))]),
    ]
}

#[tokio::test]
async fn an_errand_before_a_deletion_runs_once_whatever_goes_wrong() -> Result<()> {
    let stack = start().await?;
    let cases = named(before());
    made(&stack, &cases, WITH_ERRANDS).await?;

    play(&stack, &cases, async |id| stack.broker.deprovision(id, WITH_ERRANDS).await).await?;

    deleted(&stack, &cases, WITH_ERRANDS).await?;
    stack.shutdown()
}

fn before() -> Vec<Case> {
    let on_second = |exit_code: i32| ("run_errand", "exit", json!({"instance": 1, "exit_code": exit_code}));
    let of_a_proxy = json!({"count": 1, "status": 503});
    vec![
        case("F1.1 the answer is lost", is_gone(1, 1), &[(ERRAND, "lose_answer", times(1))]),
        case("F1.1 the request is lost", is_gone(2, 1), &[(ERRAND, "lose_request", times(1))]),
        case("F2.1 it is not known who asks", is_gone(2, 1), &[(ERRAND, "answer", unknown(1))]),
        case("F3.1 503", is_gone(2, 1), &[(ERRAND, "answer", of_a_proxy)]),
        case("F4.2 the errand", is_gone(2, 1), &[("errand", "time_out", times(1))]),
        case("F4.7 on the second one", stays(BEFORE, 1, 0), &[on_second(7)]),
        case("F4.8 the errand", stays(BEFORE, 1, 0), &[("errand", "skip", json!({}))]),
        case("F4.9 on both", stays(BEFORE, 1, 0), &[("run_errand", "fail", json!({}))]),
        case("F5.1 the errand", is_gone(3, 1), &[("errand", "lock_conflict", times(2))]),
        case("F6.8 its worker dies", is_gone(2, 1), &[("errand", "worker_dies", times(1))]),
        case("F6.10 one VM is left", is_gone(1, 2), &[("delete_vm", "fail", json!({"instance": 1, "count": 1}))]),
        case("F9.2 instead of the output", is_gone(1, 1), &[(OUTPUT, "answer", page(2))]),
    ]
}
