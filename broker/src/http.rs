//! The Open Service Broker API: every route on one page. Handlers translate and store a wish; they never do the work.

mod bindings;
mod body;
mod catalog;
mod error;
mod etag;
mod extract;
mod guard;
mod identity;
mod instances;
mod json;
mod last_operation;
mod listener;
#[cfg(test)]
mod tests;
mod worded;

use std::sync::Arc;

use axum::routing::{get, put};
use axum::{Router, middleware};
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::app::App;
use error::Rejection;
pub(crate) use listener::{Listener, server_config};

/// How many requests are carried out at once, also for clients that have hung up; more wait, in order.
const REQUESTS_LIMIT: usize = 256;

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v2/catalog", get(catalog::show))
        .route(
            "/v2/service_instances/{instance_id}",
            put(instances::provision).patch(instances::update).get(instances::show).delete(instances::deprovision),
        )
        .route("/v2/service_instances/{instance_id}/last_operation", get(last_operation::show))
        .route(
            "/v2/service_instances/{instance_id}/service_bindings/{binding_id}",
            put(bindings::bind).get(bindings::show).delete(bindings::unbind),
        )
        .route(
            "/v2/service_instances/{instance_id}/service_bindings/{binding_id}/last_operation",
            get(last_operation::show_binding),
        )
        .fallback(async || Rejection::no_such_path())
        .method_not_allowed_fallback(async || Rejection::method_not_allowed())
        .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_LIMIT))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}
