//! The manifest that is deployed, and what is changed in it for the scenario.

use std::time::Duration;

use serde_yaml::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manifest(Value);

impl Manifest {
    pub(super) fn named(text: &str, name: &str) -> Self {
        let mut manifest = Self(serde_yaml::from_str(text).expect("a manifest in YAML"));
        manifest.0["name"] = name.into();
        manifest
    }

    pub(super) fn read(text: &str) -> Self {
        Self(serde_yaml::from_str(text).expect("a manifest in YAML"))
    }

    pub(super) fn text(&self) -> String {
        serde_yaml::to_string(&self.0).unwrap()
    }

    /// The group of which one instance is moved about: the first one that runs always.
    pub(super) fn group(&self) -> &str {
        self.groups()[self.place()]["name"].as_str().expect("a name")
    }

    /// How many instances there are, those aside that only run for an errand.
    pub(super) fn instances(&self) -> u64 {
        self.groups().iter().filter(|group| is_service(group)).filter_map(|group| group["instances"].as_u64()).sum()
    }

    /// With something else in that group.
    pub(super) fn with(&self, key: &str, value: impl Into<Value>) -> Self {
        let (mut changed, place) = (self.clone(), self.place());
        changed.0["instance_groups"][place][key] = value.into();
        changed
    }

    pub(super) fn with_vm_type(&self, name: &str) -> Self {
        let (mut changed, place) = (self.with("vm_type", name), self.place());
        // A group has one or the other.
        changed.0["instance_groups"][place].as_mapping_mut().expect("a group").remove("vm_resources");
        changed
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.groups()[self.place()].get(key).is_some()
    }

    pub(super) fn with_release_version(&self, version: &str) -> Self {
        let mut changed = self.clone();
        changed.0["releases"][0]["version"] = version.into();
        changed
    }

    /// An instance of that group is not looked at before this time: as long, at least, the task that changes it runs.
    pub(super) fn watching(&self, from: Duration) -> Self {
        let (mut changed, place) = (self.clone(), self.place());
        let from_ms = from.as_millis();
        let group = &mut changed.0["instance_groups"][place];
        if group.get("update").is_none() {
            group["update"] = Value::Mapping(serde_yaml::Mapping::new());
        }
        for key in ["canary_watch_time", "update_watch_time"] {
            group["update"][key] = format!("{from_ms}-{}", from_ms + 600_000).into();
        }
        changed
    }

    fn place(&self) -> usize {
        self.groups().iter().position(is_service).expect("a group with instances")
    }

    fn groups(&self) -> &[Value] {
        self.0["instance_groups"].as_sequence().expect("instance groups")
    }
}

fn is_service(group: &Value) -> bool {
    let runs_once = group.get("lifecycle").and_then(Value::as_str) == Some("errand");
    !runs_once && group["instances"].as_u64() > Some(0)
}
