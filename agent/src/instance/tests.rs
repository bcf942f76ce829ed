//! What can be wrong with the configuration, and how it is said.

use super::*;

fn read(topology: &str, linked: &[(&str, u32)], extra: &str) -> Result<Instance> {
    let instances: Vec<_> = linked
        .iter()
        .map(|(id, index)| serde_json::json!({"name": "mysql", "id": id, "index": index, "az": "z1", "address": format!("127.1.0.{index}"), "bootstrap": false}))
        .collect();
    let text = format!(
        r#"{{"spec": {{"deployment": "d", "name": "mysql", "id": "a", "index": 0, "az": "z1", "ip": "127.1.0.0", "address": "127.1.0.0", "bootstrap": true}},
             "links": {{"mysql": {{"instances": {}}}}},
             "properties": {{"topology": "{topology}", "admin_password": "p"{extra}, "tls": {{"ca": "", "certificate": "", "private_key": ""}}}}}}"#,
        serde_json::to_string(&instances)?
    );
    Instance::new(serde_json::from_str(&text)?)
}

#[test]
fn a_pair_knows_its_peer() {
    let instance = read("leader-follower", &[("a", 0), ("b", 1)], r#", "replication_password": "secret-r""#).unwrap();

    assert_eq!(instance.peer_address().unwrap().to_string(), "127.1.0.1");
    assert_eq!(instance.name(), "mysql/a");
    assert!(!format!("{instance:?}").contains("secret-r"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let password = r#", "replication_password": "r""#;
    for (topology, linked, extra, expected) in [
        ("leader-follower", vec![("a", 0), ("b", 1)], "", "property replication_password is missing"),
        ("leader-follower", vec![("a", 0)], password, "Expected exactly two instances in current deployment"),
        ("leader-follower", vec![("b", 1), ("c", 2)], password, "Expected exactly two"),
        ("leader-follower", vec![("a", 0), ("b", 0)], password, "the same address or index"),
        ("galera", vec![], "", "unknown variant `galera`"),
        ("single-node", vec![], r#", "colour": 1"#, "unknown field `colour`"),
        ("single-node", vec![], r#", "parameters": {"workload": "idle"}"#, "unknown variant `idle`"),
        ("single-node", vec![], r#", "lease_ttl_in_ms": 999"#, "property lease_ttl_in_ms is 999; give it 1000 to"),
        ("single-node", vec![], r#", "semi_sync_ack_timeout_in_ms": 0"#, "property semi_sync_ack_timeout_in_ms is 0"),
        ("single-node", vec![], r#", "replication_mode": "sync""#, "unknown variant `sync`"),
        ("single-node", vec![], r#", "failover": "auto""#, "unknown variant `auto`"),
        ("single-node", vec![], r#", "failover": "automatic""#, "needs the property witness"),
        (
            "single-node",
            vec![],
            r#", "failover": "automatic", "witness": {"host": "w"}"#,
            "needs replication_mode semi-sync, or max_failover_loss_in_seconds",
        ),
        (
            "single-node",
            vec![],
            r#", "failover": "automatic", "witness": {"host": "w"}, "max_failover_loss_in_seconds": 11"#,
            "give it at least 12",
        ),
    ] {
        let error = format!("{:#}", read(topology, &linked, extra).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}
