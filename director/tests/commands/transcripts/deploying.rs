//! `deploy`, `manifest`, `deployments`, `events`, `releases`, `stemcells`, `delete-deployment`.

use reqwest::header::LOCATION;
use serde_json::{Value, json};

use super::{begin, deployed};
use crate::api::{Api, Body, column, keys};
use crate::lab::Lab;

#[tokio::test]
async fn a_deploy_shows_its_diff_and_is_told_in_the_events() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    assert_eq!(begin(&lab).await["user_authentication"], json!({"type": "basic", "options": {}}));
    api.post("/cloud_configs?name=default", Body::Yaml(&lab.cloud_config())).await.is_empty_with(201);

    let diff = shows_the_diff(&lab, &api).await;
    let context = diff["context"].to_string();
    let query = format!("/deployments?context={}", context.replace('"', "%22").replace('{', "%7B").replace('}', "%7D"));
    let redirect = api.post(&query, Body::Yaml(&lab.manifest())).await;
    let location = redirect.header(LOCATION).to_owned();
    let task = api.wait(redirect).await.done();
    assert_eq!(location, format!("{}/tasks/{}", lab.url, task.id));
    assert_eq!(task.record["description"], "create deployment");
    assert_eq!((task.record["result"].as_str(), task.result.as_str()), (Some("/deployments/lab"), ""));
    assert_eq!(api.get("/deployments/lab").await.json(200), json!({"manifest": lab.manifest()}));

    shows_what_changes(&lab, &api).await;
    lists_what_there_is(&api).await;
    tells_of_the_deploy(&api, task.id).await;
    deletes(&api).await;
}

/// Of a deployment that there is not yet: everything is new, the cloud config too, and no secret is shown.
async fn shows_the_diff(lab: &Lab, api: &Api) -> Value {
    assert_eq!(api.get("/configs?latest=true&limit=1&type=deploy").await.json(200), json!([]));
    let diff = api.post("/deployments/lab/diff?redact=true", Body::Yaml(&lab.manifest())).await.json(200);
    assert_eq!(keys(&diff), ["context", "diff"]);
    assert_eq!(keys(&diff["context"]), ["cloud_config_ids", "runtime_config_ids"]);
    let has = |line: Value| diff["diff"].as_array().unwrap().contains(&line);
    assert!(has(json!(["azs:", "added"])) && has(json!(["- name: z1", "added"])), "{diff}");
    assert!(has(json!(["name: lab", "added"])) && has(json!(["      given: \"<redacted>\"", "added"])), "{diff}");

    let wrong_type = api.post("/deployments/lab/diff", Body::Json(json!({}))).await;
    assert_eq!((wrong_type.status, wrong_type.text()), (404, "Endpoint '/deployments/lab/diff' not found."));
    let not_yaml = api.post("/deployments/lab/diff", Body::Yaml("a: [")).await.json(200);
    assert_eq!(not_yaml["diff"], json!([]));
    assert!(not_yaml["error"].as_str().unwrap().starts_with("Unable to diff manifest: "), "{not_yaml}");
    let manifest = lab.manifest();
    let unknown = "/deployments?context=%7B%22cloud_config_ids%22:%5B99%5D%7D";
    api.post(unknown, Body::Yaml(&manifest)).await.refusal(400, 190_025);
    diff
}

async fn shows_what_changes(lab: &Lab, api: &Api) {
    let same = api.post("/deployments/lab/diff?redact=true", Body::Yaml(&lab.manifest())).await.json(200);
    assert_eq!(same["diff"], json!([]));

    let other = lab.manifest().replace("instances: 2", "instances: 3").replace("given: 5", "given: 6");
    let expected = json!([
        ["instance_groups:", null],
        ["- name: mysql", null],
        ["  instances: 2", "removed"],
        ["  instances: 3", "added"],
        ["  jobs:", null],
        ["  - name: daemon", null],
        ["    properties:", null],
        ["      given: \"<redacted>\"", "removed"],
        ["      given: \"<redacted>\"", "added"]
    ]);
    let diff = api.post("/deployments/lab/diff?redact=true", Body::Yaml(&other)).await.json(200);
    assert_eq!(diff["diff"], expected);
    let shown = api.post("/deployments/lab/diff?redact=false", Body::Yaml(&other)).await.json(200);
    assert!(shown["diff"].as_array().unwrap().contains(&json!(["      given: 6", "added"])), "{shown}");
}

