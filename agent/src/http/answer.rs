//! What the API answers: JSON in every case, with a [`Problem`] where it is not 200.

use std::any::Any;
use std::time::{Duration, Instant};

use agent::api::{Event, Problem};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::report::sentence;

/// A client takes longer silence for an agent that has died.
const QUIET_LIMIT: Duration = Duration::from_secs(15);

pub(super) type Answer<T> = Result<axum::Json<T>, Failure>;

/// An answer that is not 200.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    problem: Problem,
}

impl Failure {
    fn new(status: StatusCode, error: &str, description: impl Into<String>) -> Failure {
        Failure { status, problem: Problem { error: error.into(), description: description.into() } }
    }

    pub(super) fn bad_request(description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "BadRequest", description)
    }

    pub(super) fn not_allowed(description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, "NotAllowed", description)
    }

    pub(super) fn not_found(description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "NotFound", description)
    }

    pub(super) fn method_not_allowed() -> Failure {
        let description = "this path does not know that method; the header Allow says which it knows";
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "NotFound", description)
    }

    pub(super) fn conflict(error: &str, description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, error, description)
    }

    /// A rule forbids it, or it went wrong; nothing is left half done.
    pub(super) fn refused(error: &anyhow::Error) -> Failure {
        Failure::conflict("Refused", sentence(error))
    }

    pub(super) fn unavailable(error: &str, description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, description)
    }

    pub(super) fn server_unavailable(error: &anyhow::Error) -> Failure {
        Failure::unavailable("ServerUnavailable", sentence(error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.problem)).into_response()
    }
}

/// A JSON body; the failure names the field.
pub(super) struct Json<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            Failure::new(rejection.status(), "BadRequest", format!("the body is not usable: {}", rejection.body_text()))
        })?;
        serde_json::from_slice(&bytes)
            .map(Json)
            .map_err(|error| Failure::bad_request(format!("the body is not the JSON that this path takes: {error}")))
    }
}

/// Events as they come, one JSON text for each line. When the client goes away only the listening ends.
pub(super) fn events(receiver: mpsc::Receiver<Event>) -> Response {
    let lines = stream::unfold(receiver, async |mut receiver| {
        let event = match tokio::time::timeout(QUIET_LIMIT, receiver.recv()).await {
            Ok(event) => event?,
            Err(_) => Event::Message("Still at it".into()),
        };
        let line = serde_json::to_vec(&event).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, receiver))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// One line for each request, but for the questions that are asked all the time.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let (method, path, begun) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let response = next.run(request).await;
    if !["/v1/leader", "/v1/status", "/v1/voter/renew", "/metrics"].contains(&path.as_str()) {
        let (status, ms) = (response.status().as_u16(), begun.elapsed().as_millis());
        tracing::info!(status, ms, "{method} {path}");
    }
    response
}

pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the agent has a bug; its log says where")
        .into_response()
}
