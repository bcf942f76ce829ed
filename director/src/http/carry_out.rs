//! Every request is carried out to its end, also when its client hangs up or does not want to wait: hyper drops a handler
//! in the middle then, and what was half done would stay so (a task that is queued and that nobody runs, a document on
//! the disk that the memory does not know).

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;

/// Run what comes next in a task that the director owns until it ends, when fewer than the limit are running.
pub(super) async fn carry_out(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(place) = app.requests.places.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let carried_out = app.requests.running.spawn(async move {
        let response = next.run(request).await;
        drop(place);
        response
    });
    carried_out.await.unwrap_or_else(|panic| {
        tracing::error!(%panic, "a request broke off");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}
