//! `env`, `login`, `cloud-config`, and what a director says of a deployment that there is not.

use serde_json::{Value, json};

use super::Check;
use crate::api::{Body, has_keys};

pub(super) async fn knows_who_asks(check: &Check) {
    let info = check.stranger.get("/info").await.shown();
    has_keys(&info, &["name", "uuid", "version", "user", "cpi", "user_authentication", "features"]);
    has_keys(&info["user_authentication"], &["type", "options"]);
    assert_eq!(info["user"], Value::Null);
    assert_eq!(check.director.get("/info").await.shown()["user"], json!(check.client));

    let refusal = check.stranger.get("/deployments?exclude_configs=true").await;
    assert_eq!((refusal.status, refusal.text().trim_end()), (401, "Not authorized: '/deployments'"));
    let wrong_type = check.director.post("/deployments", Body::Json(json!({}))).await;
    assert_eq!((wrong_type.status, wrong_type.text().trim_end()), (404, "Endpoint '/deployments' not found."));
    check.director.get("/tasks/999999999").await.refusal(404, 10_000);
    let long = "c".repeat(65);
    check.director.deploy("/deployments", &long, &check.manifest.text()).await.refusal(400, 70_010);
}

/// They belong to others; they are looked at and never changed.
pub(super) async fn shows_its_configs(check: &Check) {
    let configs = check.director.get("/configs?latest=true&limit=1&type=cloud").await.shown();
    let config = &configs[0];
    has_keys(config, &["content", "id", "type", "name", "team", "created_at"]);
    assert_eq!((&config["type"], config["id"].is_string()), (&json!("cloud"), true), "{config}");
    assert!(check.director.get("/configs?latest=true&limit=1&type=deploy").await.shown().is_array());
}

pub(super) async fn knows_no_such_deployment(check: &Check) {
    let paths = ["", "/instances", "/instances?format=full", "/vms", "/errands", "/variables", "/problems"];
    for path in paths {
        check.get(path).await.refusal(404, 70_000);
    }
    let description = check.director.delete(&check.path("?")).await.refusal(404, 70_000);
    assert_eq!(description, format!("Deployment '{}' doesn't exist", check.deployment));
    check
        .director
        .post(&check.path("/errands/any/runs"), Body::Json(json!({"instances": []})))
        .await
        .refusal(404, 70_000);
    check.director.post(&check.path("/scans"), Body::Empty).await.refusal(404, 70_000);
    check.director.put(&check.path("/jobs/*?state=stopped"), Body::Yaml("")).await.refusal(404, 70_000);
}