async fn lists_what_there_is(api: &Api) {
    let whole = api.get("/deployments").await.json(200);
    assert_eq!(keys(&whole[0]), ["cloud_config", "locked", "name", "releases", "stemcells", "teams"]);
    let short = "/deployments?exclude_configs=true&exclude_releases=true&exclude_stemcells=true&exclude_lock=true";
    assert_eq!(api.get(short).await.json(200), json!([{"name": "lab", "teams": []}]));

    let releases = api.get("/releases").await.json(200);
    assert_eq!((releases[0]["name"].as_str(), keys(&releases[0])), (Some("lab"), vec!["name", "release_versions"]));
    let version = &releases[0]["release_versions"][0];
    assert_eq!((&version["version"], &version["currently_deployed"]), (&json!("1.0.0"), &json!(true)));
    assert_eq!(version["job_names"], json!(["daemon", "hello", "fails", "slow"]));
    let stemcells = api.get("/stemcells").await.json(200);
    assert_eq!(
        (&stemcells[0]["operating_system"], &stemcells[0]["version"]),
        (&json!("ubuntu-jammy"), &json!("1.930"))
    );
    assert_eq!(stemcells[0]["deployments"], json!([{"name": "lab"}]));
    for nothing in ["/orphaned_vms", "/deployments/lab/snapshots"] {
        assert_eq!(api.get(nothing).await.json(200), json!([]), "{nothing}");
    }
    let ssh = api.post("/deployments/lab/ssh", Body::Json(json!({"command": "setup"}))).await;
    assert!(ssh.refusal(400, 40_002).starts_with("There is no SSH here"));
}

async fn tells_of_the_deploy(api: &Api, task: u64) {
    let answer = api.get("/events?deployment=lab").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let events: Value = serde_json::from_slice(&answer.bytes).unwrap();
    let ids: Vec<u64> = column(&events, "id").iter().map(|id| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    let (end, begin) = (&events[0], events.as_array().unwrap().last().unwrap());
    let expected = [
        "action",
        "context",
        "deployment",
        "id",
        "object_name",
        "object_type",
        "parent_id",
        "task",
        "timestamp",
        "user",
    ];
    assert_eq!(keys(end), expected);
    assert_eq!(
        (&end["action"], &end["object_type"], &end["object_name"]),
        (&json!("create"), &json!("deployment"), &json!("lab"))
    );
    assert_eq!((&end["parent_id"], &begin["parent_id"]), (&begin["id"], &Value::Null));
    assert_eq!((&end["user"], &end["task"]), (&json!("admin"), &json!(task.to_string())));

    let instance = column(&events, "instance").into_iter().find(|instance| !instance.is_empty()).unwrap();
    let of_vm = format!("/events?instance={instance}&object_type=vm&action=create");
    let vms: Value = serde_json::from_slice(&api.get(&of_vm).await.bytes).unwrap();
    assert_eq!(vms.as_array().unwrap().len(), 2, "the creation of its VM begins and ends");
    let older: Value = serde_json::from_slice(&api.get(&format!("/events?before_id={}", ids[1])).await.bytes).unwrap();
    assert_eq!(column(&older, "id")[0], ids[2].to_string());
    let wrong = api.get("/events?before_time=yesterday").await;
    assert_eq!((wrong.status, wrong.text()), (400, "Invalid before parameter: 'yesterday' "));
}

async fn deletes(api: &Api) {
    let task = api.wait(api.delete("/deployments/lab?").await).await.done();
    assert_eq!(task.record["description"], "delete deployment lab");
    api.delete("/deployments/lab").await.refusal(404, 70_000);
    assert_eq!(api.get("/deployments?exclude_configs=true").await.json(200), json!([]));
    let events: Value =
        serde_json::from_slice(&api.get("/events?action=delete&object_type=deployment").await.bytes).unwrap();
    assert_eq!(column(&events, "object_name"), ["lab", "lab"]);
}

#[tokio::test]
async fn a_deploy_that_fails_is_told_with_its_error_and_leaves_no_manifest() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    deployed(&lab, &api).await;
    let wrong = lab.manifest().replace("name: lab\n", "name: wrong\n").replace("vm_type: small", "vm_type: huge");

    let task = api.wait(api.post("/deployments", Body::Yaml(&wrong)).await).await;

    assert_eq!(task.error().0, 140_004);
    assert_eq!(api.get("/deployments/wrong").await.json(200), json!({"manifest": null}));
    let events: Value = serde_json::from_slice(&api.get("/events?deployment=wrong").await.bytes).unwrap();
    assert_eq!((&events[0]["error"], &events[1]["error"]), (&json!(task.error().1), &Value::Null));
    assert_eq!(column(&events, "action"), ["create", "create"]);
}
