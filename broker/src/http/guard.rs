//! What happens to every request: it gets an id, its caller is known, its version is one that we speak, its body is here in
//! full, and what it changes is carried out to the end even when the caller hangs up.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anyhow::anyhow;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::osb::{REQUEST_IDENTITY_HEADER, VERSION_HEADER};
use futures_util::FutureExt;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use tracing::Instrument;

use super::body;
use super::error::{Cause, Rejection};
use super::identity::{RequestId, harmless, originator, request_id};
use crate::app::App;
use crate::config::MissingVersionStatus;

/// Around every handler.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let identity = request.headers().get(REQUEST_IDENTITY_HEADER).filter(|value| !value.is_empty()).cloned();
    let id = request_id(identity.as_ref());
    let span = tracing::info_span!(
        "request",
        request_id = id.0,
        originator = originator(request.headers()),
        method = harmless(request.method().as_str()),
        path = harmless(request.uri().path()),
    );
    let mut response = carry_out(&app, request, id.clone(), next).instrument(span.clone()).await;
    span.in_scope(|| conclude(&mut response, &id.0));
    if let Some(identity) = identity {
        response.headers_mut().insert(HeaderName::from_static(REQUEST_IDENTITY_HEADER), identity);
    }
    response
}

async fn carry_out(app: &App, request: Request, id: RequestId, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if let Err(rejection) = check(app, &head.headers) {
        body::throw_away(&head.headers, body).await;
        return rejection.into_response();
    }
    let body = match body::read(&head.headers, body, app.clients.timeout()).await {
        Ok(body) => body,
        Err(unread) => return unread.into_response(),
    };
    head.extensions.insert(id);
    let request = Request::from_parts(head, Body::from(body));
    let carried_out = match request.method().is_safe() {
        // Nothing is half done when the client hangs up.
        true => AssertUnwindSafe(next.run(request)).catch_unwind().await.map_err(|panic| panicked(&*panic)),
        // In a task of its own: a client that hangs up must not leave half a binding.
        false => app.requests.spawn(next.run(request).in_current_span()).await.map_err(anyhow::Error::new),
    };
    // It may have read what another request has written a moment ago. Nobody is told what the machine could still forget.
    match (carried_out, app.store.settle().await) {
        (Ok(response), Ok(())) => response,
        (Err(panic), _) => Rejection::from(panic).into_response(),
        (Ok(_), Err(error)) => Rejection::from(error).into_response(),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow!("the handler panicked: {}", said.unwrap_or("without a word"))
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
    check_version(app, headers)
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
fn check_version(app: &App, headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(version) = headers.get(VERSION_HEADER) else {
        let status = match app.clients.missing_version_status {
            MissingVersionStatus::BadRequest => StatusCode::BAD_REQUEST,
            MissingVersionStatus::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        };
        let why = "the header X-Broker-API-Version is required; this broker speaks 2.17";
        return Err(Rejection::plain(status, why));
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
