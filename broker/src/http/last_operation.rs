//! `GET .../last_operation` reads the row and nothing else: nothing happens because a platform polls.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use broker::osb::{LastOperation, State as OsbState};

use super::error::Rejection;
use super::extract::Words;
use crate::app::App;
use crate::ids::{InstanceId, OperationId};
use crate::store::operations::{self, Kind, Report};

/// Without an operation, or with one that is not known, the newest counts. A finished deletion is 410 then, which is
/// success to every platform; with its operation it is `succeeded`, which is understood by more of them.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    id: InstanceId,
    words: Words,
) -> Result<Json<LastOperation>, Rejection> {
    let mut db = app.store.connection().await?;
    if let Some(operation) = words.get("operation").and_then(OperationId::parse)
        && let Some(report) = operations::report(&mut db, &id, &operation).await?
    {
        return Ok(Json(last_operation(report)));
    }
    match operations::newest_report(&mut db, &id).await? {
        None => Err(Rejection::not_found("instance does not exist")),
        Some(Report { kind: Kind::Delete, state: OsbState::Succeeded, .. }) => Err(Rejection::gone()),
        Some(report) => Ok(Json(last_operation(report))),
    }
}

fn last_operation(Report { kind, state, description }: Report) -> LastOperation {
    // Half of the servers may be gone after a failed deletion.
    let instance_usable = (kind == Kind::Delete && state == OsbState::Failed).then_some(false);
    LastOperation { state, description, instance_usable }
}
