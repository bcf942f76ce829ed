//! The interface in raw JSON, over the real router and a real state database. Nobody works on the wishes here, so that
//! every state can be looked at.

mod answers;
mod binding;
mod parameters;
mod quota;
mod update;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::osb::{Credentials, State};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::admission::{BindingAttributes, BindingProgress};
use crate::app::fixture::{PASSWORD, app};
use crate::clock::Timestamp;
use crate::ids::{BindingId, InstanceId};
use crate::store::bindings::Key;
use crate::store::instances::Lease;
use crate::store::{bindings, operations};

const SERVICE: &str = "7b7d8c3e-6f0e-4f6b-9a0d-3c0f5d4f1a10";
const SINGLE: &str = "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21";
/// The words of the specification.
const ERRORS: [&str; 4] = ["AsyncRequired", "ConcurrencyError", "MaintenanceInfoConflict", "RequiresApp"];

struct Api {
    app: Arc<App>,
    _directory: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Api {
    async fn new() -> Api {
        let (app, directory) = app().await;
        Api { app: Arc::new(app), _directory: directory }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = router(self.app.clone()).oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, body::LIMIT).await.unwrap();
        let body = serde_json::from_slice(&body).expect("every answer is JSON");
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body };
        answer.check();
        answer
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, path, body).body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn put(&self, id: &str, changes: Value) -> Answer {
        let path = format!("/v2/service_instances/{id}?accepts_incomplete=true");
        self.call("PUT", &path, &provision_body(changes).to_string()).await
    }

    async fn delete(&self, id: &str) -> Answer {
        let query = format!("accepts_incomplete=true&service_id={SERVICE}&plan_id={SINGLE}");
        self.call("DELETE", &format!("/v2/service_instances/{id}?{query}"), "").await
    }

    async fn poll(&self, id: &str, query: &str) -> Answer {
        self.call("GET", &format!("/v2/service_instances/{id}/last_operation{query}"), "").await
    }

    /// What the reconciler does at the end.
    async fn finish(&self, id: &str, state: State) {
        let mut db = self.app.store.connection().await.unwrap();
        let operation = operations::in_progress(&mut db, &InstanceId::parse(id).unwrap()).await.unwrap().unwrap();
        let now = Timestamp::now();
        match (operation.kind, state) {
            (operations::Kind::Delete, State::Succeeded) => {
                operations::finish_deletion(&mut db, &operation, "ended", now).await.unwrap();
            }
            (operations::Kind::Update, State::Succeeded) => {
                operations::finish_update(&mut db, &operation, "ended", now).await.unwrap();
            }
            _ => drop(operations::finish(&mut db, &operation.id, state, "ended", now).await.unwrap()),
        }
    }
}

impl Answer {
    /// What holds for every answer.
    fn check(&self) {
        let Answer { status, headers, body } = self;
        assert_eq!(headers["content-type"], "application/json");
        let members = body.as_object().expect("every answer is an object");
        assert!(!body.to_string().contains(":null"), "{body}");
        if *status < 400 {
            return;
        }
        for (name, value) in members {
            match name.as_str() {
                "error" => assert!(ERRORS.iter().any(|error| value == error), "{body}"),
                "description" => assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{body}"),
                _ => panic!("an error has no {name}: {body}"),
            }
        }
    }

    fn expect(&self, status: u16, words: &str) {
        let text = self.body.to_string();
        assert!(self.status == status && text.contains(words), "{} {text}; not {status} {words}", self.status);
    }
}

fn request(method: &str, path: &str, body: &str) -> axum::http::request::Builder {
    let builder = Request::builder().method(method).uri(path);
    let builder = builder.header("authorization", basic(PASSWORD)).header("x-broker-api-version", "2.17");
    if body.is_empty() { builder } else { builder.header("content-type", "application/json") }
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("broker:{password}")))
}

