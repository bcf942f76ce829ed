//! The table of updates.

use broker::osb::UpdateRequest;

use super::*;

const LARGER: &str = "larger";

/// Ours and larger, smaller and other plans.
fn plans() -> Catalog {
    let mut text = include_str!("../../../../manifests/catalog.yml").to_owned();
    let single = "topology: single-node, azs: [z1, z2], vm_type: small";
    for (id, deployment) in [
        (LARGER, format!("{single}, disk_type: 10GB, disk_size_in_mb: 10240")),
        ("smaller", format!("{single}, disk_type: 1GB, disk_size_in_mb: 1024")),
        ("unknown-size", format!("{single}, disk_type: huge")),
        ("elsewhere", "topology: single-node, azs: [z2, z3], vm_type: small, disk_type: 5GB".into()),
        ("family", format!("{single}, disk_type: 5GB, server: mysql")),
    ] {
        text.push_str(&format!(
            "  - id: {id}\n    name: {id}\n    description: x\n    free: true\n    deployment: {{{deployment}}}\n"
        ));
    }
    Catalog::parse(&text).unwrap()
}

fn asked(changes: serde_json::Value) -> UpdateRequest {
    let mut body = json!({"service_id": SERVICE});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

/// Instances as they are in a moment: recorded, and wanted by the newest operation.
fn pair(condition: Condition, parameters: serde_json::Value) -> Known {
    let mut known = known(condition);
    known.attributes.plan_id = PAIR.into();
    known.attributes.parameters = parameters.as_object().unwrap().clone();
    known
}

fn older(version: &str) -> Known {
    Known { maintenance_version: Some(version.into()), ..known(Ready) }
}

fn wanting(condition: Condition, plan_id: &str) -> Known {
    let target =
        Target { plan_id: plan_id.into(), parameters: Object::new(), maintenance_version: None, keeps_leader: false };
    Known { target: Some(target), ..known(condition) }
}

fn verdict(changes: serde_json::Value, known: Option<&Known>) -> Admission<Change, Standing> {
    update(&plans(), &Usage::default(), &asked(changes), true, known)
}

fn target(admission: Admission<Change, Standing>) -> Target {
    match admission {
        Admission::New(change) => change.target,
        other => panic!("{other:?} is not new"),
    }
}

#[test]
fn an_update_is_new_the_same_or_denied() {
    let ready = || Some(known(Ready));
    let mode = |mode: &str| json!({"parameters": {"replication_mode": mode}});
    for (changes, known, expected) in [
        (json!({}), ready(), "same"),
        (json!({"context": {"instance_name": "new"}}), ready(), "same"),
        // What Cloud Controller sends with everything else.
        (json!({"plan_id": SINGLE, "parameters": {}, "maintenance_info": null}), ready(), "same"),
        (json!({"plan_id": SINGLE, "previous_values": {"plan_id": PAIR, "maintenance_info": null}}), ready(), "same"),
        (json!({"plan_id": PAIR}), ready(), "new"),
        (json!({"plan_id": LARGER}), ready(), "new"),
        (json!({"plan_id": SINGLE}), Some(pair(Ready, json!({}))), "new"),
        (json!({"parameters": {"workload": "read-heavy", "enable_lower_case_table_names": false}}), ready(), "new"),
        (json!({"parameters": {"enable_lower_case_table_names": true}}), ready(), "invalid"),
        (json!({"plan_id": "smaller"}), ready(), "unsupported"),
        (json!({"plan_id": "unknown-size"}), ready(), "unsupported"),
        (json!({"plan_id": "elsewhere"}), ready(), "unsupported"),
        (json!({"plan_id": "family"}), ready(), "unsupported"),
        (json!({"plan_id": "nope"}), ready(), "invalid"),
        (json!({"plan_id": ""}), ready(), "invalid"),
        (json!({"service_id": "nope"}), ready(), "invalid"),
        (json!({"service_id": "nope"}), None, "invalid"),
        (json!({}), None, "not found"),
        (json!({"plan_id": PAIR}), Some(super::known(Deleted)), "not found"),
        (json!({}), Some(super::known(Creating)), "busy"),
        (json!({}), Some(super::known(Deleting)), "busy"),
        (json!({}), Some(super::known(CreateFailed)), "unsupported"),
        (json!({}), Some(super::known(DeleteFailed)), "unsupported"),
        (json!({"maintenance_info": {"version": "1.0.0"}}), ready(), "same"),
        (json!({"maintenance_info": {"version": "1.0.0"}}), Some(older("0.9.0")), "new"),
        (json!({"plan_id": SINGLE, "parameters": {}}), Some(older("0.9.0")), "same"),
        (json!({"maintenance_info": {"version": "9.9.9"}}), ready(), "maintenance"),
        (json!({"maintenance_info": {"version": "9.9.9"}, "plan_id": PAIR}), ready(), "maintenance"),
        (mode("semi-sync"), Some(pair(Ready, json!({}))), "new"),
        (mode("semi-sync"), Some(pair(Ready, json!({"replication_mode": "semi-sync"}))), "same"),
        (mode("sync"), Some(pair(Ready, json!({}))), "invalid"),
        (mode("async"), ready(), "invalid"),
        (json!({"parameters": {"x": 1}}), ready(), "invalid"),
        (json!({"parameters": {"x": null}}), ready(), "invalid"),
        (json!({"plan_id": PAIR}), Some(wanting(Updating, PAIR)), "same"),
        (json!({"plan_id": LARGER}), Some(wanting(Updating, PAIR)), "busy"),
        (json!({"context": {}}), Some(wanting(Updating, PAIR)), "busy"),
    ] {
        assert_eq!(word(&verdict(changes.clone(), known.as_ref())), expected, "{changes} {known:?}");
    }
}

#[test]
fn what_is_named_needs_an_asynchronous_answer_before_the_instance_is_looked_for() {
    let ready = known(Ready);
    let at_once = |changes, known| word(&update(&plans(), &Usage::default(), &asked(changes), false, known));
    assert_eq!(at_once(json!({"plan_id": PAIR}), Some(&ready)), "async");
    assert_eq!(at_once(json!({"plan_id": PAIR}), None), "async");
    assert_eq!(at_once(json!({"plan_id": "nope"}), None), "invalid");
    assert_eq!(at_once(json!({"context": {}}), Some(&ready)), "same");
    assert_eq!(at_once(json!({"context": {}}), None), "not found");
}

#[test]
fn parameters_are_merged_over_the_present_ones_and_null_gives_one_back_to_the_plan() {
    let present = pair(Ready, json!({"replication_mode": "semi-sync", "semi_sync_ack_timeout_in_ms": 500}));
    for (given, expected) in [
        (
            json!({"replication_mode": "async"}),
            json!({"replication_mode": "async", "semi_sync_ack_timeout_in_ms": 500}),
        ),
        (json!({"replication_mode": null}), json!({"semi_sync_ack_timeout_in_ms": 500})),
    ] {
        let target = target(verdict(json!({"parameters": given}), Some(&present)));
        assert_eq!(json!(target.parameters), expected);
        assert_eq!(target.plan_id, PAIR);
    }
    let unset = pair(Ready, json!({}));
    assert_eq!(word(&verdict(json!({"parameters": {"replication_mode": null}}), Some(&unset))), "same");
}

#[test]
fn a_failed_update_is_repaired_from_what_it_may_have_left() {
    let failed = |plan_id| wanting(UpdateFailed, plan_id);
    for (changes, known, expected) in [
        (json!({"plan_id": PAIR}), failed(PAIR), "new"),
        (json!({"plan_id": SINGLE, "parameters": {}}), failed(SINGLE), "new"),
        (json!({"plan_id": LARGER}), failed(LARGER), "new"),
        // The disk may be larger already.
        (json!({"plan_id": SINGLE}), failed(LARGER), "unsupported"),
        (json!({"context": {"instance_name": "new"}}), failed(PAIR), "same"),
    ] {
        let verdict = verdict(changes.clone(), Some(&known));
        assert_eq!(word(&verdict), expected, "{changes} {known:?}");
        if let Admission::New(change) = verdict {
            assert_eq!(change.halts, Some(operation()));
        }
    }
}

#[test]
fn a_plan_that_left_the_catalog_can_be_kept_and_renamed_but_not_changed() {
    let mut gone = known(Ready);
    gone.attributes.plan_id = "yesterday".into();
    for (changes, expected) in [
        (json!({"plan_id": "yesterday", "parameters": {}}), "same"),
        (json!({"context": {}}), "same"),
        (json!({"plan_id": PAIR}), "unsupported"),
        (json!({"parameters": {"replication_mode": "async"}}), "unsupported"),
    ] {
        assert_eq!(word(&verdict(changes.clone(), Some(&gone))), expected, "{changes}");
    }
}
