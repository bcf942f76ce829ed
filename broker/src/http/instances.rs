//! `PUT`, `GET` and `DELETE` of a service instance.

use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use broker::osb::{Accepted, Empty, ProvisionRequest, ServiceInstance};
use uuid::Uuid;

use super::error::Rejection;
use super::extract::{Body, Words};
use super::guard::RequestId;
use crate::admission::{self, Admission, Attributes, Condition, Denial, Standing};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ids::{InstanceId, OperationId};
use crate::store::instances;
use crate::store::operations::{self, Kind, NewOperation};

pub(super) async fn provision(
    State(app): State<Arc<App>>,
    id: InstanceId,
    words: Words,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Body(request): Body<ProvisionRequest>,
) -> Result<Response, Rejection> {
    let accepts_incomplete = words.accepts_incomplete()?;
    let now = Timestamp::now();
    let mut tx = app.store.begin().await?;
    let known = instances::find(&mut tx, &id).await?;
    match admission::provision(&app.catalog, &request, accepts_incomplete, known.as_ref()) {
        Admission::Denied(denial) => Err(denial.into()),
        Admission::Same(Standing::InProgress(operation)) => Ok(accepted(&operation)),
        Admission::Same(Standing::Done) => Ok(Json(Empty {}).into_response()),
        Admission::New(()) => {
            let context =
                serde_json::to_string(&request.context.clone().unwrap_or_default()).context("write context")?;
            instances::insert(&mut tx, &id, &Attributes::of(&request), &context, now).await?;
            let operation = OperationId::new(Uuid::new_v4());
            let new = NewOperation {
                id: &operation,
                instance: &id,
                kind: Kind::Create,
                description: "Instance provisioning in progress",
                request_id: &request_id,
                halts: None,
                timeout: app.operation_timeout,
            };
            operations::insert(&mut tx, new, now).await?;
            tx.commit().await.context("record the wish for a service instance")?;
            app.wish.notify_one();
            tracing::info!(instance_id = %id, operation_id = %operation, "provision is accepted");
            Ok(accepted(&operation))
        }
    }
}

pub(super) async fn deprovision(
    State(app): State<Arc<App>>,
    id: InstanceId,
    words: Words,
    Extension(RequestId(request_id)): Extension<RequestId>,
) -> Result<Response, Rejection> {
    let (offer, accepts_incomplete) = (words.offer()?, words.accepts_incomplete()?);
    let now = Timestamp::now();
    let mut tx = app.store.begin().await?;
    let known = instances::find(&mut tx, &id).await?;
    match admission::deprovision(offer, accepts_incomplete, known.as_ref()) {
        Admission::Denied(denial) => Err(denial.into()),
        Admission::Same(operation) => Ok(accepted(&operation)),
        Admission::New(halts) => {
            let operation = OperationId::new(Uuid::new_v4());
            let new = NewOperation {
                id: &operation,
                instance: &id,
                kind: Kind::Delete,
                description: "Instance deletion in progress",
                request_id: &request_id,
                halts: halts.as_ref(),
                timeout: app.operation_timeout,
            };
            operations::insert(&mut tx, new, now).await?;
            tx.commit().await.context("record the wish for a deletion")?;
            app.halt.notify_waiters();
            app.wish.notify_one();
            tracing::info!(instance_id = %id, operation_id = %operation, "deprovision is accepted");
            Ok(accepted(&operation))
        }
    }
}

pub(super) async fn show(State(app): State<Arc<App>>, id: InstanceId) -> Result<Json<ServiceInstance>, Rejection> {
    let known = instances::find(&mut *app.store.connection().await?, &id).await?;
    match known {
        // After a failed deletion the platform keeps the instance.
        Some(known) if matches!(known.condition, Condition::Ready | Condition::DeleteFailed) => {
            let Attributes { service_id, plan_id, parameters, .. } = known.attributes;
            Ok(Json(ServiceInstance { service_id, plan_id, parameters }))
        }
        Some(_) | None => Err(Denial::NotFound("instance does not exist".into()).into()),
    }
}

fn accepted(operation: &OperationId) -> Response {
    (StatusCode::ACCEPTED, Json(Accepted { operation: operation.to_string() })).into_response()
}
