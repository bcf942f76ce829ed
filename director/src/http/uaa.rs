//! `/oauth/token`, where this director plays the UAA too: a client shows its secret and gets a bearer token.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::App;
use super::answer::{Answer, Refusal};
use super::requester;
use crate::config::Authentication;
use crate::error::Error;
use crate::token::Claims;

#[derive(Default, Deserialize)]
struct Form {
    #[serde(default)]
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

pub(super) async fn give_token(State(app): State<App>, uri: Uri, headers: HeaderMap, body: Bytes) -> Answer {
    match app.config.authentication {
        Authentication::Basic => return Err(Refusal::NoEndpoint(uri.path().to_owned())),
        Authentication::Uaa => {}
    }
    let Some(form) = read(&body) else {
        return Ok(refuse(StatusCode::BAD_REQUEST, "invalid_request", "The body is not a form"));
    };
    if form.grant_type != "client_credentials" {
        let message = format!("This director gives tokens for client_credentials, not for '{}'", form.grant_type);
        return Ok(refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type", &message));
    }
    let in_form = || Some(format!("{}:{}", form.client_id.as_ref()?, form.client_secret.as_ref()?).into_bytes());
    let credentials = requester::basic(&headers).or_else(in_form).unwrap_or_default();
    let Some(client) = requester::find(&app.config.users, &credentials) else {
        return Ok(refuse(StatusCode::UNAUTHORIZED, "unauthorized", "Bad credentials"));
    };
    let iat = OffsetDateTime::now_utc().unix_timestamp();
    let claims = Claims {
        jti: uuid::Uuid::new_v4().simple().to_string(),
        iat,
        exp: iat + i64::from(app.config.token_lifetime_in_seconds),
        client_id: client.name.clone(),
        scope: client.scopes.clone(),
    };
    let token = app.tokens.sign(&claims).map_err(|cause| Error::from(anyhow::Error::from(cause)))?;
    Ok(json_answer(StatusCode::OK, &claims.answer(&token)))
}

/// A form is written as a query is.
fn read(body: &[u8]) -> Option<Form> {
    let query = Uri::try_from(format!("/?{}", str::from_utf8(body).ok()?)).ok()?;
    Query::try_from_uri(&query).ok().map(|Query(form)| form)
}

fn refuse(status: StatusCode, error: &str, description: &str) -> Response {
    json_answer(status, &json!({"error": error, "error_description": description}))
}

/// A UAA says that it is JSON, and that nobody may keep it.
fn json_answer(status: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}
