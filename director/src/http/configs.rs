//! `/configs`, and the cloud config under its old route `/cloud_configs` too.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::App;
use super::answer::{self, Answer, Query, Refusal};
use super::requester::Requester;
use crate::clock;
use crate::cloud_config;
use crate::error::{Code, Error, Result};
use crate::event::Deed;
use crate::model::{CLOUD_TYPE, DEFAULT_NAME, Shared, StoredConfig};

/// As long as BOSH's columns for them.
const LONGEST_NAME: usize = 255;
/// Types that have an effect on a real director and would have none here.
const WITHOUT_EFFECT: [&str; 3] = ["runtime", "cpi", "resurrection"];

#[derive(Deserialize)]
pub(super) struct CloudQuery {
    limit: Option<String>,
    name: Option<String>,
}

impl CloudQuery {
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAME)
    }
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    latest: Option<String>,
    limit: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NameQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    content: Option<String>,
    expected_latest_id: Option<Value>,
}

/// A config as somebody wants it to be.
pub(super) struct Wish {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) content: String,
}

/// What an update came to.
enum Updated {
    Stored(StoredConfig),
    /// Somebody else was faster: 412.
    Stale(u64),
}

pub(super) async fn list_cloud(State(app): State<App>, Query(query): Query<CloudQuery>) -> Answer {
    let bad = |message: String| Refusal::Text(StatusCode::BAD_REQUEST, message);
    let limit =
        query.limit.as_deref().filter(|limit| !limit.is_empty()).ok_or_else(|| bad("limit is required".to_owned()))?;
    let limit: usize = limit.parse().map_err(|_| bad(format!("limit is invalid: '{limit}' is not an integer")))?;
    let shared = app.store.read().shared;
    let row = |config: &StoredConfig| json!({"properties": config.content, "created_at": config.created_at});
    let configs = newest_first(&shared, Some(CLOUD_TYPE), Some(query.name()), limit);
    answer::json(&configs.into_iter().map(row).collect::<Vec<Value>>())
}

