//! `/simulation`: what goes wrong on demand, and which requests have come. Only a director of simulated VMs has these
//! paths. Every other request passes [`disturb`], where it is counted, and where the faults of requests are played.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /simulation[?deployment=D]` | | 200 `{"faults": [{"fault": F, "seen": N}], "requests": {"GET /tasks": N}, "vms": {"all": N, "running": N}}` |
//! | `DELETE /simulation` | | 204: no faults, and nothing counted |
//! | `PUT /simulation/faults` | `[F, ...]` | 200 as `GET`: exactly these faults; 400 where one can never happen |
//! | `POST /simulation/faults` | `F` | 200 as `GET`: one more |

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{self, Answer, HTML, Query};
use super::{App, LARGEST_BODY};
use crate::error::{Code, Error};
use crate::fault::{Fault, Faults, Kind, Point};
use crate::manifest;

/// Time for the first half of a body to leave before the connection is cut.
const HALF_TIME: Duration = Duration::from_millis(50);

pub(super) fn routes() -> Router<App> {
    Router::new().route("/simulation", get(show).delete(clear)).route("/simulation/faults", put(replace).post(add))
}

#[derive(Deserialize)]
struct ShowQuery {
    deployment: Option<String>,
}

async fn show(State(app): State<App>, Query(query): Query<ShowQuery>) -> Answer {
    shown(&app, query.deployment.as_deref())
}

async fn clear(State(app): State<App>) -> Answer {
    faults(&app)?.clear();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn replace(State(app): State<App>, body: Bytes) -> Answer {
    faults(&app)?.replace(parse(&body)?).map_err(invalid)?;
    shown(&app, None)
}

async fn add(State(app): State<App>, body: Bytes) -> Answer {
    faults(&app)?.add(vec![parse(&body)?]).map_err(invalid)?;
    shown(&app, None)
}

fn shown(app: &App, deployment: Option<&str>) -> Answer {
    let mut shown = faults(app)?.show(deployment);
    if let Some(simulated) = app.cpi.simulated() {
        let (all, running) = simulated.count();
        shown["vms"] = json!({"all": all, "running": running});
    }
    answer::json(&shown)
}

fn faults(app: &App) -> Result<&Faults, Error> {
    app.faults.as_deref().ok_or_else(|| Error::new(Code::Generic, "Nothing is simulated here"))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|cause| invalid(cause.to_string()))
}

fn invalid(why: String) -> Error {
    Error::new(Code::ValidationInvalid, why)
}

/// Count a request, and play the fault that fits.
pub(super) async fn disturb(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(faults) = &app.faults else { return next.run(request).await };
    let path = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    if path.starts_with("/simulation") {
        return next.run(request).await;
    }
    let act = format!("{} {path}", request.method());
    let (deployment, mut request) = match subject(&app, request).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    faults.count(&act, &deployment);
    let Some(fault) = faults.take(Point { act: &act, deployment: &deployment, instance: None }) else {
        return next.run(request).await;
    };
    if fault.fault == Kind::IgnoreRange {
        request.headers_mut().remove(header::RANGE);
    }
    let response = play(&fault, request, next).await;
    match fault.fault {
        Kind::Truncate => truncated(response).await,
        Kind::Garble => rewritten(response, garbled).await,
        Kind::Edit => rewritten(response, |body| edited(&fault, body)).await,
        _ => response,
    }
}

/// What can go wrong with any request, whoever answers it: it comes late, it or its answer is lost, or somebody else answers.
pub(crate) async fn play(fault: &Fault, request: Request, next: Next) -> Response {
    if fault.fault == Kind::DelayAnswer {
        let answer = next.run(request).await;
        tokio::time::sleep(fault.latency()).await;
        return answer;
    }
    tokio::time::sleep(fault.latency()).await;
    match fault.fault {
        Kind::LoseRequest => broken(),
        Kind::LoseAnswer => {
            next.run(request).await;
            broken()
        }
        Kind::Answer => other_answer(fault),
        _ => next.run(request).await,
    }
}

