//! The tables of the verdicts.

mod quota;
mod update;

use Condition::*;
use serde_json::json;

use super::*;

const SERVICE: &str = "7b7d8c3e-6f0e-4f6b-9a0d-3c0f5d4f1a10";
const SINGLE: &str = "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21";
const PAIR: &str = "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32";
const OFFER: Offer<'static> = Offer { service_id: SERVICE, plan_id: SINGLE };

fn catalog() -> Catalog {
    Catalog::parse(include_str!("../../../manifests/catalog.yml")).unwrap()
}

fn request(changes: serde_json::Value) -> ProvisionRequest {
    let mut body = json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn bind_request(changes: serde_json::Value) -> BindRequest {
    let mut body = json!({"service_id": SERVICE, "plan_id": SINGLE});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn operation() -> OperationId {
    OperationId::new(uuid::Uuid::nil())
}

pub(super) fn known(condition: Condition) -> Known {
    let attributes = Attributes::of(&request(json!({})));
    let maintenance_version = Some("1.0.0".into());
    Known { attributes, maintenance_version, operation: operation(), halts: None, target: None, condition }
}

pub(super) fn binding(progress: BindingProgress) -> KnownBinding {
    let attributes = BindingAttributes::of(&bind_request(json!({"app_guid": "a"})));
    KnownBinding { attributes, progress, is_claimed: false }
}

/// The kind of a verdict, for tables.
fn word<N, S>(admission: &Admission<N, S>) -> &'static str {
    match admission {
        Admission::New(_) => "new",
        Admission::Same(_) => "same",
        Admission::Denied(denial) => match denial {
            Denial::Invalid(_) => "invalid",
            Denial::AsyncRequired => "async",
            Denial::Concurrency => "busy",
            Denial::MaintenanceInfoConflict => "maintenance",
            Denial::Unsupported(_) => "unsupported",
            Denial::NotFound(_) => "not found",
            Denial::Conflict(_) => "conflict",
            Denial::Gone => "gone",
        },
    }
}

#[test]
fn a_provision_is_new_the_same_or_denied() {
    for (changes, condition, expected) in [
        (json!({}), None, "new"),
        (json!({}), Some(Deleted), "new"),
        (json!({}), Some(Creating), "same"),
        (json!({"parameters": {}, "context": {"platform": "x"}}), Some(Ready), "same"),
        (json!({}), Some(Updating), "busy"),
        (json!({}), Some(UpdateFailed), "same"),
        (json!({"space_guid": "t"}), Some(UpdateFailed), "conflict"),
        (json!({}), Some(Deleting), "busy"),
        (json!({}), Some(CreateFailed), "conflict"),
        (json!({}), Some(DeleteFailed), "conflict"),
        (json!({"plan_id": PAIR}), Some(Creating), "conflict"),
        (json!({"space_guid": "t"}), Some(Ready), "conflict"),
        (json!({"parameters": {"a": 1}}), Some(Ready), "conflict"),
        (json!({"parameters": {"a": 1}}), None, "invalid"),
        (json!({"parameters": {"replication_mode": "async"}}), None, "invalid"),
        (json!({"plan_id": PAIR, "parameters": {"replication_mode": "semi-sync"}}), None, "new"),
        (json!({"plan_id": PAIR, "parameters": {"semi_sync_ack_timeout_in_ms": 1000}}), Some(Deleted), "new"),
        (json!({"plan_id": PAIR, "parameters": {"semi_sync_ack_timeout_in_ms": 0}}), None, "invalid"),
        (json!({"plan_id": "nope"}), None, "invalid"),
        (json!({"service_id": "nope"}), None, "invalid"),
        (json!({"organization_guid": ""}), None, "invalid"),
        (json!({"maintenance_info": {"version": "0.9.0"}}), None, "maintenance"),
        (json!({"maintenance_info": {"version": "1.0.0", "description": "any"}}), None, "new"),
        (json!({"maintenance_info": {"version": null}}), None, "new"),
        (json!({"maintenance_info": {"other": 1}}), None, "new"),
    ] {
        let verdict =
            provision(&catalog(), &Usage::default(), &request(changes.clone()), true, condition.map(known).as_ref());
        assert_eq!(word(&verdict), expected, "{changes} {condition:?}");
    }
}

#[test]
fn a_repeated_provision_is_the_same_also_when_its_plan_has_left_the_catalog() {
    let gone = json!({"plan_id": "yesterday"});
    for (changes, condition, expected) in [
        (json!({"plan_id": "yesterday"}), Some(Creating), "same"),
        (json!({"plan_id": "yesterday"}), Some(Ready), "same"),
        (json!({"plan_id": "yesterday", "space_guid": "t"}), Some(Ready), "invalid"),
        (json!({"plan_id": "yesterday"}), Some(Deleting), "busy"),
        (json!({"plan_id": "yesterday"}), Some(Deleted), "invalid"),
        (json!({"plan_id": "yesterday"}), None, "invalid"),
    ] {
        let before = |condition| Known { attributes: Attributes::of(&request(gone.clone())), ..known(condition) };
        let known = condition.map(before);
        let verdict = provision(&catalog(), &Usage::default(), &request(changes.clone()), true, known.as_ref());
        assert_eq!(word(&verdict), expected, "{changes} {condition:?}");
    }
}

#[test]
fn a_repeated_provision_names_the_same_operation_until_it_is_done() {
    let again =
        |condition| provision(&catalog(), &Usage::default(), &request(json!({})), true, Some(&known(condition)));
    assert_eq!(again(Creating), Admission::Same(Standing::InProgress(operation())));
    assert_eq!(again(Ready), Admission::Same(Standing::Done));
}

#[test]
fn the_catalog_is_checked_before_the_asynchronous_answer_and_that_before_existence() {
    let at_once = |changes, known| word(&provision(&catalog(), &Usage::default(), &request(changes), false, known));
    assert_eq!(at_once(json!({"plan_id": "nope"}), None), "invalid");
    assert_eq!(at_once(json!({}), Some(&known(Ready))), "async");
    assert_eq!(word(&deprovision(OFFER, false, None)), "async");
}

#[test]
fn every_bad_parameter_is_named() {
    let one = provision(&catalog(), &Usage::default(), &request(json!({"parameters": {"x": 1}})), true, None);
    let text = "1 error occurred:\n    * the configuration parameter 'x' is not a valid option";
    assert_eq!(one, Admission::Denied(Denial::Invalid(text.into())));
    let two = provision(&catalog(), &Usage::default(), &request(json!({"parameters": {"x": 1, "y": 2}})), true, None);
    let text = "2 errors occurred:\n    * the configuration parameter 'x' is not a valid option\
        \n    * the configuration parameter 'y' is not a valid option";
    assert_eq!(two, Admission::Denied(Denial::Invalid(text.into())));
}

#[test]
fn a_deprovision_is_new_the_same_or_denied() {
    let other_plan = Offer { plan_id: PAIR, ..OFFER };
    for (offer, condition, expected) in [
        (OFFER, None, "gone"),
        (OFFER, Some(Deleted), "gone"),
        (other_plan, Some(Deleted), "gone"),
        (OFFER, Some(Ready), "new"),
        (OFFER, Some(CreateFailed), "new"),
        (OFFER, Some(DeleteFailed), "new"),
        (OFFER, Some(Creating), "new"),
        (OFFER, Some(Deleting), "same"),
        (OFFER, Some(Updating), "busy"),
        (OFFER, Some(UpdateFailed), "new"),
        (other_plan, Some(Ready), "invalid"),
    ] {
        assert_eq!(word(&deprovision(offer, true, condition.map(known).as_ref())), expected, "{condition:?}");
    }
    assert_eq!(deprovision(OFFER, true, Some(&known(Creating))), Admission::New(Some(operation())));
    assert_eq!(deprovision(OFFER, true, Some(&known(CreateFailed))), Admission::New(Some(operation())));
    assert_eq!(deprovision(OFFER, true, Some(&known(UpdateFailed))), Admission::New(Some(operation())));
    assert_eq!(deprovision(OFFER, true, Some(&known(Ready))), Admission::New(None));
    let halting = Known { halts: Some(operation()), ..known(DeleteFailed) };
    assert_eq!(deprovision(OFFER, true, Some(&halting)), Admission::New(Some(operation())));
}

#[test]
fn a_bind_is_new_the_same_or_denied() {
    let app = |guid: &str| json!({"app_guid": guid});
    let claimed = KnownBinding { is_claimed: true, ..binding(BindingProgress::Creating) };
    for (changes, condition, binding, expected) in [
        (app("a"), Some(Ready), None, "new"),
        (app("a"), Some(Ready), Some(binding(BindingProgress::Created)), "same"),
        (app("a"), Some(Ready), Some(binding(BindingProgress::Creating)), "same"),
        (app("a"), Some(Ready), Some(claimed), "busy"),
        (app("a"), Some(Ready), Some(binding(BindingProgress::Deleting)), "busy"),
        (app("b"), Some(Ready), Some(binding(BindingProgress::Created)), "conflict"),
        (json!({"app_guid": "a", "plan_id": PAIR}), Some(Ready), Some(binding(BindingProgress::Created)), "conflict"),
        (json!({"app_guid": "a", "plan_id": "nope"}), Some(Ready), Some(binding(BindingProgress::Created)), "invalid"),
        (app("a"), None, None, "not found"),
        (app("a"), Some(Deleted), None, "not found"),
        (app("a"), Some(Creating), None, "busy"),
        (app("a"), Some(Updating), None, "busy"),
        (app("a"), Some(UpdateFailed), None, "new"),
        (app("a"), Some(Deleting), None, "busy"),
        (app("a"), Some(CreateFailed), None, "invalid"),
        (json!({"plan_id": PAIR}), Some(Ready), None, "invalid"),
        (json!({"plan_id": "nope"}), None, None, "invalid"),
        (json!({"parameters": {"x": 1}}), Some(Ready), None, "invalid"),
    ] {
        let (instance, request) = (condition.map(known), bind_request(changes.clone()));
        let verdict = bind(&catalog(), &request, instance.as_ref(), binding.as_ref(), None);
        assert_eq!(word(&verdict), expected, "{changes} {condition:?} {binding:?}");
    }
}

#[test]
fn an_unbind_is_new_or_denied() {
    let other_plan = Offer { plan_id: PAIR, ..OFFER };
    let created = Some(binding(BindingProgress::Created));
    let claimed = Some(KnownBinding { is_claimed: true, ..binding(BindingProgress::Created) });
    for (offer, condition, binding, expected) in [
        (OFFER, Some(Ready), created.clone(), "new"),
        (OFFER, Some(Ready), Some(binding(BindingProgress::Creating)), "new"),
        (OFFER, Some(Ready), Some(binding(BindingProgress::Deleting)), "new"),
        (OFFER, Some(DeleteFailed), created.clone(), "new"),
        (OFFER, Some(Ready), claimed, "busy"),
        (OFFER, Some(Deleting), created.clone(), "busy"),
        (OFFER, Some(Updating), created.clone(), "busy"),
        (OFFER, Some(UpdateFailed), created.clone(), "new"),
        (OFFER, Some(Ready), None, "gone"),
        (OFFER, None, None, "gone"),
        (OFFER, Some(Deleted), created.clone(), "gone"),
        (other_plan, Some(Ready), created, "invalid"),
    ] {
        let verdict = unbind(offer, condition.map(known).as_ref(), binding.as_ref());
        assert_eq!(word(&verdict), expected, "{condition:?} {binding:?}");
    }
}