pub(super) async fn update_cloud(
    State(app): State<App>,
    requester: Requester,
    Query(query): Query<CloudQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let name = short("name", Some(query.name().to_owned()))?;
    let wish = Wish { kind: CLOUD_TYPE.to_owned(), name, content: answer::utf8(&body)?.to_owned() };
    let deed = Deed::new("update", "cloud-config", &wish.name);
    told(&app, &requester, deed, update_config(&app, wish, None)).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// Of each type and name so many versions, the newest first.
pub(super) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Answer {
    let invalid = |message: &str| Error::new(Code::ConfigInvalid, message);
    let limit = match (query.limit.as_deref(), query.latest.as_deref()) {
        (Some(limit), _) => limit.parse().map_err(|_| invalid("'limit' must be a number"))?,
        (None, Some("true")) => 1,
        (None, Some("false")) => usize::MAX,
        (None, Some(_)) => return Err(invalid("'latest' must be 'true' or 'false'").into()),
        (None, None) => return Err(invalid("'latest' is required").into()),
    };
    let shared = app.store.read().shared;
    let configs = newest_first(&shared, query.kind.as_deref(), query.name.as_deref(), limit);
    answer::json(&configs.into_iter().map(|config| row(&shared, config)).collect::<Vec<Value>>())
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let id: u64 = id.parse().map_err(|_| Refusal::Empty(StatusCode::BAD_REQUEST))?;
    let shared = app.store.read().shared;
    answer::json(&row(&shared, find(&shared, id)?))
}

pub(super) async fn update(
    State(app): State<App>,
    requester: Requester,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_json(&headers, &uri)?;
    let (wish, expected) = Wish::read(&body)?;
    let deed = Deed::new("create", &format!("config/{}", wish.kind), &wish.name);
    match told(&app, &requester, deed, update_config(&app, wish, expected.as_deref())).await? {
        Updated::Stored(config) => answer::json_with(StatusCode::CREATED, &row(&app.store.read().shared, &config)),
        Updated::Stale(latest) => answer::json_with(
            StatusCode::PRECONDITION_FAILED,
            &json!({"latest_id": latest.to_string(), "expected_latest_id": expected,
                "description": format!("Latest Id: '{latest}' does not match expected latest id")}),
        ),
    }
}

pub(super) async fn delete(State(app): State<App>, requester: Requester, Query(query): Query<NameQuery>) -> Answer {
    let kind = short("type", query.kind)?;
    let name = short("name", query.name)?;
    let deed = Deed::new("delete", &format!("config/{kind}"), &name);
    delete_where(&app, &requester, deed, move |config| config.kind == kind && config.name == name).await
}

pub(super) async fn delete_version(State(app): State<App>, requester: Requester, Path(id): Path<String>) -> Answer {
    let deed = Deed::new("delete", "config", &id);
    delete_where(&app, &requester, deed, move |config| config.id.to_string() == id).await
}

pub(super) fn find(shared: &Shared, id: u64) -> Result<&StoredConfig> {
    let found = shared.config(id).filter(|config| !config.is_deleted);
    found.ok_or_else(|| Error::new(Code::ConfigNotFound, format!("Config {id} not found")))
}

impl Wish {
    /// And the id that the newest version must have.
    pub(super) fn read(body: &[u8]) -> Result<(Self, Option<String>)> {
        let update: Update = serde_json::from_slice(body)
            .map_err(|cause| Error::new(Code::ConfigInvalid, format!("Invalid JSON request body: {cause}")))?;
        let text = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let expected = update.expected_latest_id.as_ref().filter(|id| !id.is_null()).map(text);
        let wish = Self {
            kind: short("type", update.kind)?,
            name: short("name", update.name)?,
            content: required("content", update.content)?,
        };
        Ok((wish, expected))
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { kind, name, content } = self;
        let refused = |message: String| Err(Error::new(Code::ConfigInvalid, message));
        if WITHOUT_EFFECT.contains(&kind.as_str()) {
            return refused(format!("This director takes no '{kind}' config: it would have no effect"));
        }
        if kind == CLOUD_TYPE && name != DEFAULT_NAME {
            return refused(format!("This director has one cloud config, 'default', and no '{name}'"));
        }
        if kind == CLOUD_TYPE {
            return cloud_config::parse(content).map(drop);
        }
        let bad_yaml = |message: String| Error::new(Code::ConfigInvalidYaml, message);
        let content: serde_yaml::Value =
            serde_yaml::from_str(content).map_err(|cause| bad_yaml(format!("Config must be valid YAML: {cause}")))?;
        if content.is_mapping() { Ok(()) } else { Err(bad_yaml("YAML hash expected".to_owned())) }
    }
}

fn short(name: &str, value: Option<String>) -> Result<String> {
    let value = required(name, value)?;
    if value.len() <= LONGEST_NAME {
        return Ok(value);
    }
    Err(Error::new(Code::ConfigInvalid, format!("'{name}' has at most {LONGEST_NAME} characters")))
}

fn required(name: &str, value: Option<String>) -> Result<String> {
    let missing = || Error::new(Code::ConfigInvalid, format!("'{name}' is required"));
    value.filter(|value| !value.is_empty()).ok_or_else(missing)
}

/// The same content again is no new version.
async fn update_config(app: &App, wish: Wish, expected: Option<&str>) -> Result<Updated> {
    wish.check()?;
    let created_at = clock::spaced(OffsetDateTime::now_utc());
    app.store
        .write(|model| {
            let Wish { kind, name, content } = wish;
            let latest = model.shared.latest_config(&kind, &name).cloned();
            let latest_id = latest.as_ref().map_or(0, |config| config.id);
            if expected.is_some_and(|id| id != latest_id.to_string()) {
                return Ok(Updated::Stale(latest_id));
            }
            if let Some(same) = latest.filter(|config| config.content == content) {
                return Ok(Updated::Stored(same));
            }
            let shared = model.shared_mut();
            let config = StoredConfig { id: shared.new_id(), kind, name, content, created_at, is_deleted: false };
            shared.configs.push(config.clone());
            Ok(Updated::Stored(config))
        })
        .await
}

/// The deployments that were made with it keep it; nobody else sees it any more.
async fn delete_where(
    app: &App,
    requester: &Requester,
    deed: Deed,
    is_meant: impl Fn(&StoredConfig) -> bool + Send,
) -> Answer {
    let forget = move |model: &mut crate::store::Model| {
        let mut is_found = false;
        for config in model.shared_mut().configs.iter_mut().filter(|config| !config.is_deleted && is_meant(config)) {
            (config.is_deleted, is_found) = (true, true);
        }
        Ok(is_found)
    };
    if !app.store.write(forget).await? {
        return Err(Refusal::Empty(StatusCode::NOT_FOUND));
    }
    app.events.tell(requester.actor(), deed, None);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Do something and tell it in the director's events.
async fn told<T>(app: &App, who: &Requester, deed: Deed, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = work.await;
    app.events.tell(who.actor(), deed, done.as_ref().err());
    done
}

fn newest_first<'a>(shared: &'a Shared, kind: Option<&str>, name: Option<&str>, limit: usize) -> Vec<&'a StoredConfig> {
    let mut versions: BTreeMap<(&str, &str), Vec<&StoredConfig>> = BTreeMap::new();
    for config in shared.configs.iter().rev().filter(|config| !config.is_deleted) {
        let is_meant = kind.is_none_or(|kind| config.kind == kind) && name.is_none_or(|name| config.name == name);
        if is_meant {
            versions.entry((&config.kind, &config.name)).or_default().push(config);
        }
    }
    versions.into_values().flat_map(|versions| versions.into_iter().take(limit)).collect()
}

fn row(shared: &Shared, config: &StoredConfig) -> Value {
    let is_current = shared.latest_config(&config.kind, &config.name).is_some_and(|latest| latest.id == config.id);
    json!({"content": config.content, "id": config.id.to_string(), "type": config.kind, "name": config.name,
        "team": null, "created_at": config.created_at, "current": is_current})
}
