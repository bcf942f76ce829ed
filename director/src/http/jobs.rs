//! Start, stop, restart and recreate: the converging form (`PUT .../jobs/...?state=`), which deploys the stored manifest
//! with one change, and the isolated one (`POST .../actions/...`).

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::answer::{self, Answer, Query, Refusal};
use super::requester::Requester;
use super::{App, deployments};
use crate::deploy::{Change, Order, Undrained, Whom};
use crate::error::{Code, Error, Result};
use crate::instance_actions::{self, Action};
use crate::manifest;
use crate::model::{Deployment, DesiredState, Instance, Revision};
use crate::plan::Force;

#[derive(Deserialize)]
pub(super) struct ChangeQuery {
    state: Option<String>,
    fix: Option<bool>,
    dry_run: Option<bool>,
    canaries: Option<String>,
    max_in_flight: Option<String>,
    skip_drain: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ActionQuery {
    hard: Option<bool>,
    ignore_unresponsive_agent: Option<bool>,
    skip_drain: Option<bool>,
}

#[derive(Deserialize)]
struct Ignore {
    ignore: bool,
}

/// A converging request: its query, and the manifest if it brings one.
struct Request<'a> {
    query: ChangeQuery,
    body: &'a [u8],
}

pub(super) async fn get(State(app): State<App>, Path((name, group, id)): Path<(String, String, String)>) -> Answer {
    let deployment = app.store.deployment(&name)?;
    let instance = deployment.find(&group, &id)?;
    let disks: Vec<&str> = instance.disk.iter().map(|disk| disk.cid.as_str()).collect();
    answer::json(&json!({"deployment": name, "job": group, "index": instance.index, "id": instance.id,
        "state": instance.state.name(), "disks": disks}))
}

/// `*` is every group.
pub(super) async fn change_group(
    State(app): State<App>,
    requester: Requester,
    Path((name, group)): Path<(String, String)>,
    Query(query): Query<ChangeQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let deployment = app.store.deployment(&name)?;
    let whom = match group.as_str() {
        "*" => Whom::Everybody,
        _ if deployment.instances.iter().any(|instance| instance.group == group) => Whom::Group(group),
        _ => return Err(Error::new(Code::InstanceNotFound, format!("'{name}/{group}' doesn't exist")).into()),
    };
    change(&app, &requester, &deployment, whom, Request { query, body: &body }).await
}

pub(super) async fn change_instance(
    State(app): State<App>,
    requester: Requester,
    Path((name, group, id)): Path<(String, String, String)>,
    Query(query): Query<ChangeQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_yaml(&headers, &uri)?;
    let deployment = app.store.deployment(&name)?;
    let whom = Whom::Instance(deployment.find(&group, &id)?.id.clone());
    change(&app, &requester, &deployment, whom, Request { query, body: &body }).await
}

pub(super) async fn act(
    State(app): State<App>,
    requester: Requester,
    Path((name, group, id, action)): Path<(String, String, String, String)>,
    Query(query): Query<ActionQuery>,
    uri: Uri,
) -> Answer {
    let action = match (action.as_str(), query.hard.unwrap_or(false)) {
        ("start", _) => Action::Start,
        ("stop", false) => Action::Stop,
        ("stop", true) => Action::Detach,
        ("restart", _) => Action::Restart,
        ("recreate", _) => Action::Recreate,
        _ => return Err(Refusal::NoEndpoint(uri.path().to_owned())),
    };
    let instance = app.store.deployment(&name)?.find(&group, &id)?.id.clone();
    let task = requester.order(action.kind(), format!("{} instance", action.verb()), Some(&name));
    let ignore_unresponsive_agent = query.ignore_unresponsive_agent.unwrap_or(false);
    let skip_drain = query.skip_drain.unwrap_or(false);
    let order = instance_actions::Order { deployment: name, instance, action, ignore_unresponsive_agent, skip_drain };
    let director = app.clone();
    let id = app.tasks.submit(task, move |task| instance_actions::act(director, task, order)).await?;
    answer::see_task(&requester.host, id)
}

/// `*` is every instance of the group. A task that runs is not disturbed: it goes by what it found when it began.
pub(super) async fn ignore(
    State(app): State<App>,
    Path((name, group, id)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_json(&headers, &uri)?;
    let wish: Ignore = answer::from_json(&body)?;
    let change = |model: &mut crate::store::Model| {
        let deployment = model.deployment_mut(&name)?;
        let one = if id == "*" { None } else { Some(deployment.find(&group, &id)?.id.clone()) };
        let is_meant =
            |instance: &Instance| instance.group == group && one.as_ref().is_none_or(|id| instance.id == *id);
        for instance in deployment.instances.iter_mut().filter(|instance| is_meant(instance)) {
            instance.is_ignored = wish.ignore;
        }
        Ok(())
    };
    app.store.write(change).await?;
    Ok(StatusCode::OK.into_response())
}

async fn change(app: &App, who: &Requester, deployment: &Deployment, whom: Whom, request: Request<'_>) -> Answer {
    let Request { query, body } = request;
    let (state, force) = asked(query.state.as_deref())?;
    let order = Order {
        deployment: deployment.name.clone(),
        revision: revision(app, deployment, body)?,
        change: Change { whom, state, force, undrained: Undrained::asked(query.skip_drain.as_deref()) },
        overrides: deployments::overrides(query.canaries.as_deref(), query.max_in_flight.as_deref())?,
        fix: query.fix.unwrap_or(false),
        dry_run: query.dry_run.unwrap_or(false),
    };
    deployments::submit(app, who, "update", order).await
}

fn asked(state: Option<&str>) -> Result<(Option<DesiredState>, Force)> {
    match state {
        Some("started") => Ok((Some(DesiredState::Started), Force::Nothing)),
        Some("stopped") => Ok((Some(DesiredState::Stopped), Force::Nothing)),
        Some("detached") => Ok((Some(DesiredState::Detached), Force::Nothing)),
        Some("restart") => Ok((Some(DesiredState::Started), Force::Restart)),
        Some("recreate") => Ok((Some(DesiredState::Started), Force::Recreate)),
        other => {
            let known = "'started', 'stopped', 'detached', 'restart' or 'recreate'";
            let message = format!("Invalid state '{}'; expected {known}", other.unwrap_or_default());
            Err(Error::new(Code::InvalidJobState, message))
        }
    }
}

/// The deployed manifest, with the cloud config that it was deployed with; or the one in the body, with the newest.
fn revision(app: &App, deployment: &Deployment, body: &[u8]) -> Result<Revision> {
    if body.is_empty() {
        let deployed = deployment.deployed.and_then(|id| deployment.revisions.get(&id)).cloned();
        let message = format!("Deployment '{}' was never deployed with success; deploy its manifest", deployment.name);
        return deployed.ok_or_else(|| Error::new(Code::InvalidYaml, message));
    }
    let text = answer::utf8(body)?;
    let (name, _) = manifest::read(text)?;
    if name != deployment.name {
        let message = format!("The manifest is for deployment '{name}', not for '{}'", deployment.name);
        return Err(Error::new(Code::ValidationInvalid, message));
    }
    let cloud_config = app.store.read().latest_cloud_config()?.id;
    Ok(Revision { manifest: text.to_owned(), cloud_config })
}
