//! `/tasks`: list, state, outputs (with `Range`, for readers that follow a growing file), cancellation.

use std::io::SeekFrom;
use std::path::Path as FilePath;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::App;
use super::answer::{self, Answer, HTML, Query, Refusal};
use crate::error::{Code, Error};
use crate::task::range::{Slice, slice};
use crate::task::record::{Filter, Record};

#[derive(Deserialize)]
pub(super) struct ListQuery {
    state: Option<String>,
    deployment: Option<String>,
    context_id: Option<String>,
    limit: Option<usize>,
    verbose: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct OutputQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Cancellation {
    deployment: Option<String>,
    #[serde(default = "queued")]
    states: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
}

fn queued() -> Vec<String> {
    vec!["queued".to_owned()]
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Answer {
    let states = query.state.as_deref().unwrap_or_default().split(',').filter(|state| !state.is_empty());
    let filter = Filter {
        states: states.map(str::to_owned).collect(),
        deployment: query.deployment,
        context_id: query.context_id,
        limit: query.limit.map(|limit| limit.max(1)),
        every_kind: query.verbose.as_deref() == Some("2"),
    };
    answer::json(&app.tasks.list(&filter).iter().map(row).collect::<Vec<_>>())
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<String>) -> Answer {
    answer::json(&row(&find(&app, &id)?))
}

pub(super) async fn cancel(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let task = find(&app, &id)?;
    app.tasks.cancel(task.id).map_err(|refusal| Refusal::Text(StatusCode::BAD_REQUEST, refusal))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn cancel_many(State(app): State<App>, body: Bytes) -> Answer {
    let wanted: Cancellation = answer::from_json(&body)?;
    if let Some(state) = wanted.states.iter().find(|state| !["queued", "processing"].contains(&state.as_str())) {
        let message = format!("One or more invalid task states: {state}. Valid task states are: queued, processing");
        return Err(Refusal::Text(StatusCode::BAD_REQUEST, message));
    }
    let filter = Filter { states: wanted.states, deployment: wanted.deployment, every_kind: true, ..Filter::default() };
    let kind = |task: &Record| serde_json::to_value(task.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    for task in app.tasks.list(&filter) {
        if wanted.types.is_empty() || kind(&task).is_some_and(|kind| wanted.types.contains(&kind)) {
            // One that ended meanwhile needs no cancellation.
            app.tasks.cancel(task.id).unwrap_or_default();
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn output(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
    headers: HeaderMap,
) -> Answer {
    let content_type = match query.kind.as_deref().unwrap_or("debug") {
        "none" => return Ok(StatusCode::NO_CONTENT.into_response()),
        "event" | "result" => HTML,
        "debug" | "cpi" => "text/plain",
        other => return Err(Error::new(Code::Unauthorized, format!("Unknown type {other}")).into()),
    };
    let task = find(&app, &id)?;
    let kind = query.kind.as_deref().unwrap_or("debug");
    let path = app.tasks.output(task.id, kind).ok_or_else(|| Error::no_task(&id))?;
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let read = read(&path, range)
        .await
        .map_err(|cause| anyhow::Error::from(cause).context(format!("read the {kind} output of task {id}")));
    Ok(([(header::CONTENT_TYPE, content_type)], read.map_err(Error::from)?).into_response())
}

/// The kind of a task is stored, not shown.
fn row(task: &Record) -> Value {
    json!({"id": task.id, "state": task.state, "description": task.description, "timestamp": task.timestamp,
        "started_at": task.started_at, "result": task.result, "user": task.user, "deployment": task.deployment,
        "context_id": task.context_id})
}

fn find(app: &App, id: &str) -> Result<Record, Error> {
    id.parse().ok().and_then(|id| app.tasks.get(id)).ok_or_else(|| Error::no_task(id))
}

/// The asked part of a file that may still grow: only what was there when it was measured is answered.
async fn read(path: &FilePath, range: Option<&str>) -> std::io::Result<Response> {
    let mut file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(StatusCode::NO_CONTENT.into_response()),
        Err(cause) => return Err(cause),
    };
    let total = file.metadata().await?.len();
    let (first, length) = match slice(range, total) {
        Slice::Whole => (0, total),
        Slice::Part { first, last } => (first, last + 1 - first),
        Slice::Unsatisfiable => {
            let header = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, header, "Byte range unsatisfiable\n").into_response());
        }
    };
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.seek(SeekFrom::Start(first)).await?;
    file.take(length).read_to_end(&mut bytes).await?;
    Ok(match slice(range, total) {
        Slice::Part { first, last } => {
            let header = [(header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}"))];
            (StatusCode::PARTIAL_CONTENT, header, bytes).into_response()
        }
        Slice::Whole | Slice::Unsatisfiable => bytes.into_response(),
    })
}
