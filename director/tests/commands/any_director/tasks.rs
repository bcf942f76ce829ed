//! `tasks`, `task`, `cancel-task`, `locks`, `events`, and a deploy that meets another one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Check;
use super::deploying::deploy;
use super::instances::put;
use crate::api::{column, has_keys, task_of};

/// A writer waits ten seconds for the lock, and a real director's worker may take a few until it begins.
const HELD: Duration = Duration::from_secs(40);
/// How long a task may take until it has its lock.
const BEGIN_LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn has_one_writer_at_a_time(check: &Check) {
    let slow = check.manifest.watching(HELD);
    deploy(check, &slow).await.done();
    let first = check.first().await;
    let writer = task_of(&put(check, first["id"].as_str().unwrap(), "restart").await);
    holds_the_lock(check, writer).await;

    let late = deploy(check, &check.manifest).await;

    let (code, message) = late.error();
    let beginning = format!("Failed to acquire lock for lock:deployment:{} uid: ", check.deployment);
    assert!(code == 100 && message.starts_with(&beginning), "{code} {message}");
    let holder = format!("Locking task id is {writer}, description: 'create deployment'");
    assert!(message.contains(&holder), "{message}");
    cancels(check, writer).await;
    // Nothing of it is left.
    deploy(check, &check.manifest).await.done();
    let after = check.first().await;
    assert_eq!((&after["state"], &after["job_state"]), (&json!("started"), &json!("running")));
    assert!(lock(check).await.is_none());
}

async fn holds_the_lock(check: &Check, writer: u64) {
    let deadline = Instant::now() + BEGIN_LIMIT;
    let lock = loop {
        if let Some(lock) = lock(check).await {
            break lock;
        }
        assert!(Instant::now() < deadline, "{}", check.director.record(writer).await);
        check.director.pause().await;
    };
    has_keys(&lock, &["type", "resource", "timeout", "task_id"]);
    assert_eq!((lock["timeout"].is_string(), &lock["task_id"]), (true, &json!(writer.to_string())), "{lock}");
    let record = check.director.record(writer).await;
    assert_eq!(
        (&record["state"], &record["timestamp"], &record["result"]),
        (&json!("processing"), &Value::Null, &Value::Null)
    );
    let running = check.director.get("/tasks?state=processing%2Ccancelling%2Cqueued&verbose=2").await.shown();
    assert!(running.as_array().unwrap().contains(&record), "{running}");
}

async fn lock(check: &Check) -> Option<Value> {
    let locks = check.director.get("/locks").await.shown();
    let is_ours = |lock: &&Value| lock["type"] == "deployment" && lock["resource"] == json!([check.deployment]);
    locks.as_array().unwrap().iter().find(is_ours).cloned()
}

async fn cancels(check: &Check, writer: u64) {
    assert_eq!(check.director.record(writer).await["state"], "processing");
    check.director.delete(&format!("/task/{writer}")).await.is_empty_with(204);

    let ended = check.director.follow(writer).await;

    match ended.state() {
        // It came to its end before it looked.
        "done" => {}
        "cancelled" => {
            assert_eq!(ended.record["result"], "task cancelled");
            assert_eq!(ended.events.last().unwrap()["error"]["code"], 10_001);
        }
        other => panic!("{other}: {:?}", ended.events),
    }
    let late = check.director.delete(&format!("/task/{writer}")).await;
    let expected = format!("Cannot cancel task {writer}: invalid state ({})", ended.state());
    assert_eq!((late.status, late.text().trim_end()), (400, expected.as_str()));
}

pub(super) async fn lists_them(check: &Check) {
    let ours = format!("deployment={}", check.deployment);
    let tasks = check.director.get(&format!("/tasks?limit=30&verbose=1&{ours}")).await.shown();
    let all = check.director.get(&format!("/tasks?limit=1000&verbose=2&{ours}")).await.shown();
    let newest = check.director.get(&format!("/tasks?limit=1&verbose=2&{ours}")).await.shown();

    let keys = ["id", "state", "description", "timestamp", "started_at", "result", "user", "deployment", "context_id"];
    all.as_array().unwrap().iter().for_each(|task| has_keys(task, &keys));
    assert!(column(&all, "deployment").iter().all(|name| *name == check.deployment), "{all}");
    assert!(column(&tasks, "description").contains(&"create deployment"));
    assert!(!column(&tasks, "description").contains(&"retrieve vm-stats"), "it is for those who want all");
    assert!(column(&all, "description").contains(&"retrieve vm-stats"));
    // Several may have ended in the same second.
    assert_eq!((newest.as_array().unwrap().len(), &newest[0]["timestamp"]), (1, &all[0]["timestamp"]));
    let times: Vec<u64> = all.as_array().unwrap().iter().filter_map(|task| task["timestamp"].as_u64()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
}

pub(super) async fn tells_of_them_in_the_events(check: &Check) {
    let events = check.director.get(&format!("/events?deployment={}", check.deployment)).await.shown();
    let rows = events.as_array().unwrap();
    assert!(!rows.is_empty() && rows.len() <= 200, "{}", rows.len());
    for event in rows {
        has_keys(event, &["id", "timestamp", "user", "action", "object_type", "deployment"]);
        assert_eq!(event["deployment"], json!(check.deployment), "{event}");
        // An alert of the health monitor is of no task.
        assert!(event["task"].is_string() || event["task"].is_null(), "{event}");
    }
    let ids: Vec<u64> = column(&events, "id").iter().map(|id| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    let older = format!("/events?deployment={}&before_id={}", check.deployment, ids[0]);
    assert_eq!(check.director.get(&older).await.shown()[0]["id"], rows[1]["id"]);
}
