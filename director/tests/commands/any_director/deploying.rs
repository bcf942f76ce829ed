//! `deploy`, `manifest`, `deployments`, `variables`: with success, with none, and once more.

use reqwest::Url;
use reqwest::header::CONTENT_RANGE;
use serde_json::{Value, json};

use super::Check;
use super::manifest::Manifest;
use crate::api::{Body, Ended, column, has_keys, keys, task_of};

/// No AZ, type or version of anything has this name.
const NOTHING: &str = "tandem-check-nothing";

/// All of `bosh deploy`.
pub(super) async fn deploy(check: &Check, manifest: &Manifest) -> Ended {
    let context_id = uuid::Uuid::new_v4().to_string();
    let text = manifest.text();
    assert!(check.director.get("/configs?latest=true&limit=1&type=deploy").await.shown().is_array());
    let diff = check.director.post(&check.path("/diff?redact=true"), Body::Yaml(&text)).await.shown();
    has_keys(&diff, &["context", "diff"]);
    has_keys(&diff["context"], &["cloud_config_ids", "runtime_config_ids"]);
    for line in diff["diff"].as_array().unwrap() {
        let how = [Value::Null, json!("added"), json!("removed")];
        assert!(line[0].is_string() && how.contains(&line[1]), "{line}");
    }

    let redirect = check.director.deploy(&with_context(&diff["context"]), &context_id, &text).await;

    // As one finds it whose answer was lost.
    let found = check.director.get(&format!("/tasks?context_id={context_id}")).await.shown();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["id"]), (1, &json!(task_of(&redirect))), "{found}");
    let task = check.director.wait(redirect).await;
    assert_eq!(task.record["context_id"], json!(context_id));
    has_course_of_a_deploy(check, &task);
    task
}

fn with_context(context: &Value) -> String {
    let mut url = Url::parse("https://director/deployments").unwrap();
    url.query_pairs_mut().append_pair("context", &context.to_string());
    format!("/deployments?{}", url.query().unwrap())
}

/// The record and the events that every deploy has, whatever its end.
fn has_course_of_a_deploy(check: &Check, task: &Ended) {
    let record = &task.record;
    has_keys(record, &["id", "state", "description", "timestamp", "started_at", "result", "user", "deployment"]);
    assert_eq!(
        (&record["description"], &record["user"], &record["deployment"]),
        (&json!("create deployment"), &json!(check.client), &json!(check.deployment))
    );
    assert!(record["timestamp"].is_u64() && record["started_at"].is_u64(), "{record}");
    assert_eq!(task.result, "");
    for event in task.events.iter().filter(|event| event.get("stage").is_some()) {
        has_keys(event, &["time", "stage", "tags", "total", "task", "index", "state", "progress"]);
        let states = ["started", "in_progress", "finished", "failed"];
        assert!(states.contains(&event["state"].as_str().unwrap()) && event["tags"].is_array(), "{event}");
    }
}

pub(super) async fn keeps_a_deployment_whose_first_deploy_fails(check: &Check) {
    let task = deploy(check, &check.manifest.with_vm_type(NOTHING)).await;

    let (code, message) = task.error();
    assert_eq!(code, 140_004, "{message}");
    assert!(message.starts_with(task.record["result"].as_str().unwrap().trim_end_matches("...")), "{}", task.record);
    assert_eq!(check.get("").await.shown(), json!({"manifest": null}));
    let deployments = check.director.get("/deployments?exclude_configs=true").await.shown();
    assert!(column(&deployments, "name").contains(&check.deployment.as_str()));

    let events = format!("/events?task={}&object_type=deployment", task.id);
    let events = check.director.get(&events).await.shown();
    let [end, begin] = &events.as_array().unwrap()[..] else { panic!("{events}") };
    assert_eq!((&end["parent_id"], end["error"].is_string()), (&begin["id"], true), "{events}");
    assert_eq!((&begin["parent_id"], &begin["error"]), (&Value::Null, &Value::Null), "{events}");
}

