//! Headers, authentication and the shape of answers, on every route.

use serde_json::{Value, json};

use super::program::{Answer, Broker, SERVICE, SINGLE, request};

/// Every route of the specification.
fn routes() -> Vec<(&'static str, String)> {
    let (instance, binding) = ("/v2/service_instances/i", "/v2/service_instances/i/service_bindings/b");
    let query = format!("?accepts_incomplete=true&service_id={SERVICE}&plan_id={SINGLE}");
    vec![
        ("GET", "/v2/catalog".into()),
        ("GET", format!("{instance}/last_operation")),
        ("GET", format!("{binding}/last_operation")),
        ("PUT", format!("{instance}{query}")),
        ("GET", instance.into()),
        ("PATCH", format!("{instance}{query}")),
        ("DELETE", format!("{instance}{query}")),
        ("PUT", format!("{binding}{query}")),
        ("GET", binding.into()),
        ("DELETE", format!("{binding}{query}")),
    ]
}

fn provision() -> Value {
    json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"})
}

fn put(broker: &Broker, id: &str, body: &Value) -> Answer {
    broker.call("PUT", &format!("/v2/service_instances/{id}?accepts_incomplete=true"), &body.to_string())
}

#[test]
fn every_route_wants_the_password_and_answers_in_json() {
    let broker = Broker::start();
    for (method, path) in routes() {
        let known = request(method, &path, &["X-Broker-API-Request-Identity: id-1"], "");
        let (before, rest) = known.split_once("Authorization: ").unwrap();
        let stranger = format!("{before}{}", rest.split_once("\r\n").unwrap().1);
        for (name, text) in [("known", &known), ("stranger", &stranger)] {
            let answer = broker.send(text.as_bytes()).unwrap();
            assert_eq!(answer.status == 401, name == "stranger", "{method} {path}: {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
            assert_eq!(answer.header("x-broker-api-request-identity"), Some("id-1"), "{method} {path}");
            assert!(answer.json().is_object(), "{method} {path}");
            assert!(answer.status < 500, "{method} {path}: {answer:?}");
        }
    }
}

#[test]
fn members_and_headers_that_are_not_known_change_nothing() {
    let broker = Broker::start();
    let mut body = provision();
    body["newer"] = json!({"than": ["this", 1, null]});
    body["context"] = json!({"platform": "some-new-platform", "a": {"b": [1.5, -1, true]}});
    body["maintenance_info"] = json!({"version": "1.0.0", "newer": {"than": "this"}});
    let path = "/v2/service_instances/i?accepts_incomplete=true&newer=1&newer=2";
    let headers = ["X-Newer: 1", "X-Api-Info-Location: api.example.com/v2/info", "X-B3-TraceId: 1"];

    let first = broker.send(request("PUT", path, &headers, &body.to_string()).as_bytes()).unwrap();

    assert_eq!(first.status, 202, "{first:?}");
    let operation = first.json()["operation"].as_str().unwrap().to_owned();
    assert!(
        (1..=80).contains(&operation.len())
            && operation.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    );
    assert_eq!(put(&broker, "i", &provision()).json(), first.json());
}

#[test]
fn a_version_of_a_plan_that_is_not_the_catalogs_is_a_conflict() {
    let broker = Broker::start();
    let mut body = provision();
    body["maintenance_info"] = json!({"version": "0.9.0"});
    let answer = put(&broker, "i", &body);
    assert_eq!((answer.status, &answer.json()["error"]), (422, &json!("MaintenanceInfoConflict")));
    assert_eq!(broker.call("GET", "/v2/service_instances/i/last_operation", "").status, 404);
}

#[test]
fn a_method_that_a_resource_does_not_know_is_told_which_it_knows() {
    let broker = Broker::start();
    let answer = broker.call("POST", "/v2/catalog", "{}");
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").is_some_and(|methods| methods.contains("GET")), "{answer:?}");
}
