//! What each command of the `bosh` CLI sends, call by call as it was recorded, and what the director must answer: status,
//! headers, the shape of the body, and the state afterwards.

mod cloud_check;
mod configs;
mod deploying;
mod instances;
mod operating;
mod uaa;

use serde_json::{Value, json};

use crate::api::{Answer, Api, Body, Ended};
use crate::lab::Lab;

/// Every command begins with this, and expects an answer without credentials.
async fn begin(lab: &Lab) -> Value {
    Api::anonymous(lab).get("/info").await.json(200)
}

/// `bosh update-cloud-config` and `bosh deploy`.
async fn deployed(lab: &Lab, api: &Api) -> Ended {
    api.post("/cloud_configs?name=default", Body::Yaml(&lab.cloud_config())).await.is_empty_with(201);
    api.wait(api.post("/deployments", Body::Yaml(&lab.manifest())).await).await.done()
}

/// The rows of `bosh instances`, the first AZ first.
async fn instances(api: &Api) -> Vec<Value> {
    let task = api.wait(api.get("/deployments/lab/instances?format=full").await).await.done();
    assert_eq!(task.record["description"], "retrieve vm-stats");
    let mut rows: Vec<Value> = task.result.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by_key(|row| row["index"].as_u64());
    rows
}

/// `bosh update-resurrection`.
async fn pause_resurrection(api: &Api, is_paused: bool) -> Answer {
    api.put("/resurrection", Body::Json(json!({"resurrection_paused": is_paused}))).await
}
