//! `update-cloud-config`, `update-config`, `config`, `configs`, `delete-config`.

use serde_json::{Value, json};

use crate::api::{Api, Body, column, keys};
use crate::lab::Lab;

#[tokio::test]
async fn a_config_is_compared_updated_listed_and_deleted() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    let wish = |content: &str, expected: Value| {
        Body::Json(json!({"type": "deploy", "name": "flags", "content": content, "expected_latest_id": expected}))
    };

    let diff = api.post("/configs/diff", wish("a: 1\nb: 2\n", Value::Null)).await.json(200);
    assert_eq!(diff, json!({"diff": [["a: 1", "added"], ["b: 2", "added"]], "from": {"id": "0"}}));
    let first = api.post("/configs", wish("a: 1\nb: 2\n", json!("0"))).await.json(201);
    assert_eq!(keys(&first), ["content", "created_at", "current", "id", "name", "team", "type"]);
    assert_eq!((&first["type"], &first["name"], &first["current"]), (&json!("deploy"), &json!("flags"), &json!(true)));
    assert!(first["id"].is_string() && first["created_at"].as_str().unwrap().ends_with(" UTC"), "{first}");
    let again = api.post("/configs", wish("a: 1\nb: 2\n", Value::Null)).await.json(201);
    assert_eq!(again["id"], first["id"], "the same content is no new version");

    let stale = api.post("/configs", wish("a: 2\n", json!("0"))).await.json(412);
    assert_eq!(
        (keys(&stale), &stale["latest_id"]),
        (vec!["description", "expected_latest_id", "latest_id"], &first["id"])
    );
    let diff = api.post("/configs/diff", wish("a: 2\nb: 2\n", Value::Null)).await.json(200);
    let changes = json!([["a: 1", "removed"], ["a: 2", "added"]]);
    assert_eq!(diff, json!({"diff": changes, "from": {"id": first["id"]}}));
    let second = api.post("/configs", wish("a: 2\nb: 2\n", diff["from"]["id"].clone())).await.json(201);
    let ends = Body::Json(json!({"from": {"id": first["id"]}, "to": {"id": second["id"]}}));
    assert_eq!(api.post("/configs/diff", ends).await.json(200), json!({"diff": changes}));

    lists(&api, &first, &second).await;
    api.delete("/configs?type=deploy&name=flags").await.is_empty_with(204);
    api.delete("/configs?type=deploy&name=flags").await.is_empty_with(404);
    assert_eq!(api.get("/configs?latest=true").await.json(200), json!([]));
    api.get(&format!("/configs/{}", second["id"].as_str().unwrap())).await.refusal(404, 440_012);
    let events: Value = serde_json::from_slice(&api.get("/events?object_type=config/deploy").await.bytes).unwrap();
    assert_eq!(column(&events, "action"), ["delete", "create", "create", "create", "create"]);
}

async fn lists(api: &Api, first: &Value, second: &Value) {
    let latest = api.get("/configs?latest=true&limit=1&name=flags&type=deploy").await.json(200);
    assert_eq!(latest, json!([second]));
    let all = api.get("/configs?latest=false").await.json(200);
    assert_eq!(
        (column(&all, "id"), &all[1]["current"]),
        (vec![second["id"].as_str().unwrap(), first["id"].as_str().unwrap()], &json!(false))
    );
    assert_eq!(api.get("/configs?type=cloud&latest=true").await.json(200), json!([]));
    assert_eq!(api.get(&format!("/configs/{}", second["id"].as_str().unwrap())).await.json(200), *second);
    for (query, why) in
        [("", "'latest' is required"), ("?latest=1", "must be 'true' or 'false'"), ("?limit=x", "a number")]
    {
        assert!(api.get(&format!("/configs{query}")).await.refusal(400, 440_010).contains(why), "{query}");
    }
}

#[tokio::test]
async fn a_config_that_cannot_be_used_is_refused_and_told_in_the_events() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    let table = [
        (json!({"name": "n", "content": "{}"}), 440_010, "'type' is required"),
        (json!({"type": "t", "name": "n".repeat(256), "content": "{}"}), 440_010, "at most 255 characters"),
        (json!({"type": "t", "name": "n", "content": "a: ["}), 440_011, "must be valid YAML"),
        (json!({"type": "t", "name": "n", "content": "just text"}), 440_011, "YAML hash expected"),
        (json!({"type": "runtime", "name": "default", "content": "addons: []"}), 440_010, "would have no effect"),
        (json!({"type": "cloud", "name": "other", "content": "azs: []"}), 440_010, "one cloud config, 'default'"),
    ];
    for (wish, code, why) in table {
        let refusal = api.post("/configs", Body::Json(wish.clone())).await.refusal(400, code);
        assert!(refusal.contains(why), "{wish}: {refusal}");
    }
    let events: Value = serde_json::from_slice(&api.get("/events?object_type=config/cloud").await.bytes).unwrap();
    assert!(events[0]["error"].as_str().unwrap().contains("one cloud config"), "{events}");
    let diff =
        api.post("/configs/diff", Body::Json(json!({"type": "t", "name": "n", "content": "a: ["}))).await.json(400);
    assert_eq!((keys(&diff), &diff["diff"]), (vec!["diff", "error"], &json!([])));
}

#[tokio::test]
async fn the_cloud_config_is_the_same_under_its_old_name() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    let cloud = lab.cloud_config();
    assert_eq!(api.get("/cloud_configs?limit=1").await.json(200), json!([]));
    let required = api.get("/cloud_configs").await;
    assert_eq!((required.status, required.text()), (400, "limit is required"));

    let new = api.post("/cloud_configs/diff?name=", Body::Yaml(&cloud)).await.json(200);
    api.post("/cloud_configs?name=", Body::Yaml(&cloud)).await.is_empty_with(201);
    let other = cloud.replace("cpu: 1", "cpu: 2");
    let changed = api.post("/cloud_configs/diff?name=", Body::Yaml(&other)).await.json(200);

    assert!(new["diff"].as_array().unwrap().contains(&json!(["vm_types:", "added"])), "{new}");
    let expected = json!([
        ["vm_types:", null],
        ["- name: small", null],
        ["  cloud_properties:", null],
        ["    cpu: 1", "removed"],
        ["    cpu: 2", "added"]
    ]);
    assert_eq!(changed, json!({"diff": expected}));
    let listed = api.get("/cloud_configs?limit=1").await.json(200);
    assert_eq!((keys(&listed[0]), &listed[0]["properties"]), (vec!["created_at", "properties"], &json!(cloud)));
    let config = api.get("/configs?latest=true&limit=1&name=default&type=cloud").await.json(200);
    assert_eq!((&config[0]["content"], &config[0]["type"]), (&json!(cloud), &json!("cloud")));
}
