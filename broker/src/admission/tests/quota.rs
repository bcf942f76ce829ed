//! The table of quotas.

use super::*;

/// Two plans: a cheap one, of which there may be three, and a dear one.
fn limited(global: &str) -> Catalog {
    let text = include_str!("../../../../manifests/catalog.yml");
    let text = text.replacen(
        "    free: true",
        "    free: true\n    quotas: {service_instance_limit: 3, resources: {ip: {cost: 1}}}",
        1,
    );
    let at = text.rfind("    free: true").unwrap();
    let dear = "    quotas: {resources: {ip: {cost: 5, limit: 10}}}\n";
    Catalog::parse(&format!("global_quotas: {global}\n{}{dear}{}", &text[..at], &text[at..])).unwrap()
}

fn usage(single: u64, pairs: u64, moves: &[(&str, &str, u64)]) -> Usage {
    let to_move = |(from, to, instances): &(&str, &str, u64)| Move {
        from: (*from).into(),
        to: (*to).into(),
        instances: *instances,
    };
    let plans = [(SINGLE.to_owned(), single), (PAIR.to_owned(), pairs)].into_iter().collect();
    Usage { plans, moves: moves.iter().map(to_move).collect() }
}

fn refusal<N, S: std::fmt::Debug>(verdict: Admission<N, S>) -> Option<String> {
    match verdict {
        Admission::New(_) => None,
        Admission::Denied(Denial::Invalid(why)) => Some(why),
        Admission::Denied(other) => panic!("{other:?} is no matter of quotas"),
        Admission::Same(same) => panic!("{same:?} is not new"),
    }
}

#[test]
fn an_instance_needs_room_in_every_quota_and_is_told_of_all_that_have_none() {
    let none = "{}";
    for (global, usage, plan_id, expected) in [
        (none, usage(2, 9, &[]), SINGLE, None),
        (
            none,
            usage(3, 0, &[]),
            SINGLE,
            Some(format!("plan instance limit exceeded for service ID: {SERVICE}. Total instances: 3")),
        ),
        (none, usage(3, 1, &[]), PAIR, None),
        (
            none,
            usage(0, 2, &[]),
            PAIR,
            Some("plan quotas [ip: (limit 10, used 10, requires 5)] would be exceeded by this deployment".into()),
        ),
        ("{service_instance_limit: 3}", usage(1, 1, &[]), PAIR, None),
        (
            "{service_instance_limit: 3}",
            usage(2, 1, &[]),
            PAIR,
            Some(format!("global instance limit exceeded for service ID: {SERVICE}. Total instances: 3")),
        ),
        // Each plan counts with its own cost: the peer counts all with that of the plan that is asked for.
        ("{resources: {ip: {limit: 10}}}", usage(2, 1, &[]), SINGLE, None),
        (
            "{resources: {ip: {limit: 10}}}",
            usage(2, 1, &[]),
            PAIR,
            Some("global quotas [ip: (limit 10, used 7, requires 5)] would be exceeded by this deployment".into()),
        ),
        ("{resources: {other: {limit: 0}}}", usage(0, 0, &[]), PAIR, None),
        // Who moves needs both until it has arrived.
        (
            none,
            usage(1, 1, &[(PAIR, SINGLE, 2)]),
            SINGLE,
            Some(format!("plan instance limit exceeded for service ID: {SERVICE}. Total instances: 3")),
        ),
        ("{resources: {ip: {limit: 10}}}", usage(1, 0, &[(SINGLE, PAIR, 1)]), PAIR, None),
        (
            "{resources: {ip: {limit: 9}}}",
            usage(1, 0, &[(SINGLE, PAIR, 1)]),
            PAIR,
            Some("global quotas [ip: (limit 9, used 5, requires 5)] would be exceeded by this deployment".into()),
        ),
        (
            "{service_instance_limit: 1, resources: {ip: {limit: 1}}}",
            usage(3, 0, &[]),
            SINGLE,
            Some(format!(
                "global instance limit exceeded for service ID: {SERVICE}. Total instances: 3, plan instance limit exceeded for \
                 service ID: {SERVICE}. Total instances: 3, global quotas [ip: (limit 1, used 3, requires 1)] would be exceeded \
                 by this deployment"
            )),
        ),
    ] {
        let verdict = provision(&limited(global), &usage, &request(json!({"plan_id": plan_id})), true, None);
        assert_eq!(refusal(verdict), expected, "{global} {usage:?} {plan_id}");
    }
}

#[test]
fn a_change_of_plan_needs_room_for_what_it_needs_more() {
    let body = |plan_id: &str| serde_json::from_value(json!({"service_id": SERVICE, "plan_id": plan_id})).unwrap();
    for (global, usage, expected) in [
        // The total stays.
        ("{service_instance_limit: 1}", usage(0, 0, &[]), None),
        ("{resources: {ip: {limit: 5}}}", usage(0, 0, &[]), None),
        (
            "{resources: {ip: {limit: 5}}}",
            usage(1, 0, &[]),
            Some("global quotas [ip: (limit 5, used 1, requires 5)] would be exceeded by this deployment"),
        ),
        (
            "{}",
            usage(0, 2, &[]),
            Some("plan quotas [ip: (limit 10, used 10, requires 5)] would be exceeded by this deployment"),
        ),
    ] {
        let verdict = update(&limited(global), &usage, &body(PAIR), true, Some(&known(Ready)));
        assert_eq!(refusal(verdict).as_deref(), expected, "{global} {usage:?}");
    }
    let mut pair = known(Ready);
    pair.attributes.plan_id = PAIR.into();
    let cheaper =
        update(&limited("{resources: {ip: {limit: 0}}}"), &usage(0, 5, &[]), &body(SINGLE), true, Some(&pair));
    assert_eq!(refusal(cheaper), None, "who needs less is not held up");
}

#[test]
fn what_exists_needs_no_room() {
    let full = limited("{service_instance_limit: 0}");
    let again = provision(&full, &usage(9, 9, &[]), &request(json!({})), true, Some(&known(Ready)));
    assert_eq!(word(&again), "same");
    let failed = Known { target: None, ..known(UpdateFailed) };
    let body = serde_json::from_value(json!({"service_id": SERVICE, "plan_id": SINGLE})).unwrap();
    assert_eq!(word(&update(&full, &usage(9, 9, &[]), &body, true, Some(&failed))), "new");
}
