//! Every member of every body and every word of every query, one at a time: required, of one type, or ignored.

use serde_json::{Value, json};

use super::program::{Answer, Broker, SERVICE, SINGLE};

const INSTANCE: &str = "/v2/service_instances/i";
const BINDING: &str = "/v2/service_instances/i/service_bindings/b";

/// A request with a body that is good but for the state of things.
struct Form {
    method: &'static str,
    path: &'static str,
    body: Value,
    /// What the answer is then: the instance was never made.
    status: u16,
    required: &'static [&'static str],
    texts: &'static [&'static str],
    objects: &'static [&'static str],
}

fn update() -> Form {
    Form {
        method: "PATCH",
        path: "/v2/service_instances/i?accepts_incomplete=true",
        body: json!({"service_id": SERVICE, "plan_id": SINGLE, "parameters": {}}),
        status: 404,
        required: &["service_id"],
        texts: &["service_id", "plan_id"],
        objects: &["context", "parameters", "maintenance_info", "previous_values"],
    }
}

fn bind() -> Form {
    Form {
        method: "PUT",
        path: BINDING,
        body: json!({"service_id": SERVICE, "plan_id": SINGLE}),
        status: 404,
        required: &["service_id", "plan_id"],
        texts: &["service_id", "plan_id", "app_guid", "predecessor_binding_id"],
        objects: &["context", "parameters", "bind_resource"],
    }
}

fn provision() -> Form {
    Form {
        method: "PUT",
        path: "/v2/service_instances/i?accepts_incomplete=true",
        body: json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"}),
        status: 202,
        required: &["service_id", "plan_id", "organization_guid", "space_guid"],
        texts: &["service_id", "plan_id", "organization_guid", "space_guid"],
        objects: &["context", "parameters", "maintenance_info"],
    }
}

impl Form {
    fn send(&self, broker: &Broker, name: &str, value: Option<&Value>) -> Answer {
        let mut body = self.body.clone();
        match value {
            Some(value) => body[name] = value.clone(),
            None => drop(body.as_object_mut().unwrap().remove(name)),
        }
        broker.call(self.method, self.path, &body.to_string())
    }
}

/// A 400 that names what is wrong.
fn check(what: &str, name: &str, answer: &Answer) {
    let body = answer.json();
    let description = body["description"].as_str().unwrap_or_default();
    assert!(answer.status == 400 && description.contains(name), "{what}: {answer:?}");
    assert_eq!(body.as_object().unwrap().len(), 1, "{what}: {answer:?}");
}

#[test]
fn a_member_that_is_required_is_asked_for_by_name_and_is_not_empty() {
    let broker = Broker::start();
    for form in [update(), bind(), provision()] {
        for name in form.required {
            for value in [None, Some(json!(null)), Some(json!(""))] {
                check(&format!("{} {name} {value:?}", form.method), name, &form.send(&broker, name, value.as_ref()));
            }
        }
    }
    assert_eq!(broker.call("GET", &format!("{INSTANCE}/last_operation"), "").status, 404, "nothing was recorded");
}

#[test]
fn a_member_of_another_type_is_refused_by_name() {
    let broker = Broker::start();
    let others = [json!(true), json!(0), json!(1.5), json!([]), json!([{}])];
    for form in [update(), bind(), provision()] {
        for (names, last) in [(form.texts, json!({})), (form.objects, json!("{}"))] {
            for (name, value) in names.iter().flat_map(|name| others.iter().chain([&last]).map(move |it| (name, it))) {
                check(&format!("{} {name} {value}", form.method), name, &form.send(&broker, name, Some(value)));
            }
        }
    }
    for (form, outer, inner) in [
        (update(), "maintenance_info", "version"),
        (provision(), "maintenance_info", "version"),
        (bind(), "bind_resource", "app_guid"),
        (bind(), "bind_resource", "route"),
        (bind(), "bind_resource", "credential_client_id"),
    ] {
        for value in &others {
            let answer = form.send(&broker, outer, Some(&json!({inner: value})));
            check(&format!("{} {inner} {value}", form.method), &format!("{outer}.{inner}"), &answer);
        }
    }
    assert_eq!(broker.call("GET", &format!("{INSTANCE}/last_operation"), "").status, 404, "nothing was recorded");
}

#[test]
fn a_member_that_is_optional_may_be_null_and_one_that_is_not_known_anything() {
    let broker = Broker::start();
    for form in [update(), bind(), provision()] {
        let optional = form.texts.iter().chain(form.objects).filter(|name| !form.required.contains(name));
        for name in optional {
            let answer = form.send(&broker, name, Some(&json!(null)));
            assert_eq!(answer.status, form.status, "{} {name}: {answer:?}", form.method);
        }
        for value in [json!(null), json!({"a": [null]}), json!("x"), json!(1e300)] {
            let answer = form.send(&broker, "newer", Some(&value));
            assert_eq!(answer.status, form.status, "{} {value}: {answer:?}", form.method);
        }
    }
}

#[test]
fn the_words_of_a_query_are_required_unique_and_of_one_type() {
    let broker = Broker::start();
    let offer = format!("service_id={SERVICE}&plan_id={SINGLE}");
    for path in [INSTANCE, BINDING] {
        for (query, name) in [
            (String::new(), "service_id"),
            (format!("plan_id={SINGLE}"), "service_id"),
            (format!("service_id={SERVICE}"), "plan_id"),
            (format!("service_id=&plan_id={SINGLE}"), "service_id"),
            (format!("service_id={SERVICE}&plan_id"), "plan_id"),
            (format!("{offer}&plan_id={SINGLE}"), "plan_id"),
        ] {
            let answer = broker.call("DELETE", &format!("{path}?accepts_incomplete=true&{query}"), "");
            check(&format!("DELETE {path} {query}"), name, &answer);
        }
    }
    for value in ["", "=", "=TRUE", "=1", "=yes", "=true&accepts_incomplete=true", "=true%20"] {
        for form in [update(), bind(), provision()] {
            let path = form.path.split('?').next().unwrap_or_default();
            let path = format!("{path}?{offer}&accepts_incomplete{value}");
            check(&path, "accepts_incomplete", &broker.call(form.method, &path, &form.body.to_string()));
            check(&path, "accepts_incomplete", &broker.call("DELETE", &path, ""));
        }
    }
    let path = format!("{INSTANCE}?newer=1&newer=2&newer&=&&%zz&{offer}&accepts_incomplete=true");
    assert_eq!(broker.call("DELETE", &path, "").status, 410, "what is not known is ignored");
}
