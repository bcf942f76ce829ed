//! What happens to every request: it gets an id, its caller is known, its version is one that we speak, and it is carried
//! out to the end even when the caller hangs up.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::osb::{REQUEST_IDENTITY_HEADER, VERSION_HEADER};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use tracing::Instrument;
use uuid::Uuid;

use super::error::{Cause, Rejection};
use crate::app::App;

/// The id of a request: the platform's, or one of ours.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// The longest identity that is kept in logs and rows; the answer repeats it in full.
const IDENTITY_LIMIT: usize = 100;

/// Around every handler.
pub(super) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let identity = request.headers().get(REQUEST_IDENTITY_HEADER).filter(|value| !value.is_empty()).cloned();
    let id = request_id(identity.as_ref());
    let span = tracing::info_span!("request", request_id = id, method = %request.method(), path = request.uri().path());
    let mut response = async {
        if let Err(rejection) = check(&app, request.headers()) {
            return rejection.into_response();
        }
        request.extensions_mut().insert(RequestId(id.clone()));
        // In a task of its own: a client that hangs up must not leave half a binding.
        let carried_out = app.requests.spawn(next.run(request).in_current_span()).await;
        carried_out.unwrap_or_else(|panic| Rejection::from(anyhow::Error::new(panic)).into_response())
    }
    .instrument(span.clone())
    .await;
    span.in_scope(|| conclude(&mut response, &id));
    if let Some(identity) = identity {
        response.headers_mut().insert(HeaderName::from_static(REQUEST_IDENTITY_HEADER), identity);
    }
    response
}

fn request_id(identity: Option<&HeaderValue>) -> String {
    let given = identity.and_then(|value| value.to_str().ok());
    given.map_or_else(|| Uuid::new_v4().to_string(), |text| text.chars().take(IDENTITY_LIMIT).collect())
}

/// Log what went wrong, and lead the user's report to this line.
fn conclude(response: &mut Response, id: &str) {
    let status = response.status().as_u16();
    let Some(Cause(cause)) = response.extensions().get::<Cause>().cloned() else {
        return tracing::debug!(status, "answered");
    };
    tracing::error!(status, cause, "the request failed");
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        let text = format!(
            "There was a problem completing your request. Please contact your operations team providing the following \
             information: broker-request-id: {id}"
        );
        *response = Rejection::plain(StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
}

fn check(app: &App, headers: &HeaderMap) -> Result<(), Rejection> {
    if !is_authentic(app, headers) {
        let why = "user name or password is missing or wrong (basic authentication)";
        return Err(Rejection::plain(StatusCode::UNAUTHORIZED, why));
    }
    check_version(headers)
}

/// Compares digests, in a time that tells neither the length nor the first difference.
fn is_authentic(app: &App, headers: &HeaderMap) -> bool {
    let Some((username, password)) = basic_credentials(headers) else { return false };
    let is_same = |given: &str, ours: &str| {
        digest(&SHA256, given.as_bytes()).as_ref().ct_eq(digest(&SHA256, ours.as_bytes()).as_ref())
    };
    (is_same(&username, &app.username) & is_same(&password, app.password.reveal())).into()
}

fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some((username.into(), password.into()))
}

/// Every 2.x: minor versions only add, and what they add is ignored.
fn check_version(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(version) = headers.get(VERSION_HEADER) else {
        return Err(Rejection::bad_request("the header X-Broker-API-Version is required; this broker speaks 2.17"));
    };
    let is_minor = |minor: &str| !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    match version.to_str().unwrap_or_default().split_once('.') {
        Some(("2", minor)) if is_minor(minor) => Ok(()),
        _ => Err(Rejection::plain(
            StatusCode::PRECONDITION_FAILED,
            "the version in X-Broker-API-Version is not supported; this broker speaks 2.17 and every other 2.x",
        )),
    }
}
