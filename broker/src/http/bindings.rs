//! `PUT`, `GET` and `DELETE` of a binding.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use broker::osb::{BindRequest, Binding, Empty};

use super::error::Rejection;
use super::extract::{Body, Words};
use crate::admission::Condition;
use crate::app::App;
use crate::binding::{self, Bound};
use crate::store::bindings::Key;
use crate::store::instances;

pub(super) async fn bind(
    State(app): State<Arc<App>>,
    key: Key,
    words: Words,
    Body(request): Body<BindRequest>,
) -> Result<(StatusCode, Json<Binding>), Rejection> {
    // Either way it is made before the answer.
    words.accepts_incomplete()?;
    let (status, credentials) = match binding::bind(&app, &key, &request).await? {
        Bound::Created(credentials) => {
            tracing::info!(instance_id = %key.instance, binding_id = %key.binding, "the binding is made");
            (StatusCode::CREATED, credentials)
        }
        Bound::Already(credentials) => (StatusCode::OK, credentials),
    };
    Ok((status, Json(Binding { credentials, parameters: None })))
}

pub(super) async fn show(State(app): State<Arc<App>>, key: Key) -> Result<Json<Binding>, Rejection> {
    let instance = instances::find(&mut app.store.connection().await?, &key.instance).await?;
    if instance.is_none_or(|known| known.condition == Condition::Deleted) {
        return Err(Rejection::not_found("instance does not exist"));
    }
    let Some((credentials, parameters)) = binding::find(&app, &key).await? else {
        return Err(Rejection::not_found("binding does not exist"));
    };
    Ok(Json(Binding { credentials, parameters: Some(parameters) }))
}

pub(super) async fn unbind(State(app): State<Arc<App>>, key: Key, words: Words) -> Result<Json<Empty>, Rejection> {
    words.accepts_incomplete()?;
    binding::unbind(&app, &key, words.offer()?).await?;
    tracing::info!(instance_id = %key.instance, binding_id = %key.binding, "the binding is removed");
    Ok(Json(Empty {}))
}
