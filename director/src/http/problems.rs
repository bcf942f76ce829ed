//! Cloud check: look for problems, list them, mend them.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};
use super::requester::Requester;
use crate::error::{Code, Error};
use crate::model::{Deployment, Problem};
use crate::problem::{self, Resolution, Resolutions};
use crate::task::record::Kind;

pub(super) async fn scan(State(app): State<App>, requester: Requester, Path(name): Path<String>) -> Answer {
    app.store.deployment(&name)?;
    let order = requester.order(Kind::CckScan, "scan cloud", Some(&name));
    let director = app.clone();
    let id = app.tasks.submit(order, move |task| problem::scan(director, task, name)).await?;
    answer::see_task(&requester.host, id)
}

pub(super) async fn list(State(app): State<App>, Path(name): Path<String>) -> Answer {
    let deployment = app.store.deployment(&name)?;
    answer::json(&deployment.problems.iter().filter_map(|problem| row(&deployment, problem)).collect::<Vec<Value>>())
}

pub(super) async fn resolve(
    State(app): State<App>,
    requester: Requester,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    answer::require_json(&headers, &uri)?;
    app.store.deployment(&name)?;
    let mut wish: Value = answer::from_json(&body)?;
    let invalid = |cause: serde_json::Error| {
        let message = format!("Invalid format for resolutions, Hash expected: {cause}");
        Error::new(Code::InvalidResolutionFormat, message)
    };
    let wanted = wish.get_mut("resolutions").map(Value::take).unwrap_or_default();
    let resolutions: Resolutions = serde_json::from_value(wanted).map_err(invalid)?;
    let order = requester.order(Kind::CckApply, "apply resolutions", Some(&name));
    let director = app.clone();
    let id = app.tasks.submit(order, move |task| problem::resolve(director, task, name, resolutions)).await?;
    answer::see_task(&requester.host, id)
}

/// None for a problem of an instance that has gone since.
fn row(deployment: &Deployment, problem: &Problem) -> Option<Value> {
    let instance = deployment.instance(&problem.instance)?;
    let resolutions = Resolution::of(problem.kind).iter();
    let resolutions: Vec<Value> =
        resolutions.map(|resolution| json!({"name": resolution.name(), "plan": resolution.plan()})).collect();
    Some(json!({"id": problem.id, "type": problem.kind.name(), "data": {},
        "description": problem.kind.description(instance), "resolutions": resolutions,
        "instance_group": instance.group}))
}