/// Which deployment a request is about, as far as it can be told.
async fn subject(app: &App, request: Request) -> Result<(String, Request), Response> {
    let uri = request.uri();
    let words: Vec<&str> = uri.path().split('/').skip(1).collect();
    let in_query = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
    };
    let found = match words[..] {
        ["deployments", name, ..] => Some(name.to_owned()),
        ["tasks" | "task", id, ..] => id.parse().ok().and_then(|id| app.tasks.get(id)?.deployment),
        ["tasks"] => in_query("deployment").or_else(|| app.tasks.deployment_of(&in_query("context_id")?)),
        ["deployments"] if request.method() == Method::POST => {
            let (parts, body) = request.into_parts();
            let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
                return Err(StatusCode::PAYLOAD_TOO_LARGE.into_response());
            };
            let text = str::from_utf8(&body).unwrap_or_default();
            let name = manifest::read(text).map(|(name, _)| name).unwrap_or_default();
            return Ok((name, Request::from_parts(parts, Body::from(body))));
        }
        _ => in_query("deployment"),
    };
    Ok((found.unwrap_or_default(), request))
}

/// The connection is cut: hyper sends nothing of an answer whose body fails at once.
fn broken() -> Response {
    let cut = stream::once(async { Err::<Bytes, _>(io::Error::other("the connection is cut on demand")) });
    Response::new(Body::from_stream(cut))
}

/// The answer of somebody in front of the director, by default of an nginx that does not reach it.
fn other_answer(fault: &Fault) -> Response {
    let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::BAD_GATEWAY);
    let page = || format!("<html><head><title>{status}</title></head><body><h1>{status}</h1>nginx</body></html>\r\n");
    (status, [(header::CONTENT_TYPE, HTML)], fault.body.clone().unwrap_or_else(page)).into_response()
}

/// The length of the whole, and the first half of it.
async fn truncated(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let half = body.slice(..body.len() / 2);
    let cut = stream::once(async {
        tokio::time::sleep(HALF_TIME).await;
        Err(io::Error::other("the connection is cut on demand"))
    });
    Response::from_parts(parts, Body::from_stream(stream::once(async { Ok(half) }).chain(cut)))
}

async fn rewritten(response: Response, act: impl FnOnce(&[u8]) -> Vec<u8>) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(act(&body)))
}

/// Not UTF-8: what a program has said, where there is such a thing, or the whole body.
fn garbled(body: &[u8]) -> Vec<u8> {
    const SAID: &[u8] = br#""stdout":""#;
    let at = body.windows(SAID.len()).position(|part| part == SAID).map_or(0, |at| at + SAID.len());
    [&body[..at], b"\xff\xfe", &body[at..]].concat()
}

/// A list, an object, or one JSON document in each line; everything else stays as it is.
fn edited(fault: &Fault, body: &[u8]) -> Vec<u8> {
    let set = |mut row: Value| {
        if let Some(fields) = row.as_object_mut() {
            fields.extend(fault.set.clone());
        }
        row
    };
    let with_rows = |rows: Vec<Value>| {
        let mut rows: Vec<Value> = rows.into_iter().map(set).chain(fault.append.clone()).collect();
        if fault.reverse {
            rows.reverse();
        }
        rows
    };
    if let Ok(document) = serde_json::from_slice::<Value>(body) {
        return match document {
            Value::Array(rows) => Value::Array(with_rows(rows)).to_string().into_bytes(),
            other => set(other).to_string().into_bytes(),
        };
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    match lines.map(serde_json::from_slice).collect::<Result<Vec<Value>, _>>() {
        Ok(rows) => with_rows(rows).iter().flat_map(|row| format!("{row}\n").into_bytes()).collect(),
        Err(_) => body.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_garbled_where_it_stands_and_anything_else_as_a_whole() {
        assert_eq!(garbled(br#"{"exit_code":7,"stdout":"x"}"#), b"{\"exit_code\":7,\"stdout\":\"\xff\xfex\"}");
        assert_eq!(garbled(b"[]"), b"\xff\xfe[]");
    }

    #[test]
    fn rows_are_edited_in_lists_objects_and_lines() {
        let fault = |json| serde_json::from_value::<Fault>(json).unwrap();
        let edit = |change: Value, body: &str| String::from_utf8(edited(&fault(change), body.as_bytes())).unwrap();

        assert_eq!(edit(json!({"set": {"a": 2}}), r#"{"a":1,"b":1}"#), r#"{"a":2,"b":1}"#);
        assert_eq!(edit(json!({"append": [{"c": 1}], "reverse": true}), r#"[{"a":1}]"#), r#"[{"c":1},{"a":1}]"#);
        assert_eq!(edit(json!({"set": {"vitals": null}}), "{\"a\":1}\n{\"a\":2}\n").lines().count(), 2);
        assert_eq!(edit(json!({"set": {"a": 1}}), "plain"), "plain");
    }
}
