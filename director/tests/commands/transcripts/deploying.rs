//! `deploy`, `manifest`, `deployments`, `events`, `delete-deployment`.

use serde_json::{Value, json};

use super::{begin, deployed};
use crate::api::{Api, Body, column, keys};
use crate::lab::Lab;

#[tokio::test]
async fn a_deploy_is_told_in_the_events() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    assert_eq!(begin(&lab).await["user_authentication"], json!({"type": "basic", "options": {}}));
    api.post("/cloud_configs?name=default", Body::Yaml(&lab.cloud_config())).await.is_empty_with(201);

    let task = api.wait(api.post("/deployments", Body::Yaml(&lab.manifest())).await).await.done();
    assert_eq!(task.record["description"], "create deployment");
    assert_eq!((task.record["result"].as_str(), task.result.as_str()), (Some("/deployments/lab"), ""));
    assert_eq!(api.get("/deployments/lab").await.json(200), json!({"manifest": lab.manifest()}));

    lists_what_there_is(&api).await;
    tells_of_the_deploy(&api, task.id).await;
    deletes(&api).await;
}

async fn lists_what_there_is(api: &Api) {
    let whole = api.get("/deployments").await.json(200);
    assert_eq!(keys(&whole[0]), ["cloud_config", "locked", "name", "releases", "stemcells", "teams"]);
    let short = "/deployments?exclude_configs=true&exclude_releases=true&exclude_stemcells=true&exclude_lock=true";
    assert_eq!(api.get(short).await.json(200), json!([{"name": "lab", "teams": []}]));
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