pub(super) async fn deploys(check: &Check) {
    let task = deploy(check, &check.manifest).await.done();

    assert_eq!(task.record["result"], format!("/deployments/{}", check.deployment));
    let of_group = json!([check.manifest.group()]);
    let updating = |event: &Value| event["stage"] == "Updating instance" && event["tags"] == of_group;
    assert!(task.events.iter().any(updating), "{:?}", task.events);
    let first = task.events.iter().find(|event| event.get("stage").is_some());
    assert_eq!(first.unwrap()["stage"], "Preparing deployment");
    reads_outputs_in_parts(check, &task).await;
}

async fn reads_outputs_in_parts(check: &Check, task: &Ended) {
    let whole = check.director.get(&format!("/tasks/{}/output?type=event", task.id)).await;
    let total = whole.bytes.len();
    let rest = check.director.output_from(task.id, "event", 10).await;
    assert_eq!((whole.status, rest.status, &rest.bytes[..]), (200, 206, &whole.bytes[10..]));
    assert_eq!(rest.header(CONTENT_RANGE), format!("bytes 10-{}/{total}", total - 1));
    let nothing_new = check.director.output_from(task.id, "event", total).await;
    assert_eq!((nothing_new.status, nothing_new.header(CONTENT_RANGE)), (416, format!("bytes */{total}").as_str()));
    check.director.output_from(task.id, "result", 0).await.is_empty_with(200);
    let none = check.director.get(&format!("/tasks/{}/output?type=none", task.id)).await;
    none.is_empty_with(204);
    check.director.get(&format!("/tasks/{}/output?type=other", task.id)).await.refusal(401, 600_000);
}

pub(super) async fn shows_what_it_deployed(check: &Check) {
    let shown = check.get("").await.shown();
    assert_eq!(
        (Manifest::read(shown["manifest"].as_str().unwrap()), keys(&shown)),
        (check.manifest.clone(), vec!["manifest"])
    );

    let row_of =
        |rows: Value| rows.as_array().unwrap().iter().find(|row| row["name"] == json!(check.deployment)).cloned();
    let row = row_of(check.director.get("/deployments").await.shown()).unwrap();
    has_keys(&row, &["name", "teams", "cloud_config", "stemcells", "releases"]);
    assert!(["latest", "outdated", "none"].contains(&row["cloud_config"].as_str().unwrap()), "{row}");
    has_keys(&row["releases"][0], &["name", "version"]);
    has_keys(&row["stemcells"][0], &["name", "version"]);
    let short = row_of(check.director.get("/deployments?exclude_configs=true").await.shown()).unwrap();
    assert_eq!((short.get("cloud_config"), &short["releases"]), (None, &row["releases"]));

    for variable in check.get("/variables").await.shown().as_array().unwrap() {
        assert!(variable["id"].is_string() && variable["name"].is_string(), "{variable}");
    }
}

pub(super) async fn changes_nothing_for_the_same_or_a_wrong_manifest(check: &Check) {
    let manifest = &check.manifest;
    let before = check.instances().await;
    deploy(check, manifest).await.done();
    let mut wrong = vec![
        (manifest.with_vm_type(NOTHING), 140_004),
        (manifest.with("azs", vec![serde_yaml::Value::from(NOTHING)]), 150_006),
        (manifest.with_release_version("999999.0.0"), 30_006),
    ];
    if manifest.has("persistent_disk_type") {
        wrong.push((manifest.with("persistent_disk_type", NOTHING), 140_012));
    }
    for (manifest, code) in wrong {
        let task = deploy(check, &manifest).await;
        assert_eq!(task.error().0, code, "{}", task.error().1);
    }

    let shown = check.get("").await.shown();
    assert_eq!(Manifest::read(shown["manifest"].as_str().unwrap()), *manifest, "what was deployed last with success");
    let after = check.instances().await;
    let of = |rows: &[Value]| rows.iter().map(|row| (row["id"].clone(), row["vm_cid"].clone())).collect::<Vec<_>>();
    assert_eq!(of(&before), of(&after));
    for wrong in ["", "a: [", "just text"] {
        check.director.post("/deployments", Body::Yaml(wrong)).await.refusal(400, 440_001);
    }
    check.director.post("/deployments", Body::Yaml("releases: []")).await.refusal(400, 40_001);
}
