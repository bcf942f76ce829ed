//! What a deploy or a new config would change: asked before the question whether to go on.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use serde_yaml::Mapping;

use super::App;
use super::answer::{self, Answer, Query};
use super::configs::{self, CloudQuery, Wish};
use crate::diff::{Line, Secrecy, diff};
use crate::error::{Code, Error, Result};
use crate::manifest;
use crate::model::{CLOUD_TYPE, Shared, StoredConfig};
use crate::store::Model;

#[derive(Deserialize)]
pub(super) struct DiffQuery {
    redact: Option<String>,
}

/// Two configs: kept ones by id, or texts.
#[derive(Deserialize)]
struct Ends {
    from: End,
    to: End,
}

#[derive(Deserialize)]
struct End {
    id: Option<Value>,
    content: Option<String>,
}

/// Also of a deployment that does not exist. What cannot be compared is said in the answer, which is a good one in BOSH.
pub(super) async fn deployment(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<DiffQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let model = app.store.read();
    let secrecy = if query.redact.as_deref() == Some("false") { Secrecy::Shown } else { Secrecy::Redacted };
    let ends = deployed(&model, &name).and_then(|before| {
        let (_, manifest) = manifest::read(answer::utf8(&body)?)?;
        Ok((before, whole(model.shared.cloud_config(), &manifest)))
    });
    answer::json(&match ends {
        Ok((before, after)) => {
            let configs: Vec<u64> = model.shared.cloud_config().iter().map(|config| config.id).collect();
            json!({"context": {"cloud_config_ids": configs, "runtime_config_ids": []},
                "diff": rows(&diff(&before, &after, secrecy))})
        }
        Err(error) => json!({"diff": [], "error": format!("Unable to diff manifest: {error}")}),
    })
}

pub(super) async fn cloud_config(
    State(app): State<App>,
    Query(query): Query<CloudQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let shared = app.store.read().shared;
    let after = mapping(answer::utf8(&body)?)?;
    let before = content(shared.latest_config(CLOUD_TYPE, query.name()));
    answer::json(&json!({"diff": rows(&diff(&before, &after, Secrecy::Shown))}))
}

/// `from` in the answer is what an update then expects to be the newest.
pub(super) async fn config(State(app): State<App>, uri: Uri, headers: HeaderMap, body: Bytes) -> Answer {
    answer::require_json(&headers, &uri)?;
    let shared = app.store.read().shared;
    if let Ok(ends) = serde_json::from_slice::<Ends>(&body) {
        let (before, after) = (ends.from.content(&shared)?, ends.to.content(&shared)?);
        return answer::json(&json!({"diff": rows(&diff(&before, &after, Secrecy::Redacted))}));
    }
    let (wish, _) = Wish::read(&body)?;
    let latest = shared.latest_config(&wish.kind, &wish.name);
    match mapping(&wish.content) {
        Ok(after) => {
            let id = latest.map_or(0, |config| config.id).to_string();
            let lines = diff(&content(latest), &after, Secrecy::Redacted);
            answer::json(&json!({"diff": rows(&lines), "from": {"id": id}}))
        }
        Err(error) => answer::json_with(StatusCode::BAD_REQUEST, &json!({"diff": [], "error": error.description})),
    }
}

impl End {
    fn content(&self, shared: &Shared) -> Result<Mapping> {
        match (&self.id, &self.content) {
            (Some(id), _) => {
                let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
                let missing = || Error::new(Code::ConfigNotFound, format!("Config with ID '{text}' not found."));
                let id: u64 = text.parse().map_err(|_| missing())?;
                configs::find(shared, id).map(|config| content(Some(config))).map_err(|_| missing())
            }
            (None, Some(text)) => mapping(text),
            (None, None) => Err(Error::new(Code::ConfigInvalid, "`from` and `to` need an id or a content")),
        }
    }
}

/// What was deployed with success, empty before that.
fn deployed(model: &Model, name: &str) -> Result<Mapping> {
    let deployment = model.deployments.get(name);
    let revision = deployment.and_then(|deployment| deployment.revisions.get(&deployment.deployed?));
    let Some(revision) = revision else { return Ok(Mapping::new()) };
    let (_, manifest) = manifest::read(&revision.manifest)?;
    Ok(whole(model.shared.config(revision.cloud_config), &manifest))
}

/// A change of the cloud config is one of every deployment that is deployed after it.
fn whole(cloud_config: Option<&StoredConfig>, manifest: &serde_yaml::Value) -> Mapping {
    let manifest = manifest.as_mapping().cloned().unwrap_or_default();
    content(cloud_config).into_iter().chain(manifest).collect()
}

/// Configs were checked when they came.
fn content(config: Option<&StoredConfig>) -> Mapping {
    config.and_then(|config| mapping(&config.content).ok()).unwrap_or_default()
}

fn mapping(text: &str) -> Result<Mapping> {
    let bad = |message: String| Error::new(Code::ConfigInvalidYaml, message);
    let value: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|cause| bad(format!("Config must be valid YAML: {cause}")))?;
    match value {
        serde_yaml::Value::Mapping(mapping) => Ok(mapping),
        serde_yaml::Value::Null => Ok(Mapping::new()),
        _ => Err(bad("YAML hash expected".to_owned())),
    }
}

fn rows(lines: &[Line]) -> Vec<Value> {
    lines.iter().map(|line| json!([line.text, line.change.map(crate::diff::Change::name)])).collect()
}
