//! `PUT`, `PATCH`, `GET` and `DELETE` of a service instance.

use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use broker::osb::{Accepted, Empty, MaintenanceInfo, ProvisionRequest, ServiceInstance, UpdateRequest};

use super::error::Rejection;
use super::extract::{Body, Words};
use super::identity::RequestId;
use crate::admission::{self, Admission, Attributes, Change, Condition, Denial, Known, Standing, Usage};
use crate::app::App;
use crate::catalog::{Catalog, Plan};
use crate::clock::Timestamp;
use crate::documents::Documents;
use crate::ids::{InstanceId, OperationId};
use crate::store::operations::{self, Kind, NewOperation};
use crate::store::{Act, Connection, instances, usage};

pub(super) async fn provision(
    State(app): State<Arc<App>>,
    id: InstanceId,
    words: Words,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Body(request): Body<ProvisionRequest>,
) -> Result<Response, Rejection> {
    let accepts_incomplete = words.accepts_incomplete()?;
    let now = Timestamp::now();
    let Case { mut tx, known, documents, usage } = begin(&app, &id).await?;
    match admission::provision(&documents.catalog, &usage, &request, accepts_incomplete, known.as_ref()) {
        Admission::Denied(denial) => Err(denial.into()),
        Admission::Same(Standing::InProgress(operation)) => Ok(accepted(&operation)),
        Admission::Same(Standing::Done) => Ok(Json(Empty {}).into_response()),
        Admission::New(()) => {
            let context =
                serde_json::to_string(&request.context.clone().unwrap_or_default()).context("write context")?;
            let service = documents.catalog.service(&request.service_id);
            let version =
                service.and_then(|service| service.plan(&request.plan_id)).and_then(Plan::maintenance_version);
            instances::insert(&mut tx, &id, &Attributes::of(&request), version, &context, now).await?;
            let new = NewOperation::new(Kind::Create, &id, &request_id, app.operation_timeout);
            let operation = operations::insert(&mut tx, new, now).await?;
            record(&app, tx).await.context("record the wish for a service instance")?;
            tracing::info!(instance_id = %id, operation_id = %operation, "provision is accepted");
            Ok(accepted(&operation))
        }
    }
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    id: InstanceId,
    words: Words,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Body(request): Body<UpdateRequest>,
) -> Result<Response, Rejection> {
    let accepts_incomplete = words.accepts_incomplete()?;
    let now = Timestamp::now();
    let Case { mut tx, known, documents, usage } = begin(&app, &id).await?;
    let answer = match admission::update(&documents.catalog, &usage, &request, accepts_incomplete, known.as_ref()) {
        Admission::Denied(denial) => return Err(denial.into()),
        Admission::Same(Standing::InProgress(operation)) => return Ok(accepted(&operation)),
        Admission::Same(Standing::Done) => Json(Empty {}).into_response(),
        Admission::New(Change { target, halts }) => {
            let new = NewOperation {
                halts: halts.as_ref(),
                target: Some(&target),
                ..NewOperation::new(Kind::Update, &id, &request_id, app.operation_timeout)
            };
            let operation = operations::insert(&mut tx, new, now).await?;
            tracing::info!(instance_id = %id, operation_id = %operation, "update is accepted");
            accepted(&operation)
        }
    };
    // Names of the user's place: true from now on, also where the operation fails.
    if let Some(context) = &request.context {
        let context = serde_json::to_string(context).context("write context")?;
        instances::set_context(&mut tx, &id, &context).await?;
    }
    record(&app, tx).await.context("record an update")?;
    Ok(answer)
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
            let new = NewOperation {
                halts: halts.as_ref(),
                ..NewOperation::new(Kind::Delete, &id, &request_id, app.operation_timeout)
            };
            let operation = operations::insert(&mut tx, new, now).await?;
            let recorded = record(&app, tx).await;
            app.halt.notify_waiters();
            recorded.context("record the wish for a deletion")?;
            tracing::info!(instance_id = %id, operation_id = %operation, "deprovision is accepted");
            Ok(accepted(&operation))
        }
    }
}

pub(super) async fn show(State(app): State<Arc<App>>, id: InstanceId) -> Result<Json<ServiceInstance>, Rejection> {
    let known = instances::find(&mut app.store.connection().await?, &id).await?;
    let not_found = || Denial::NotFound("instance does not exist".into());
    let Known { attributes, maintenance_version, condition, .. } = known.ok_or_else(not_found)?;
    match condition {
        // After a failed update or deletion the platform keeps the instance.
        Condition::Ready | Condition::UpdateFailed | Condition::DeleteFailed => {
            let Attributes { service_id, plan_id, parameters, .. } = attributes;
            let version = |version| MaintenanceInfo { version, description: None };
            let maintenance_info = maintenance_version.map(version);
            Ok(Json(ServiceInstance { service_id, plan_id, parameters, maintenance_info }))
        }
        Condition::Updating => Err(Denial::Concurrency.into()),
        Condition::Creating | Condition::CreateFailed | Condition::Deleting | Condition::Deleted => {
            Err(not_found().into())
        }
    }
}

/// What a request is judged by, in the act that records what comes of it.
struct Case {
    tx: Act,
    known: Option<Known>,
    documents: Arc<Documents>,
    usage: Usage,
}

async fn begin(app: &App, id: &InstanceId) -> anyhow::Result<Case> {
    let mut tx = app.store.begin().await?;
    let known = instances::find(&mut tx, id).await?;
    let documents = app.documents();
    let usage = used(&documents.catalog, &mut tx, id).await?;
    Ok(Case { tx, known, documents, usage })
}

/// Record a wish and have it looked at: also after an error, since it may be recorded all the same.
async fn record(app: &App, act: Act) -> anyhow::Result<()> {
    let recorded = act.commit().await;
    app.wish.notify_one();
    recorded
}

/// Nothing is counted where nothing is limited.
async fn used(catalog: &Catalog, db: &mut Connection, id: &InstanceId) -> anyhow::Result<Usage> {
    if catalog.has_quotas() { usage::count(db, id).await } else { Ok(Usage::default()) }
}

fn accepted(operation: &OperationId) -> Response {
    (StatusCode::ACCEPTED, Json(Accepted { operation: operation.to_string() })).into_response()
}
