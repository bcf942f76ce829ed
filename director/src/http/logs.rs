//! The logs of instances: a task that makes a blob of them, and the blob.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::App;
use super::answer::{self, Answer, Query};
use super::requester::Requester;
use crate::error::{Code, Error, Result};
use crate::logs::{self, Choice, Order};
use crate::model::Instance;
use crate::task::record::Kind;

#[derive(Deserialize)]
pub(super) struct LogsQuery {
    #[serde(rename = "type", default)]
    kinds: String,
    #[serde(default)]
    filters: String,
}

/// `*` is every group, or every instance of it.
pub(super) async fn fetch(
    State(app): State<App>,
    requester: Requester,
    Path((name, group, id)): Path<(String, String, String)>,
    Query(query): Query<LogsQuery>,
) -> Answer {
    let deployment = app.store.deployment(&name)?;
    let instances: Vec<String> = match (group.as_str(), id.as_str()) {
        (_, "*") => {
            let is_meant = |instance: &&Instance| group == "*" || instance.group == group;
            deployment.instances.iter().filter(is_meant).map(|instance| instance.id.clone()).collect()
        }
        _ => vec![deployment.find(&group, &id)?.id.clone()],
    };
    if instances.is_empty() {
        return Err(Error::new(Code::InstanceNotFound, format!("'{name}/{group}/{id}' doesn't exist")).into());
    }
    let filters = query.filters.split([',', ' ']).filter(|filter| !filter.is_empty()).map(str::to_owned).collect();
    let choice = Choice { kinds: kinds(&query.kinds)?, filters };
    let order = requester.order(Kind::FetchLogs, "fetch logs", Some(&name));
    let (director, wish) = (app.clone(), Order { deployment: name, instances, choice });
    let id = app.tasks.submit(order, move |task| logs::fetch(director, task, wish)).await?;
    answer::see_task(&requester.host, id)
}

pub(super) async fn download(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let missing = || Error::new(Code::ResourceNotFound, format!("Resource '{id}' not found in the blobstore"));
    let path = app.blobs.find(&id).ok_or_else(missing)?;
    // It may have been displaced since.
    let file = tokio::fs::File::open(&path).await.map_err(|_| missing())?;
    let length = file.metadata().await.map_err(|_| missing())?.len();
    let headers =
        [(header::CONTENT_TYPE, "application/x-gzip".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

/// Several kinds are separated by commas.
fn kinds(text: &str) -> Result<Vec<logs::Kind>> {
    if text.trim().is_empty() {
        return Ok(vec![logs::Kind::Job]);
    }
    let kind = |word: &str| match word.trim() {
        "job" => Ok(logs::Kind::Job),
        "agent" => Ok(logs::Kind::Agent),
        "system" => Ok(logs::Kind::System),
        other => {
            let message = format!("Invalid type of logs '{other}'; expected 'job', 'agent' or 'system'");
            Err(Error::new(Code::ValidationInvalid, message))
        }
    };
    text.split(',').map(kind).collect()
}
