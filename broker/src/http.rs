//! The Open Service Broker API: every route on one page. Handlers translate and store a wish; they never do the work.

mod bindings;
mod catalog;
mod error;
mod extract;
mod guard;
mod instances;
mod last_operation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, put};
use axum::{Router, middleware};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::app::App;
use error::Rejection;

/// The longest request body.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long the next piece of a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many requests are carried out at once, also for clients that have hung up; more wait, in order.
const REQUESTS_LIMIT: usize = 256;

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v2/catalog", get(catalog::show))
        .route(
            "/v2/service_instances/{instance_id}",
            put(instances::provision).get(instances::show).delete(instances::deprovision),
        )
        .route("/v2/service_instances/{instance_id}/last_operation", get(last_operation::show))
        .route(
            "/v2/service_instances/{instance_id}/service_bindings/{binding_id}",
            put(bindings::bind).get(bindings::show).delete(bindings::unbind),
        )
        .fallback(async || Rejection::no_such_path())
        .method_not_allowed_fallback(async || Rejection::method_not_allowed())
        .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_LIMIT))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .with_state(app)
}
