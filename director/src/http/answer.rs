//! How a real director answers: JSON under `text/html`, 302 to a task, its own words for what is not there.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Code, Error};

/// Sinatra's default, which almost every answer of a real director has, JSON or not.
pub(super) const HTML: &str = "text/html;charset=utf-8";

pub(super) type Answer = std::result::Result<Response, Refusal>;

pub(super) enum Refusal {
    Bosh(Error),
    /// Also for a wrong content type: it is part of a real director's routes.
    NoEndpoint(String),
    Text(StatusCode, String),
    Empty(StatusCode),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Bosh(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Bosh(error) => refuse(&error),
            Self::NoEndpoint(path) => text(StatusCode::NOT_FOUND, format!("Endpoint '{path}' not found.")),
            Self::Text(status, message) => text(status, message),
            Self::Empty(status) => status.into_response(),
        }
    }
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

pub(super) fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value).map_err(|cause| Error::from(anyhow::Error::from(cause)))?;
    Ok((status, [(header::CONTENT_TYPE, HTML)], body).into_response())
}

/// nginx in front of a real director makes this a 302 for every method.
pub(super) fn see_task(host: &str, id: u64) -> Answer {
    Ok((StatusCode::FOUND, [(header::LOCATION, format!("https://{host}/tasks/{id}"))]).into_response())
}

pub(super) fn text(status: StatusCode, message: String) -> Response {
    (status, [(header::CONTENT_TYPE, HTML)], message).into_response()
}

pub(super) async fn no_endpoint(uri: Uri) -> Response {
    Refusal::NoEndpoint(uri.path().to_owned()).into_response()
}

/// The routes that take a manifest exist for exactly `text/yaml`.
pub(super) fn require_yaml(headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    require(headers, uri, "text/yaml")
}

pub(super) fn require_json(headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    require(headers, uri, "application/json")
}

fn require(headers: &HeaderMap, uri: &Uri, wanted: &str) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(Refusal::NoEndpoint(uri.path().to_owned())) }
}

/// A body that must be text.
pub(super) fn utf8(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|_| Error::new(Code::InvalidYaml, "The body of the request is not UTF-8"))
}

/// A real director answers 500 with an empty body to a JSON body that it cannot read.
pub(super) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::Empty(StatusCode::INTERNAL_SERVER_ERROR))
}

/// The query, or a refusal in the form of every other one.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(cause) => Err(Error::new(Code::ValidationInvalid, cause.body_text()).into()),
        }
    }
}

fn refuse(error: &Error) -> Response {
    let status = error.code.status();
    if status.is_server_error() {
        tracing::error!(error = error.description, "a request failed");
    }
    let body = json!({"code": error.code.number(), "description": error.description});
    (status, [(header::CONTENT_TYPE, HTML)], body.to_string()).into_response()
}
