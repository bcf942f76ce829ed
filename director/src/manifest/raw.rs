//! PURE: the manifest as it stands in YAML, and one instance group of it checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::{Group, Job, Known, Provide, missing, update};
use crate::cloud_config::CloudConfig;
use crate::error::{Code, Error, Result};
use crate::release;

#[derive(Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) releases: Vec<Release>,
    #[serde(default)]
    pub(super) update: update::Raw,
    pub(super) instance_groups: Option<Vec<RawGroup>>,
}

#[derive(Deserialize)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) version: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct RawGroup {
    name: Option<String>,
    instances: Option<u32>,
    azs: Option<Vec<String>>,
    vm_type: Option<String>,
    persistent_disk_type: Option<String>,
    persistent_disk: Option<u64>,
    #[serde(default)]
    networks: Vec<Named>,
    jobs: Option<Vec<RawJob>>,
    #[serde(default)]
    update: update::Raw,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct RawJob {
    name: Option<String>,
    release: Option<String>,
    #[serde(default)]
    provides: BTreeMap<String, Value>,
    #[serde(default)]
    consumes: BTreeMap<String, Value>,
    #[serde(default)]
    properties: Value,
}

/// One instance group, with every name in it looked up.
pub(super) fn group(raw: RawGroup, outer: &update::Raw, known: Known<'_>) -> Result<Group> {
    let name = raw.name.ok_or_else(|| missing("name", "an instance group"))?;
    let place = format!("instance group '{name}'");
    let vm_type = raw.vm_type.ok_or_else(|| missing("vm_type", &place))?;
    let size = known.cloud.vm_type(&vm_type).map(|vm_type| vm_type.cloud_properties).ok_or_else(|| {
        let known = known.cloud.vm_types.iter().map(|vm_type| vm_type.name.as_str());
        unknown(Code::UnknownVmType, &name, "vm type", &vm_type, known)
    })?;
    let disk_mb = disk_size(&name, raw.persistent_disk_type.as_deref(), raw.persistent_disk, known.cloud)?;
    let azs = raw.azs.ok_or_else(|| missing("azs", &place))?;
    let network = network(&name, &azs, &raw.networks, known.cloud)?;
    let jobs = raw.jobs.ok_or_else(|| missing("jobs", &place))?;
    Ok(Group {
        instances: raw.instances.ok_or_else(|| missing("instances", &place))?,
        jobs: jobs.into_iter().map(|raw| job(raw, &name, known.release)).collect::<Result<_>>()?,
        update: raw.update.or(outer).checked()?,
        name,
        azs,
        vm_type,
        size,
        disk_mb,
        network,
    })
}

fn disk_size(group: &str, kind: Option<&str>, size: Option<u64>, cloud: &CloudConfig) -> Result<Option<u64>> {
    let Some(kind) = kind else { return Ok(size.filter(|size| *size > 0)) };
    let found = cloud.disk_type(kind).map(|disk_type| Some(disk_type.disk_size));
    found.ok_or_else(|| {
        let known = cloud.disk_types.iter().map(|disk_type| disk_type.name.as_str());
        unknown(Code::UnknownDiskType, group, "disk type", kind, known)
    })
}

/// The network of the group: it must have a subnet in every AZ of the group.
fn network(group: &str, azs: &[String], wanted: &[Named], cloud: &CloudConfig) -> Result<String> {
    let [Named { name }] = wanted else {
        let message = format!("Instance group '{group}' must specify exactly one network, not {}", wanted.len());
        return Err(Error::new(Code::ValidationInvalid, message));
    };
    let network = cloud.network(name).ok_or_else(|| {
        let known = cloud.networks.iter().map(|network| network.name.as_str());
        unknown(Code::UnknownNetwork, group, "network", name, known)
    })?;
    let served = |az: &String| network.subnets.iter().any(|subnet| subnet.serves(az));
    if !azs.is_empty() && azs.iter().all(served) {
        return Ok(name.clone());
    }
    let there: Vec<_> = cloud.azs.iter().filter(|az| served(&az.name)).map(|az| az.name.as_str()).collect();
    let message = format!(
        "Instance group '{group}' must specify availability zone that matches availability zones of network '{name}': \
         it specifies {}; the network has {}",
        list(azs.iter().map(String::as_str)),
        list(there.into_iter())
    );
    Err(Error::new(Code::NetworkMissingAz, message))
}

fn job(raw: RawJob, group: &str, release: &release::Release) -> Result<Job> {
    let name = raw.name.ok_or_else(|| missing("name", &format!("a job of instance group '{group}'")))?;
    if raw.release.as_ref().is_some_and(|wanted| *wanted != release.name) {
        let wanted = raw.release.unwrap_or_default();
        return Err(unknown(Code::UnknownRelease, group, "release", &wanted, std::iter::once(release.name.as_str())));
    }
    if release.job(&name).is_none() {
        let known = list(release.jobs.iter().map(|job| job.name.as_str()));
        let message = format!(
            "Can't find job '{name}' of instance group '{group}' in release '{}': it has {known}",
            release.name
        );
        return Err(Error::new(Code::UnknownJob, message));
    }
    let properties = match raw.properties {
        Value::Null => serde_json::Value::Object(serde_json::Map::new()),
        properties => serde_json::to_value(properties).map_err(|cause| {
            let message = format!("The properties of job '{name}' in instance group '{group}' are not usable: {cause}");
            Error::new(Code::ValidationInvalid, message)
        })?,
    };
    let provides = raw.provides.iter().map(|(link, value)| (link.clone(), provide(link, value))).collect();
    let consumes = raw.consumes.iter().filter_map(|(link, value)| Some((link.clone(), text(value, "from")?))).collect();
    Ok(Job { name, provides, consumes, properties })
}

fn provide(link: &str, value: &Value) -> Provide {
    let shared = value.get("shared").and_then(Value::as_bool).unwrap_or(false);
    Provide { name: text(value, "as").unwrap_or_else(|| link.to_owned()), shared }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn unknown<'a>(code: Code, group: &str, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let message = format!("Instance group '{group}' references an unknown {what} '{name}': there is {}", list(known));
    Error::new(code, message)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("'{name}'")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
