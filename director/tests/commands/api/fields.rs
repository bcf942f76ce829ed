//! What stands in an answer: the fields of its objects.

use serde_json::Value;

/// The fields of a row of `bosh instances --details`, at least.
pub(crate) const FULL: [&str; 19] = [
    "vm_cid",
    "active",
    "vm_created_at",
    "disk_cid",
    "disk_cids",
    "ips",
    "agent_id",
    "job_name",
    "index",
    "job_state",
    "state",
    "vm_type",
    "vitals",
    "processes",
    "az",
    "id",
    "bootstrap",
    "ignore",
    "stemcell",
];

/// The names of an object's fields, sorted.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// All of these, and perhaps others.
pub(crate) fn has_keys(object: &Value, wanted: &[&str]) {
    let keys = keys(object);
    let missing: Vec<&&str> = wanted.iter().filter(|key| !keys.contains(key)).collect();
    assert!(missing.is_empty(), "no {missing:?} in {object}");
}

/// One field of every row.
pub(crate) fn column<'a>(rows: &'a Value, field: &str) -> Vec<&'a str> {
    rows.as_array().expect("a list").iter().map(|row| row[field].as_str().unwrap_or_default()).collect()
}
