//! The cloud config, under its old route (`/cloud_configs`) and under `/configs`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::App;
use super::answer::{self, Answer, Query};
use super::requester::Requester;
use crate::clock;
use crate::cloud_config;
use crate::error::{Code, Error, Result};
use crate::event::Deed;
use crate::model::StoredConfig;
use crate::store::Model;

#[derive(Deserialize)]
pub(super) struct CloudQuery {
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    latest: Option<bool>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct Update {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    content: String,
    expected_latest_id: Option<Value>,
}

/// What an update came to.
enum Updated {
    Stored(StoredConfig),
    /// Somebody else was faster: 412.
    Stale(u64),
}

pub(super) async fn list_cloud(State(app): State<App>, Query(query): Query<CloudQuery>) -> Answer {
    let model = app.store.read();
    let row = |config: &StoredConfig| json!({"name": "default", "properties": config.content, "created_at": config.created_at});
    let newest_first = model.shared.cloud_configs.iter().rev().take(query.limit.unwrap_or(1));
    answer::json(&newest_first.map(row).collect::<Vec<Value>>())
}

pub(super) async fn update_cloud(
    State(app): State<App>,
    requester: Requester,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let updated = update_config(&app, answer::utf8(&body)?, None).await;
    app.events.tell(requester.actor(), Deed::new("update", "cloud-config", "default"), updated.as_ref().err());
    updated?;
    Ok(StatusCode::CREATED.into_response())
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Answer {
    let model = app.store.read();
    let is_meant = query.kind.as_deref().is_none_or(|kind| kind == "cloud")
        && query.name.as_deref().is_none_or(|name| name == "default");
    let limit = if query.latest.unwrap_or(false) { 1 } else { query.limit.unwrap_or(usize::MAX) };
    let configs = model.shared.cloud_configs.iter().rev().filter(|_| is_meant).take(limit);
    answer::json(&configs.map(|config| row(&model, config)).collect::<Vec<Value>>())
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let model = app.store.read();
    let found = model.shared.cloud_configs.iter().find(|config| config.id.to_string() == id);
    let missing = || Error::new(Code::ConfigNotFound, format!("Config {id} not found"));
    answer::json(&row(&model, found.ok_or_else(missing)?))
}

pub(super) async fn update(
    State(app): State<App>,
    requester: Requester,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_json(&headers, &uri)?;
    let update: Update = serde_json::from_slice(&body).map_err(|cause| {
        Error::new(Code::ConfigInvalid, format!("The body must have type, name and content: {cause}"))
    })?;
    if update.kind != "cloud" || update.name != "default" {
        let message =
            format!("This director has only the config 'cloud/default', not '{}/{}'", update.kind, update.name);
        return Err(Error::new(Code::ConfigInvalid, message).into());
    }
    let expected = update.expected_latest_id.as_ref().map(|id| id.as_str().map_or(id.to_string(), str::to_owned));
    let updated = update_config(&app, &update.content, expected.as_deref()).await;
    app.events.tell(requester.actor(), Deed::new("create", "config/cloud", "default"), updated.as_ref().err());
    match updated? {
        Updated::Stored(config) => answer::json_with(StatusCode::CREATED, &row(&app.store.read(), &config)),
        Updated::Stale(latest) => answer::json_with(
            StatusCode::PRECONDITION_FAILED,
            &json!({"latest_id": latest.to_string(), "expected_latest_id": expected,
                "description": format!("Latest Id: '{latest}' does not match expected latest id")}),
        ),
    }
}

/// The same content again is no new version.
async fn update_config(app: &App, content: &str, expected: Option<&str>) -> Result<Updated> {
    cloud_config::parse(content)?;
    let created_at = clock::spaced(OffsetDateTime::now_utc());
    app.store
        .write(|model| {
            let latest = model.shared.cloud_configs.last().cloned();
            let latest_id = latest.as_ref().map_or(0, |config| config.id);
            if expected.is_some_and(|id| id != latest_id.to_string()) {
                return Ok(Updated::Stale(latest_id));
            }
            if let Some(same) = latest.filter(|config| config.content == content) {
                return Ok(Updated::Stored(same));
            }
            let shared = model.shared_mut();
            let config = StoredConfig { id: shared.new_id(), content: content.to_owned(), created_at };
            shared.cloud_configs.push(config.clone());
            Ok(Updated::Stored(config))
        })
        .await
}

fn row(model: &Model, config: &StoredConfig) -> Value {
    let is_current = model.shared.cloud_configs.last().is_some_and(|latest| latest.id == config.id);
    json!({"content": config.content, "id": config.id.to_string(), "type": "cloud", "name": "default", "team": null,
        "created_at": config.created_at, "current": is_current})
}
