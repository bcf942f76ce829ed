//! What a request says, or a 400 that names what is wrong with it. axum's own extractors would answer 422 with plain text,
//! on which Cloud Controller deletes the instance, and would take a JSON array for an object.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Rejection;
use super::json;
use crate::admission::Offer;
use crate::app::App;
use crate::ids::{self, BindingId, InstanceId};
use crate::store::bindings::Key;

/// The words of a query that mean something.
const NAMES: [&str; 4] = ["accepts_incomplete", "service_id", "plan_id", "operation"];

/// A JSON object.
pub(super) struct Body<T>(pub(super) T);

/// The query: each name that is known at most once.
pub(super) struct Words(Vec<(String, String)>);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Body<T>, Rejection> {
        check_content_type(request.headers())?;
        let body = Bytes::from_request(request, app).await;
        let body = body.map_err(|_| Rejection::bad_request("the request body did not arrive in full"))?;
        json::read(&body).map(Body).map_err(Rejection::bad_request)
    }
}

/// Absent is fine, as the specification says.
fn check_content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    // Not 415: the specification asks for 400 where a broker refuses a body for its type.
    Err(Rejection::bad_request("the Content-Type of the request must be application/json"))
}

impl FromRequestParts<Arc<App>> for InstanceId {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<InstanceId, Rejection> {
        let ids = path_ids(parts, app).await?;
        parse_instance(&ids)
    }
}

impl FromRequestParts<Arc<App>> for Key {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Key, Rejection> {
        let ids = path_ids(parts, app).await?;
        let instance = parse_instance(&ids)?;
        let binding = ids.get(1).and_then(|id| BindingId::parse(id)).ok_or_else(|| bad_id("service binding"))?;
        Ok(Key { instance, binding })
    }
}

async fn path_ids(parts: &mut Parts, app: &Arc<App>) -> Result<Vec<String>, Rejection> {
    let path = Path::<Vec<(String, String)>>::from_request_parts(parts, app).await;
    let Path(members) = path.map_err(|_| Rejection::bad_request("the path is not UTF-8 text"))?;
    Ok(members.into_iter().map(|(_, id)| id).collect())
}

fn parse_instance(ids: &[String]) -> Result<InstanceId, Rejection> {
    ids.first().and_then(|id| InstanceId::parse(id)).ok_or_else(|| bad_id("service instance"))
}

fn bad_id(what: &str) -> Rejection {
    Rejection::bad_request(format!("the id of the {what} must be {}", ids::RULE))
}

impl FromRequestParts<Arc<App>> for Words {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Words, Rejection> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, app).await;
        let Query(words) = query.map_err(|_| Rejection::bad_request("the query of the URL is not usable"))?;
        for known in NAMES {
            if words.iter().filter(|(name, _)| name == known).count() > 1 {
                return Err(Rejection::bad_request(format!("`{known}` is given twice in the URL")));
            }
        }
        Ok(Words(words))
    }
}

impl Words {
    /// A word that is given and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(given, _)| given == name);
        named.next().map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether the platform takes an answer before the work is done.
    pub(super) fn accepts_incomplete(&self) -> Result<bool, Rejection> {
        match self.0.iter().find(|(name, _)| name == "accepts_incomplete").map(|(_, value)| value.as_str()) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Rejection::bad_request("`accepts_incomplete` must be true or false")),
        }
    }

    /// The service and the plan that a `DELETE` must name.
    pub(super) fn offer(&self) -> Result<Offer<'_>, Rejection> {
        Ok(Offer { service_id: self.required("service_id")?, plan_id: self.required("plan_id")? })
    }

    fn required(&self, name: &str) -> Result<&str, Rejection> {
        self.get(name).ok_or_else(|| Rejection::bad_request(format!("`{name}` is missing in the URL")))
    }
}