fn provision_body(changes: Value) -> Value {
    let mut body = json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn every_route_asks_who_is_there() {
    let api = Api::new().await;
    for path in ["/v2/catalog", "/v2/service_instances/i", "/v2/service_instances/i/last_operation", "/nowhere"] {
        for value in [None, Some(basic("wrong")), Some("Basic ???".into()), Some("Bearer x".into())] {
            let mut request = Request::builder().uri(path).header("x-broker-api-version", "2.17");
            if let Some(value) = &value {
                request = request.header("authorization", value);
            }
            let answer = api.send(request.body(Body::empty()).unwrap()).await;
            answer.expect(401, "basic authentication");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
        }
    }
}

#[tokio::test]
async fn every_second_version_is_served_and_the_header_is_required() {
    let api = Api::new().await;
    let call = async |version: Option<&str>| {
        let mut request = Request::builder().uri("/v2/catalog").header("authorization", basic(PASSWORD));
        if let Some(version) = version {
            request = request.header("x-broker-api-version", version);
        }
        api.send(request.body(Body::empty()).unwrap()).await
    };
    call(None).await.expect(400, "X-Broker-API-Version is required");
    for version in ["1.17", "3.0", "2", "2.", "2.x", "", "abc"] {
        call(Some(version)).await.expect(412, "not supported");
    }
    for version in ["2.11", "2.17", "2.99"] {
        call(Some(version)).await.expect(200, "p.mysql");
    }
}

#[tokio::test]
async fn the_request_identity_comes_back_with_errors_too() {
    let api = Api::new().await;
    for path in ["/v2/catalog", "/nowhere"] {
        let request = request("GET", path, "").header("X-Broker-API-Request-Identity", "id-1");
        let answer = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers["x-broker-api-request-identity"], "id-1");
    }
}

#[tokio::test]
async fn a_path_or_method_that_is_not_known_is_told_so_in_json() {
    let api = Api::new().await;
    api.call("GET", "/", "").await.expect(404, "below /v2");
    api.call("POST", "/v2/service_instances/i", "{}").await.expect(405, "method");
    api.call("POST", "/v2/catalog", "{}").await.expect(405, "method");
}

#[tokio::test]
async fn a_body_that_is_not_usable_is_a_400_that_names_what_is_wrong() {
    let api = Api::new().await;
    let path = "/v2/service_instances/i?accepts_incomplete=true";
    for (body, words) in [
        ("", "not usable: EOF"),
        ("nope", "not usable: expected"),
        ("[\"s\", \"p\", \"o\", \"s\"]", "must be a JSON object"),
        ("{\"service_id\":", "not usable"),
        ("{}", "`service_id` is missing"),
        ("{\"service_id\": 1}", "`service_id` must be a string"),
        ("{\"service_id\":\"a\",\"service_id\":\"b\"}", "two members of the same name"),
    ] {
        api.call("PUT", path, body).await.expect(400, words);
    }
    api.put("i", json!({"parameters": [1]})).await.expect(400, "`parameters` must be a JSON object");
    api.put("i", json!({"context": "x"})).await.expect(400, "`context` must be a JSON object");
    let deep = format!("{{\"context\":{}", "[".repeat(10_000));
    let answer = api.call("PUT", path, &deep).await;
    assert!(answer.status == 400 && answer.body.to_string().len() < 300);
    let long = format!("{{\"context\":\"{}\"}}", "x".repeat(body::LIMIT));
    api.call("PUT", path, &long).await.expect(413, "longer than");
    let text = request("PUT", path, "").header("content-type", "text/plain").body(Body::from("{}")).unwrap();
    api.send(text).await.expect(400, "application/json");
    let bare = request("PUT", path, "").body(Body::from(provision_body(json!({})).to_string())).unwrap();
    api.send(bare).await.expect(202, "operation");
}

#[tokio::test]
async fn ids_and_queries_are_checked() {
    let api = Api::new().await;
    for id in ["a%2Fb", "a%00", "%20", "%C3%A4", &"x".repeat(51)] {
        api.put(id, json!({})).await.expect(400, "id of the service instance");
        api.poll(id, "").await.expect(400, "id of the service instance");
    }
    api.put("%FF", json!({})).await.expect(400, "UTF-8");
    let body = provision_body(json!({})).to_string();
    for (query, status, words) in [
        ("", 422, "AsyncRequired"),
        ("?accepts_incomplete=false", 422, "requires client support"),
        ("?accepts_incomplete=TRUE", 400, "must be true or false"),
        ("?accepts_incomplete=", 400, "must be true or false"),
        ("?accepts_incomplete=true&accepts_incomplete=true", 400, "given twice"),
    ] {
        let path = format!("/v2/service_instances/i{query}");
        api.call("PUT", &path, &body).await.expect(status, words);
    }
    let path = format!("/v2/service_instances/i?accepts_incomplete=true&service_id={SERVICE}");
    api.call("DELETE", &path, "").await.expect(400, "`plan_id` is missing");
    assert_eq!(api.poll("i", "").await.status, 404, "nothing was recorded");
}

