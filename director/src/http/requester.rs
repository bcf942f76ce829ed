//! Who asks: basic authentication against the users of `director.yml`, and what else every task wants to know.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::{Choice, ConstantTimeEq};

use super::{App, answer};
use crate::config::User;
use crate::error::{Code, Error};
use crate::event::Actor;
use crate::task::Order;
use crate::task::record::Kind;

/// As long as BOSH's column for it.
const LONGEST_CONTEXT_ID: usize = 64;

/// The user whose password was right.
#[derive(Clone)]
struct UserName(String);

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
        let user = parts.extensions.get::<UserName>().map(|user| user.0.clone()).unwrap_or_default();
        Ok(Self { user, context_id, host })
    }
}

/// Let nobody pass without a good name and password.
pub(super) async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(user) = user(&app.config.users, request.headers()) else {
        let message = format!("Not authorized: '{}'\n", request.uri().path());
        let refusal = answer::text(StatusCode::UNAUTHORIZED, message);
        return ([(header::WWW_AUTHENTICATE, r#"Basic realm="BOSH Director""#)], refusal).into_response();
    };
    request.extensions_mut().insert(UserName(user));
    next.run(request).await
}

/// The name of the user, if the password is right. Every user is compared, each in constant time.
pub(super) fn user(users: &[User], headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = given.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let mut found = None;
    for user in users {
        let wanted = format!("{}:{}", user.name, user.password);
        let is_equal: Choice = wanted.as_bytes().ct_eq(&decoded);
        if bool::from(is_equal) {
            found = Some(user.name.clone());
        }
    }
    found
}
