//! `/deployments`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer, Query};
use super::requester::Requester;
use crate::deploy::{self, Change, Order, Undrained};
use crate::error::{Code, Error, Result};
use crate::event::Deed;
use crate::manifest::update::{Amount, Overrides};
use crate::manifest::{self, Reference};
use crate::model::{CLOUD_TYPE, Deployment, Revision};
use crate::plan::Force;
use crate::store::Model;
use crate::task::record::Kind;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    exclude_configs: Option<bool>,
    exclude_releases: Option<bool>,
    exclude_stemcells: Option<bool>,
    exclude_lock: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct DeployQuery {
    recreate: Option<bool>,
    fix: Option<bool>,
    dry_run: Option<bool>,
    canaries: Option<String>,
    max_in_flight: Option<String>,
    skip_drain: Option<String>,
    /// `{"cloud_config_ids":[1]}`
    context: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct DeleteQuery {
    force: Option<bool>,
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Answer {
    let model = app.store.read();
    let rows: Vec<Value> = model.deployments.values().map(|deployment| row(&app, &model, deployment, &query)).collect();
    answer::json(&rows)
}

pub(super) async fn get(State(app): State<App>, Path(name): Path<String>) -> Answer {
    answer::json(&json!({"manifest": app.store.deployment(&name)?.manifest()}))
}

pub(super) async fn deploy(
    State(app): State<App>,
    requester: Requester,
    Query(query): Query<DeployQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let text = answer::utf8(&body)?;
    let (name, _) = manifest::read(text)?;
    let cloud_config = chosen_cloud_config(&app.store.read(), query.context.as_deref())?;
    let order = Order {
        deployment: name.clone(),
        revision: Revision { manifest: text.to_owned(), cloud_config },
        change: Change {
            force: force(&query),
            undrained: Undrained::asked(query.skip_drain.as_deref()),
            ..Change::default()
        },
        overrides: overrides(query.canaries.as_deref(), query.max_in_flight.as_deref())?,
        fix: query.fix.unwrap_or(false),
        dry_run: query.dry_run.unwrap_or(false),
    };
    let is_new = app.store.write(|model| Ok(deploy::find_or_create(model, &name))).await?;
    submit(&app, &requester, if is_new { "create" } else { "update" }, order).await
}

pub(super) async fn delete(
    State(app): State<App>,
    requester: Requester,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Answer {
    app.store.deployment(&name)?;
    let order = requester.order(Kind::DeleteDeployment, format!("delete deployment {name}"), Some(&name));
    let order = order.telling(Deed::new("delete", "deployment", &name).of(&name));
    let (director, force) = (app.clone(), query.force.unwrap_or(false));
    let id = app.tasks.submit(order, move |task| crate::delete::delete(director, task, name, force)).await?;
    answer::see_task(&requester.host, id)
}

/// Queue a `create deployment` task. A dry run changes nothing that the events would tell of.
pub(super) async fn submit(app: &App, requester: &Requester, action: &str, order: Order) -> Answer {
    let name = order.deployment.as_str();
    let queued = |description: &str| requester.order(Kind::UpdateDeployment, description, Some(name));
    let task = match order.dry_run {
        true => queued("create deployment (dry run)"),
        false => queued("create deployment").telling(Deed::new(action, "deployment", name).of(name)),
    };
    let director = app.clone();
    let id = app.tasks.submit(task, move |task| deploy::deploy(director, task, order)).await?;
    answer::see_task(&requester.host, id)
}

pub(super) fn overrides(canaries: Option<&str>, max_in_flight: Option<&str>) -> Result<Overrides> {
    let parse = |text: Option<&str>| text.map(str::parse::<Amount>).transpose();
    Ok(Overrides { canaries: parse(canaries)?, max_in_flight: parse(max_in_flight)? })
}

fn force(query: &DeployQuery) -> Force {
    if query.recreate.unwrap_or(false) { Force::Recreate } else { Force::Nothing }
}

/// The newest one, or the one that the caller saw in a diff. Without any, the task says that there is none.
fn chosen_cloud_config(model: &Model, context: Option<&str>) -> Result<u64> {
    #[derive(Deserialize)]
    struct Context {
        #[serde(default)]
        cloud_config_ids: Vec<u64>,
    }
    let latest = model.shared.cloud_config().map_or(0, |config| config.id);
    let Some(context) = context else { return Ok(latest) };
    let wrong = |what: String| Error::new(Code::UnknownConfigs, what);
    let context: Context = serde_json::from_str(context)
        .map_err(|cause| wrong(format!("`context` must be JSON like {{\"cloud_config_ids\":[1]}}: {cause}")))?;
    match context.cloud_config_ids[..] {
        [] => Ok(latest),
        [id] if model.shared.config(id).is_some_and(|config| config.kind == CLOUD_TYPE) => Ok(id),
        ref ids => Err(wrong(format!("`context` names the cloud configs {ids:?}; the newest one is {latest}"))),
    }
}

fn row(app: &App, model: &Model, deployment: &Deployment, query: &ListQuery) -> Value {
    let mut row = json!({"name": deployment.name, "teams": []});
    let is_shown = |excluded: Option<bool>| excluded != Some(true);
    let manifest = deployment.manifest().unwrap_or_default();
    if is_shown(query.exclude_configs) {
        row["cloud_config"] = json!(cloud_config_age(model, deployment));
    }
    if is_shown(query.exclude_releases) {
        row["releases"] = listed(&manifest::references(manifest, "releases"));
    }
    if is_shown(query.exclude_stemcells) {
        row["stemcells"] = listed(&manifest::references(manifest, "stemcells"));
    }
    if is_shown(query.exclude_lock) {
        row["locked"] = json!(app.locks.is_held(&deployment.name));
    }
    row
}

fn cloud_config_age(model: &Model, deployment: &Deployment) -> &'static str {
    let used = deployment.deployed.and_then(|id| deployment.revisions.get(&id)).map(|revision| revision.cloud_config);
    match used {
        None => "none",
        Some(id) if model.shared.cloud_config().is_some_and(|latest| latest.id == id) => "latest",
        Some(_) => "outdated",
    }
}

fn listed(references: &[Reference]) -> Value {
    references.iter().map(|reference| json!({"name": reference.name, "version": reference.version})).collect()
}
