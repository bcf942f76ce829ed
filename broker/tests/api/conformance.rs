//! What a checker of the specification asks besides: other methods, other spellings, other offerings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::program::{Broker, SERVICE, SINGLE, request};

fn provision(changes: &[(&str, Value)]) -> String {
    let mut body = json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"});
    for (name, value) in changes {
        body[*name] = value.clone();
    }
    body.to_string()
}

#[test]
fn every_resource_knows_its_methods_and_head_is_get_without_a_body() {
    let broker = Broker::start();
    let (instance, binding) = ("/v2/service_instances/i", "/v2/service_instances/i/service_bindings/b");
    for (path, methods) in [
        ("/v2/catalog", vec!["GET"]),
        (instance, vec!["PUT", "PATCH", "GET", "DELETE"]),
        (binding, vec!["PUT", "GET", "DELETE"]),
        (&format!("{instance}/last_operation"), vec!["GET"]),
        (&format!("{binding}/last_operation"), vec!["GET"]),
    ] {
        let (get, head) = (broker.call("GET", path, ""), broker.call("HEAD", path, ""));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
        for method in ["OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "put"] {
            if methods.contains(&method) {
                continue;
            }
            let answer = broker.call(method, path, "");
            assert_eq!((answer.status, answer.header("content-type")), (405, Some("application/json")), "{path}");
            let allowed = answer.header("allow").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
            assert!(methods.iter().all(|known| allowed.split(',').any(|method| method == *known)), "{allowed}");
            assert!(answer.json()["description"].is_string(), "{answer:?}");
        }
    }
    for (method, target) in [("OPTIONS", "*"), ("CONNECT", "example.com:443")] {
        assert_eq!(broker.call(method, target, "").status, 404, "{method} {target}");
    }
    assert_eq!(broker.call("GET", "http://broker.example.com/v2/catalog", "").status, 200);
}

#[test]
fn an_id_is_what_it_is_after_decoding() {
    let broker = Broker::start();
    let put =
        |id: &str| broker.call("PUT", &format!("/v2/service_instances/{id}?accepts_incomplete=true"), &provision(&[]));
    let first = put("a-1");
    for same in ["%61-1", "a%2D1", "%61%2d%31"] {
        let again = put(same);
        assert_eq!((again.status, again.json()), (202, first.json()), "{same}");
    }
    for bad in ["a%2F1", "%E2%98%83", "\u{2603}", ".", "..", "%2e%2e", "a%3F1", "a%231"] {
        let answer = put(bad);
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        assert!(answer.body.contains("id of the service instance must be"), "{bad}: {answer:?}");
    }
    assert_eq!(put("a/1").status, 404);
}

#[test]
fn a_plan_of_another_offering_is_none_of_this_one() {
    let broker = Broker::start_with(|properties| {
        let path = std::path::Path::new(properties["documents"].as_str().unwrap()).join("catalog.yml");
        let text = std::fs::read_to_string(&path).unwrap();
        let other = "  - {id: plan-2, name: other, description: x, free: true, deployment: {topology: single-node, \
                     azs: [z1], vm_type: small, disk_type: 5GB}}";
        let more =
            "- id: service-2\n  name: other\n  description: x\n  bindable: true\n  plan_updateable: false\n  plans:";
        std::fs::write(&path, format!("{}\n{more}\n{other}\n", text.trim_end())).unwrap();
    });
    let put = |id: &str, changes: &[(&str, Value)]| {
        broker.call("PUT", &format!("/v2/service_instances/{id}?accepts_incomplete=true"), &provision(changes))
    };
    for changes in [
        &[("service_id", json!("service-2"))][..],
        &[("plan_id", json!("plan-2"))],
        &[("plan_id", json!("plan-3"))],
        &[("service_id", json!("service-3"))],
        &[("service_id", json!("p.mysql"))],
        &[("service_id", json!("service-3")), ("plan_id", json!("plan-2"))],
    ] {
        let answer = put("i", changes);
        assert_eq!(answer.status, 400, "{changes:?}: {answer:?}");
        assert!(answer.json()["description"].as_str().unwrap().contains("in the catalog"), "{answer:?}");
    }
    assert_eq!(broker.call("GET", "/v2/service_instances/i/last_operation", "").status, 404);
    assert_eq!(put("j", &[("service_id", json!("service-2")), ("plan_id", json!("plan-2"))]).status, 202);
}

#[test]
fn whoever_asks_is_served_also_where_it_cannot_be_read_who_that_is() {
    let broker = Broker::start();
    let group = STANDARD.encode(r#"{"username": "u", "uid": "1", "groups": ["g"], "extra": {"a": ["b"]}}"#);
    for header in [
        "X-Broker-API-Originating-Identity: ".to_owned(),
        "X-Broker-API-Originating-Identity: cloudfoundry".into(),
        "X-Broker-API-Originating-Identity: cloudfoundry ????".into(),
        "X-Broker-API-Originating-Identity: cloudfoundry W10=".into(),
        format!("X-Broker-API-Originating-Identity: kubernetes {group}"),
        "X-Broker-API-Request-Identity: ".into(),
        "Accept: text/html".into(),
        "Content-Type: text/plain".into(),
    ] {
        let answer = broker.send(request("GET", "/v2/catalog", &[&header], "").as_bytes()).unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{header}");
        assert_eq!(answer.header("x-broker-api-request-identity"), None, "{header}");
    }
}