#[tokio::test]
async fn a_provision_is_one_operation_however_often_it_is_sent() {
    let api = Api::new().await;
    let first = api.put("i", json!({})).await;
    first.expect(202, "operation");
    let again = api.put("i", json!({"parameters": {}})).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    api.put("i", json!({"space_guid": "t"})).await.expect(409, "other attributes");
    api.put("I", json!({})).await.expect(409, "letter case");
    api.poll("i", "").await.expect(200, "in progress");
    api.call("GET", "/v2/service_instances/i", "").await.expect(404, "does not exist");

    api.finish("i", State::Succeeded).await;

    assert_eq!(api.put("i", json!({})).await.body, json!({}));
    api.poll("i", "").await.expect(200, "succeeded");
    let shown = api.call("GET", "/v2/service_instances/i", "").await;
    assert_eq!(
        shown.body,
        json!({"service_id": SERVICE, "plan_id": SINGLE, "parameters": {}, "maintenance_info": {"version": "1.0.0"}})
    );
}

#[tokio::test]
async fn concurrent_provisions_of_one_id_become_one_operation() {
    let api = Api::new().await;
    let answers = futures_util::future::join_all((0..20).map(|_| api.put("i", json!({})))).await;
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == answers[0].body));
}

#[tokio::test]
async fn a_refused_provision_leaves_nothing() {
    let api = Api::new().await;
    api.put("i", json!({"plan_id": "nope"})).await.expect(400, "not a plan of the service offering");
    api.put("i", json!({"parameters": {"x": 1, "y": 2}})).await.expect(400, "2 errors occurred:\\n    * the config");
    api.put("i", json!({"maintenance_info": {"version": "0.9.0"}})).await.expect(422, "MaintenanceInfoConflict");
    assert_eq!(api.poll("i", "").await.status, 404);
    api.delete("i").await.expect(410, "{}");
}

#[tokio::test]
async fn a_deprovision_halts_a_provision_and_ends_in_a_tombstone() {
    let api = Api::new().await;
    let creation = api.put("i", json!({})).await.body["operation"].as_str().unwrap().to_owned();

    let first = api.delete("i").await;

    first.expect(202, "operation");
    assert_eq!(api.delete("i").await.body, first.body);
    api.put("i", json!({})).await.expect(422, "ConcurrencyError");
    api.poll("i", "").await.expect(200, "deletion in progress");
    api.poll("i", &format!("?operation={creation}")).await.expect(200, "halted");
    api.finish("i", State::Succeeded).await;
    let deletion = first.body["operation"].as_str().unwrap();
    api.poll("i", &format!("?operation={deletion}")).await.expect(200, "succeeded");
    assert_eq!(api.poll("i", "").await.body, json!({}));
    assert_eq!(api.poll("i", "").await.status, 410);
    api.delete("i").await.expect(410, "{}");
    api.put("i", json!({})).await.expect(202, "operation");
}

#[tokio::test]
async fn a_failed_deletion_says_whether_the_instance_is_usable_and_may_be_tried_again() {
    let api = Api::new().await;
    api.put("i", json!({})).await;
    api.finish("i", State::Failed).await;
    assert_eq!(api.poll("i", "").await.body.get("instance_usable"), None);
    api.put("i", json!({})).await.expect(409, "delete it first");
    api.delete("i").await.expect(202, "operation");
    api.finish("i", State::Failed).await;
    assert_eq!(api.poll("i", "").await.body["instance_usable"], false);
    api.call("GET", "/v2/service_instances/i", "").await.expect(200, SINGLE);
    api.delete("i").await.expect(202, "operation");
}

#[tokio::test]
async fn the_catalog_is_the_golden_one() {
    let api = Api::new().await;
    let answer = api.call("GET", "/v2/catalog", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let served = serde_json::to_string_pretty(&answer.body).unwrap();
    crate::app::fixture::assert_golden("catalog.json", &format!("{served}\n"));
}
