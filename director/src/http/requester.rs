//! Who asks, and what he may: a user of `director.yml` with his password, or the bearer of a token; and what else every
//! task wants to know.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::{Choice, ConstantTimeEq};
use time::OffsetDateTime;

use super::{App, answer};
use crate::config::{self, Authentication, User};
use crate::error::{Code, Error};
use crate::event::Actor;
use crate::task::Order;
use crate::task::record::Kind;

/// As long as BOSH's column for it.
const LONGEST_CONTEXT_ID: usize = 64;

/// Somebody who has shown who he is.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) user: String,
    scopes: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Requester {
    pub(super) user: String,
    pub(super) context_id: String,
    /// The name under which the director was reached; a redirect repeats it.
    pub(super) host: String,
}

impl Requester {
    pub(super) fn order(&self, kind: Kind, description: impl Into<String>, deployment: Option<&str>) -> Order {
        Order {
            kind,
            description: description.into(),
            deployment: deployment.map(str::to_owned),
            user: self.user.clone(),
            context_id: self.context_id.clone(),
            deed: None,
        }
    }

    /// Who the director's events say it was, where there is no task.
    pub(super) fn actor(&self) -> Actor {
        Actor { user: self.user.clone(), task: None }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Requester {
    type Rejection = answer::Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let context_id = text("x-bosh-context-id").to_owned();
        if context_id.len() > LONGEST_CONTEXT_ID {
            let message = format!("X-Bosh-Context-Id cannot be more than {LONGEST_CONTEXT_ID} characters in length");
            return Err(Error::new(Code::ContextIdInvalid, message).into());
        }
        let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        let host = authority.unwrap_or_else(|| text(header::HOST.as_str()).to_owned());
        let user = parts.extensions.get::<Identity>().map(|identity| identity.user.clone()).unwrap_or_default();
        Ok(Self { user, context_id, host })
    }
}

/// Let nobody pass whom we do not know, or who may not do what he asks for. BOSH has the same status for both; only one
/// of them is JSON.
pub(super) async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(identity) = identify(&app, request.headers()) else {
        let message = format!("Not authorized: '{}'\n", request.uri().path());
        let refusal = answer::text(StatusCode::UNAUTHORIZED, message);
        return ([(header::WWW_AUTHENTICATE, r#"Basic realm="BOSH Director""#)], refusal).into_response();
    };
    let needed = scopes_for(&request, &app.store.read().shared.uuid);
    if !needed.iter().any(|scope| identity.scopes.contains(scope)) {
        let message = format!("Require one of the scopes: {}", needed.join(", "));
        return answer::Refusal::from(Error::new(Code::Unauthorized, message)).into_response();
    }
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// Whose credentials these are, if they are good ones.
pub(super) fn identify(app: &App, headers: &HeaderMap) -> Option<Identity> {
    match app.config.authentication {
        Authentication::Basic => {
            let user = find(&app.config.users, &basic(headers)?)?;
            Some(Identity { user: user.name.clone(), scopes: config::administrator() })
        }
        Authentication::Uaa => {
            let token = credentials(headers, "bearer")?;
            let claims = app.tokens.verify(token, OffsetDateTime::now_utc().unix_timestamp())?;
            Some(Identity { user: claims.client_id, scopes: claims.scope })
        }
    }
}

/// The name and the password of basic authentication, with the colon between them.
pub(super) fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(credentials(headers, "basic")?).ok()
}

/// The user whose password is right. Every user is compared, each in constant time.
pub(super) fn find<'a>(users: &'a [User], name_and_password: &[u8]) -> Option<&'a User> {
    let mut found = None;
    for user in users {
        let wanted = format!("{}:{}", user.name, user.password);
        let is_equal: Choice = wanted.as_bytes().ct_eq(name_and_password);
        if bool::from(is_equal) {
            found = Some(user);
        }
    }
    found
}

fn credentials<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(credentials.trim()).filter(|_| scheme.eq_ignore_ascii_case(wanted))
}

/// One of them is needed. Those who may only read see neither logs nor what a task says to operators.
fn scopes_for(request: &Request, uuid: &str) -> Vec<String> {
    let mut scopes = vec!["bosh.admin".to_owned(), format!("bosh.{uuid}.admin")];
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let is_output = path.ends_with("/output");
    let is_for_all = !path.ends_with("/logs")
        && !path.starts_with("/resources/")
        && (!is_output
            || query.split('&').all(|part| matches!(part, "type=event" | "type=result")) && !query.is_empty());
    if request.method() == Method::GET && is_for_all {
        scopes.extend(["bosh.read".to_owned(), format!("bosh.{uuid}.read")]);
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_reads_and_does_nothing_else() {
        let table = [
            ("GET", "/deployments", true),
            ("GET", "/deployments/d/instances?format=full", true),
            ("GET", "/tasks/1/output?type=result", true),
            ("GET", "/tasks/1/output?type=debug", false),
            ("GET", "/tasks/1/output", false),
            ("GET", "/tasks/1/output?type=debug&x=type=event", false),
            ("GET", "/tasks/1/output?type=debug&type=event", false),
            ("GET", "/deployments/d/jobs/mysql/0/logs?type=job", false),
            ("GET", "/resources/b", false),
            ("POST", "/deployments", false),
            ("DELETE", "/task/1", false),
        ];
        for (method, uri, expected) in table {
            let request = Request::builder().method(method).uri(uri).body(axum::body::Body::empty()).unwrap();
            let scopes = scopes_for(&request, "u");
            let has = |scope: &str| scopes.iter().any(|needed| needed == scope);
            assert!(has("bosh.admin") && has("bosh.u.admin"), "{method} {uri}");
            assert_eq!((has("bosh.read"), has("bosh.u.read")), (expected, expected), "{method} {uri}");
        }
    }
}
