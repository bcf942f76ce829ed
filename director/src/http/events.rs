//! `/events`: what was done, by whom, newest first.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{Answer, Query, Refusal};
use crate::clock;
use crate::event::{Event, Filter};

/// As in BOSH; `before_id` asks for the next ones.
const SHOWN: usize = 200;

#[derive(Deserialize)]
pub(super) struct EventQuery {
    before_id: Option<u64>,
    before_time: Option<String>,
    after_time: Option<String>,
    task: Option<u64>,
    user: Option<String>,
    action: Option<String>,
    object_type: Option<String>,
    /// The object's name.
    object_id: Option<String>,
    deployment: Option<String>,
    instance: Option<String>,
}

/// One of the few answers that say that they are JSON.
pub(super) async fn list(State(app): State<App>, Query(query): Query<EventQuery>) -> Answer {
    let EventQuery { before_id, task, user, action, object_type, object_id, deployment, instance, .. } = query;
    let filter = Filter {
        before_id,
        before: time("before", query.before_time.as_deref())?,
        after: time("after", query.after_time.as_deref())?,
        task,
        user,
        action,
        object_type,
        object_name: object_id,
        deployment,
        instance,
    };
    let rows: Vec<Value> = app.events.select(&filter, SHOWN).iter().map(row).collect();
    Ok(([(header::CONTENT_TYPE, "application/json")], Value::Array(rows).to_string()).into_response())
}

fn time(name: &str, text: Option<&str>) -> Result<Option<i64>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let message = || format!("Invalid {name} parameter: '{text}' ");
    clock::parse(text).map(Some).ok_or_else(|| Refusal::Text(StatusCode::BAD_REQUEST, message()))
}

/// Ids are texts, and what there is not is left out.
fn row(event: &Event) -> Value {
    let Event { id, parent_id, timestamp, error, actor, deed } = event;
    let mut row = json!({"id": id.to_string(), "parent_id": parent_id.map(|id| id.to_string()),
        "timestamp": timestamp, "user": actor.user, "action": deed.action, "object_type": deed.object_type,
        "object_name": deed.object_name, "error": error, "task": actor.task.map(|task| task.to_string()),
        "deployment": deed.deployment, "instance": deed.instance, "context": {}});
    if let Some(fields) = row.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && *value != "");
    }
    row
}
