//! How an operation with faults has to end, how often the director is asked meanwhile, and that no step is done twice.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::broker::{Answer, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::{Director, Stack};

use crate::faults;

pub(crate) const POST: &str = "POST /deployments";
pub(crate) const ERRAND: &str = "POST /deployments/{deployment}/errands/{errand}/runs";
pub(crate) const DELETE: &str = "DELETE /deployments/{deployment}";
pub(crate) const LOOK: &str = "GET /deployments/{deployment}";
pub(crate) const TASKS: &str = "GET /tasks";
pub(crate) const OUTPUT: &str = "GET /tasks/{id}/output";
pub(crate) const ROWS: &str = "GET /deployments/{deployment}/instances";
/// What each failed operation says at its end.
const WAY_OUT: &str = "providing the following information: service: p.mysql, service-instance-guid: ";

/// How an operation ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    state: &'static str,
    /// Of the sentence for the user.
    words: &'static str,
    /// How often the director is asked for a deployment, an errand and a deletion.
    sent: [u64; 3],
}

/// A creation or an update that ends well.
pub(crate) fn succeeds(deploys: u64, errands: u64) -> End {
    End { state: "succeeded", words: "completed", sent: [deploys, errands, 0] }
}

/// One that does not.
pub(crate) fn fails(words: &'static str, deploys: u64, errands: u64) -> End {
    End { state: "failed", words, sent: [deploys, errands, 0] }
}

/// A deletion that ends well.
pub(crate) fn is_gone(errands: u64, deletions: u64) -> End {
    End { state: "gone", words: "", sent: [0, errands, deletions] }
}

/// One that does not.
pub(crate) fn stays(words: &'static str, errands: u64, deletions: u64) -> End {
    End { state: "failed", words, sent: [0, errands, deletions] }
}

/// What goes wrong with one operation, and how that ends.
pub(crate) struct Case {
    name: &'static str,
    faults: Vec<Value>,
    end: End,
}

/// One of them; the name begins with the number of the fault in `faults.txt`.
pub(crate) fn case(name: &'static str, end: End, faults: &[(&str, &str, Value)]) -> Case {
    let faults = faults.iter().map(|(act, kind, more)| fault("", act, kind, more.clone())).collect();
    Case { name, faults, end }
}

pub(crate) fn times(count: u64) -> Value {
    json!({"count": count})
}

/// An answer in the place of the director's.
pub(crate) fn answer(count: u64, status: u16, body: &str) -> Value {
    json!({"count": count, "status": status, "body": body})
}

/// What a proxy shows where the director should be.
pub(crate) fn page(count: u64) -> Value {
    answer(count, 200, "<html>maintenance</html>")
}

/// The director's word for what somebody may not do whom it knows.
pub(crate) fn denied(count: u64) -> Value {
    answer(count, 401, r#"{"code":600000,"description":"Require one of the scopes: bosh.admin"}"#)
}

/// And for somebody whom it does not know.
pub(crate) fn unknown(count: u64) -> Value {
    answer(count, 401, "Not authorized: '/'\n")
}

/// Service instances, one for each case.
pub(crate) fn named(cases: Vec<Case>) -> Vec<(String, Case)> {
    cases.into_iter().map(|case| (new_id(), case)).collect()
}

/// Make them.
pub(crate) async fn made(stack: &Stack, cases: &[(String, Case)], plan: &str) -> Result<()> {
    try_join_all(cases.iter().map(|(id, _)| stack.broker.provisioned(id, plan))).await.map(drop)
}

/// Play the faults of each case on its instance while the act is carried out there. The stack is the caller's alone.
pub(crate) async fn play(
    stack: &Stack,
    cases: &[(String, Case)],
    act: impl AsyncFn(&str) -> Result<Answer>,
) -> Result<()> {
    let faults: Vec<Value> = cases.iter().flat_map(|(id, case)| with_deployment(&case.faults, id)).collect();
    simulation::clear(&stack.director).await?;
    simulation::set_faults(&stack.director, &json!(faults)).await?;

    let ended = join_all(cases.iter().map(|(id, case)| ends_as_it_must(stack, id, case, &act))).await;

    let wrong: Vec<String> = ended.into_iter().filter_map(|ended| ended.err().map(|why| format!("{why:#}"))).collect();
    assert_eq!(wrong, Vec::<String>::new());
    simulation::clear(&stack.director).await?;
    for (id, case) in cases {
        nothing_twice(&stack.director, id).await.context(case.name)?;
    }
    Ok(())
}

/// Delete them all, but for those that a deletion has ended well; nothing but the broker is left.
pub(crate) async fn deleted(stack: &Stack, cases: &[(String, Case)], plan: &str) -> Result<()> {
    let left = cases.iter().filter(|(_, case)| case.end.state != "gone");
    try_join_all(left.map(|(id, _)| stack.broker.deprovisioned(id, plan))).await?;
    assert_eq!(stack.director.deployments().await?, ["mysql-broker"]);
    Ok(())
}

/// How often the director was asked for a deployment, an errand and a deletion.
pub(crate) async fn sent(director: &Director, id: &str) -> Result<[u64; 3]> {
    let requests = simulation::requests(director, Some(&deployment_of(id))).await?;
    Ok([POST, ERRAND, DELETE].map(|act| count(&requests, act)))
}

/// No step of an operation was done more often than once: no deployment, no errand, no deletion.
pub(crate) async fn nothing_twice(director: &Director, id: &str) -> Result<()> {
    let path = format!("/tasks?deployment={}&state=done&limit=1000&verbose=1", deployment_of(id));
    let tasks = director.get(&path).await?;
    let mut done = BTreeSet::new();
    for task in tasks.as_array().context("read the tasks")? {
        // An operator's have no context.
        let is_new = task["context_id"] == "" || done.insert(format!("{}{}", task["context_id"], task["description"]));
        ensure!(is_new, "something was done twice: {tasks}");
    }
    Ok(())
}

/// The end of an operation that failed, with its sentence, and nothing of what only operators may know.
pub(crate) fn failed_with(end: &Value, id: &str, words: &str) -> Result<()> {
    let told = end["description"].as_str().unwrap_or_default();
    ensure!(end["state"] == "failed" && told.contains(words) && told.contains(&format!("{WAY_OUT}{id}")), "{end}");
    Ok(())
}

fn with_deployment(faults: &[Value], id: &str) -> Vec<Value> {
    let mut faults = faults.to_vec();
    for fault in &mut faults {
        fault["deployment"] = json!(deployment_of(id));
    }
    faults
}

async fn ends_as_it_must(
    stack: &Stack,
    id: &str,
    Case { name, end, .. }: &Case,
    act: impl AsyncFn(&str) -> Result<Answer>,
) -> Result<()> {
    ensure!(faults::are_known(name), "{name}: there is no such fault");
    let answer = act(id).await.context(*name)?;
    ensure!(answer.status == StatusCode::ACCEPTED.as_u16(), "{name}: {answer:?}");
    let ended = stack.broker.settled(id).await.context(*name)?;
    let sent = sent(&stack.director, id).await?;
    let told = ended["description"].as_str().unwrap_or_default();
    ensure!(ended["state"] == end.state && told.contains(end.words), "{name}: {ended}");
    if end.state == "failed" {
        failed_with(&ended, id, end.words).context(*name)?;
    }
    ensure!(sent == end.sent, "{name}: {sent:?}, not {:?}", end.sent);
    Ok(())
}
