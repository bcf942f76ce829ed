//! The catalog as a platform reads it: every rule of the specification, on the bytes that are served.

use std::collections::HashSet;

use serde_json::Value;

use super::program::Broker;

fn catalog() -> Value {
    let answer = Broker::start().call("GET", "/v2/catalog", "");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("`{name}` is not a list: {value}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    let text = value[name].as_str().unwrap_or_default();
    assert!(!text.is_empty(), "`{name}` is not a text: {value}");
    text
}

#[test]
fn every_offering_and_plan_has_what_a_platform_needs() {
    let catalog = catalog();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    assert!(!list(&catalog, "services").is_empty());
    for service in list(&catalog, "services") {
        let mut plan_names = HashSet::new();
        assert!(ids.insert(text(service, "id")) && names.insert(text(service, "name")), "{service}");
        // What the other tests show.
        for flag in
            ["bindable", "plan_updateable", "allow_context_updates", "instances_retrievable", "bindings_retrievable"]
        {
            assert_eq!(service[flag], true, "{flag}: {service}");
        }
        assert!(list(service, "tags").iter().all(Value::is_string));
        assert_eq!(service.get("requires"), None);
        assert_eq!(service.get("dashboard_client"), None);
        assert!(!list(service, "plans").is_empty());
        for plan in list(service, "plans") {
            assert!(ids.insert(text(plan, "id")) && plan_names.insert(text(plan, "name")), "{plan}");
            assert!(plan["free"].is_boolean() && plan["binding_rotatable"] == true);
            assert!(plan.get("plan_updateable").is_none_or(Value::is_boolean));
            assert!(plan["maximum_polling_duration"].as_u64().is_some_and(|seconds| seconds > 3600));
        }
        for entry in list(service, "plans").iter().chain([service]) {
            assert!(text(entry, "description").chars().count() <= 255);
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            assert!(text(entry, "name").chars().all(is_plain));
            assert_eq!(text(entry, "id").len(), 36, "a GUID");
        }
    }
    assert!(!catalog.to_string().contains(":null"), "members that are absent are left out");
}

#[test]
fn what_operators_know_of_a_plan_is_not_served() {
    let served = catalog().to_string();
    for word in ["deployment", "topology", "vm_type", "disk_type", "azs"] {
        assert!(!served.contains(&format!("\"{word}\"")), "{word}");
    }
}

#[test]
fn maintenance_info_is_a_version_and_a_sentence() {
    for plan in list(&list(&catalog(), "services")[0], "plans") {
        let info = plan["maintenance_info"].as_object().unwrap();
        assert!(info.keys().all(|name| name == "version" || name == "description"), "{info:?}");
        assert_eq!(text(&plan["maintenance_info"], "version").split('.').count(), 3);
        assert!(plan["maintenance_info"].to_string().len() <= 2000);
    }
}

#[test]
fn schemas_are_closed_and_of_draft_4() {
    for plan in list(&list(&catalog(), "services")[0], "plans") {
        let schemas = &plan["schemas"];
        for at in ["/service_instance/create", "/service_instance/update", "/service_binding/create"] {
            let schema = &schemas.pointer(at).unwrap()["parameters"];
            assert_eq!(schema["$schema"], "http://json-schema.org/draft-04/schema#", "{at}");
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()), "{at}");
            assert!(schema["properties"].is_object() && !schema.to_string().contains("$ref"), "{at}");
            assert!(schema.to_string().len() <= 64 * 1024, "{at}");
        }
    }
}

#[test]
fn metadata_has_the_names_and_types_of_the_profile() {
    let catalog = catalog();
    let service = &list(&catalog, "services")[0];
    for name in ["displayName", "longDescription", "providerDisplayName"] {
        text(&service["metadata"], name);
    }
    assert!(service["metadata"]["shareable"].is_boolean());
    for plan in list(service, "plans") {
        let metadata = &plan["metadata"];
        text(metadata, "displayName");
        assert!(list(metadata, "bullets").iter().all(Value::is_string));
        for cost in list(metadata, "costs") {
            assert!(cost["amount"].as_object().unwrap().values().all(Value::is_number));
            text(cost, "unit");
        }
    }
}

#[test]
fn the_catalog_is_the_same_after_a_restart() {
    let serve = || {
        let answer = Broker::start().call("GET", "/v2/catalog", "");
        (answer.header("etag").expect("a tag").to_owned(), answer.body)
    };
    assert_eq!(serve(), serve());
}
