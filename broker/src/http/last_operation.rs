//! `GET .../last_operation` reads the row, where it may have changed, and nothing else: nothing happens because a platform polls.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use broker::osb::{LastOperation, State as OsbState};

use super::error::Rejection;
use super::extract::Words;
use crate::admission::BindingProgress;
use crate::app::App;
use crate::clock::Timestamp;
use crate::ids::{InstanceId, OperationId};
use crate::store::bindings::{self, Key, Stored};
use crate::store::operations::{Kind, Report};

/// Without an operation, or with one that is not known, the newest counts. A finished deletion is 410 then, which is
/// success to every platform; with its operation it is `succeeded`, which is understood by more of them.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    id: InstanceId,
    words: Words,
) -> Result<Json<LastOperation>, Rejection> {
    if let Some(operation) = words.get("operation").and_then(OperationId::parse)
        && let Some(report) = app.store.report(&id, Some(&operation)).await?
    {
        return Ok(Json(last_operation(report)));
    }
    match app.store.report(&id, None).await? {
        None => Err(Rejection::not_found("instance does not exist")),
        Some(Report { kind: Kind::Delete, state: OsbState::Succeeded, .. }) => Err(Rejection::gone()),
        Some(report) => Ok(Json(last_operation(report))),
    }
}

/// Bindings are made and removed before the answer, so this is for those who ask all the same. A binding that nobody works
/// on and that is not finished was left by a broker that died: its `PUT` or its `DELETE` ends it.
pub(super) async fn show_binding(State(app): State<Arc<App>>, key: Key) -> Result<Json<LastOperation>, Rejection> {
    let stored = bindings::find(&mut app.store.connection().await?, &key, Timestamp::now()).await?;
    let Some(Stored { known, .. }) = stored else { return Err(Rejection::not_found("binding does not exist")) };
    let (state, description) = match (known.progress, known.is_claimed) {
        (BindingProgress::Created, _) => (OsbState::Succeeded, "the binding exists"),
        (BindingProgress::Creating, true) => (OsbState::InProgress, "the binding is being made"),
        (BindingProgress::Deleting, true) => (OsbState::InProgress, "the binding is being removed"),
        (BindingProgress::Creating, false) => (OsbState::Failed, "the binding is not finished: bind again, or unbind"),
        (BindingProgress::Deleting, false) => (OsbState::Failed, "the binding is not removed yet: unbind again"),
    };
    let description = description.into();
    Ok(Json(LastOperation { state, description, instance_usable: None, update_repeatable: None }))
}

fn last_operation(Report { kind, state, description, instance_usable }: Report) -> LastOperation {
    let (instance_usable, update_repeatable) = match (kind, state) {
        // Half of the servers may be gone after a failed deletion.
        (Kind::Delete, OsbState::Failed) => (Some(false), None),
        // A later update begins with what this one has left.
        (Kind::Update, OsbState::Failed) => (instance_usable, Some(true)),
        (Kind::Create | Kind::Update | Kind::Delete, _) => (None, None),
    };
    LastOperation { state, description, instance_usable, update_repeatable }
}
