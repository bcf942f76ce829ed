//! `delete-deployment`, `disks --orphaned`, `delete-disk`: at the end of the scenario, and of one that failed before it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Check;
use crate::api::{Answer, Body, Ended, column, has_keys, task_of};

/// How long a task of a scenario that failed may still take.
const END_LIMIT: Duration = Duration::from_mins(30);
const ORPHAN: [&str; 7] =
    ["disk_cid", "size", "az", "deployment_name", "instance_name", "cloud_properties", "orphaned_at"];

pub(super) async fn deletes(check: &Check) {
    let disks: usize = check.instances().await.iter().map(|row| row["disk_cids"].as_array().unwrap().len()).sum();

    let task = delete(check).await.expect("it is there").done();

    let expected = format!("delete deployment {}", check.deployment);
    assert_eq!(task.record["description"], json!(expected));
    assert_eq!(task.record["result"], json!(format!("/deployments/{}", check.deployment)));
    assert!(delete(check).await.is_none(), "there is nothing left to delete");
    assert!(!is_there(check).await);
    let orphans = orphans(check).await;
    assert_eq!(orphans.len(), disks, "{orphans:?}");
    for disk in &orphans {
        has_keys(disk, &ORPHAN);
        assert!(disk["orphaned_at"].as_str().unwrap().ends_with(" UTC"), "{disk}");
        let task = check.director.wait(delete_disk(check, disk).await).await;
        assert_eq!(task.done().record["description"], "delete orphan disks");
    }
}

/// None: there is no such deployment, which the CLI takes for a success.
async fn delete(check: &Check) -> Option<Ended> {
    let answer = check.director.delete(&check.path("?")).await;
    if answer.status == 404 {
        answer.refusal(404, 70_000);
        return None;
    }
    Some(check.director.wait(answer).await)
}

async fn is_there(check: &Check) -> bool {
    let deployments = read(check, "/deployments?exclude_configs=true").await;
    column(&deployments, "name").contains(&check.deployment.as_str())
}

async fn orphans(check: &Check) -> Vec<Value> {
    let disks = read(check, "/disks").await;
    let is_ours = |disk: &&Value| disk["deployment_name"] == json!(check.deployment);
    disks.as_array().unwrap().iter().filter(is_ours).cloned().collect()
}

async fn delete_disk(check: &Check, disk: &Value) -> Answer {
    check.director.delete(&format!("/disks/{}", disk["disk_cid"].as_str().unwrap())).await
}

/// Nothing of the deployment is left, whatever was being done with it. Nothing to do after a scenario that succeeded.
pub(super) async fn clean_up(check: &Check) {
    if is_there(check).await {
        end_tasks(check).await;
        let instances = read(check, &check.path("/instances")).await;
        for row in instances.as_array().unwrap() {
            let place = format!("{}/{}", row["job"].as_str().unwrap(), row["id"].as_str().unwrap());
            let path = check.path(&format!("/instance_groups/{place}/ignore"));
            check.director.put(&path, Body::Json(json!({"ignore": false}))).await;
        }
        // The second one is refused where the first one did all.
        for query in ["?", "?force=true"] {
            let answer = check.director.delete(&check.path(query)).await;
            if answer.status == 302 {
                outlast(check, task_of(&answer)).await;
            }
        }
        assert!(!is_there(check).await, "{} cannot be deleted: do it by hand", check.deployment);
    }
    for disk in orphans(check).await {
        outlast(check, task_of(&delete_disk(check, &disk).await)).await;
    }
}

/// A writer among them would keep the lock.
async fn end_tasks(check: &Check) {
    let path = format!("/tasks?state=processing%2Ccancelling%2Cqueued&verbose=2&deployment={}", check.deployment);
    let tasks = read(check, &path).await;
    let ids = tasks.as_array().unwrap().iter().filter_map(|task| task["id"].as_u64());
    for id in ids {
        // One that has ended meanwhile refuses.
        check.director.delete(&format!("/task/{id}")).await;
        outlast(check, id).await;
    }
}

/// Who cleans up looks at the state alone: what else is wrong with the director must not keep him from it.
async fn outlast(check: &Check, task: u64) {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let record = read(check, &format!("/tasks/{task}")).await;
        let runs = ["queued", "processing", "cancelling"].iter().any(|state| record["state"] == *state);
        if !runs {
            return;
        }
        assert!(Instant::now() < deadline, "{} cannot be deleted: {record}", check.deployment);
        check.director.pause().await;
    }
}

/// Whatever the answer says of itself.
async fn read(check: &Check, path: &str) -> Value {
    serde_json::from_slice(&check.director.get(path).await.bytes).unwrap()
}
