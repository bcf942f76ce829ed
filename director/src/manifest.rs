//! PURE: a deployment manifest, read and checked against the cloud config and the release. Every refusal has BOSH's code,
//! names what is wrong and lists what exists. Keys that this director does not use are ignored, as BOSH does.

mod raw;
pub(crate) mod update;

use std::collections::BTreeMap;

use serde_yaml::Value;

use crate::cloud_config::{CloudConfig, Size};
use crate::error::{Code, Error, Result};
use crate::release::Release;
use update::Update;

/// A manifest that can be deployed. It may hold secrets, so there is no `Debug`.
pub(crate) struct Manifest {
    pub(crate) groups: Vec<Group>,
}

pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) instances: u32,
    pub(crate) azs: Vec<String>,
    pub(crate) vm_type: String,
    pub(crate) size: Size,
    /// The size of the persistent disk in MB.
    pub(crate) disk_mb: Option<u64>,
    pub(crate) network: String,
    pub(crate) jobs: Vec<Job>,
    pub(crate) update: Update,
}

pub(crate) struct Job {
    pub(crate) name: String,
    /// By the link's name in the release.
    pub(crate) provides: BTreeMap<String, Provide>,
    /// By the link's name in the release: which provider the manifest chose (`from`).
    pub(crate) consumes: BTreeMap<String, String>,
    pub(crate) properties: serde_json::Value,
}

pub(crate) struct Provide {
    pub(crate) name: String,
    pub(crate) shared: bool,
}

/// A name and a version that the manifest refers to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// What manifests are checked against.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) cloud: &'a CloudConfig,
    pub(crate) release: &'a Release,
}

/// What is refused at once, before there is a task: not YAML, not a hash, no name, a name that cannot be used.
pub(crate) fn read(text: &str) -> Result<(String, Value)> {
    let invalid = |message: String| Error::new(Code::InvalidYaml, message);
    if text.trim().is_empty() {
        return Err(invalid("Manifest should not be empty".to_owned()));
    }
    let mut value: Value = serde_yaml::from_str(text)
        .map_err(|cause| invalid(format!("Incorrect YAML structure of the uploaded manifest: {cause}")))?;
    if !value.is_mapping() {
        return Err(invalid("Manifest should be a hash".to_owned()));
    }
    value
        .apply_merge()
        .map_err(|cause| invalid(format!("Incorrect YAML structure of the uploaded manifest: {cause}")))?;
    let missing = || Error::new(Code::ValidationMissingField, "Deployment manifest must have a 'name' key");
    let name = value.get("name").and_then(Value::as_str).ok_or_else(missing)?.to_owned();
    check_name(&name)?;
    Ok((name, value))
}

/// Read the whole manifest.
pub(crate) fn check(value: &Value, known: Known<'_>) -> Result<Manifest> {
    let raw: raw::Manifest = serde_yaml::from_value(value.clone())
        .map_err(|cause| Error::new(Code::ValidationInvalid, format!("The manifest is not usable: {cause}")))?;
    for release in &raw.releases {
        check_release(release, known.release)?;
    }
    let groups = raw.instance_groups.ok_or_else(|| missing("instance_groups", "the manifest"))?;
    let groups = groups.into_iter().map(|group| raw::group(group, &raw.update, known)).collect::<Result<Vec<_>>>()?;
    for (at, group) in groups.iter().enumerate() {
        if groups[..at].iter().any(|earlier| earlier.name == group.name) {
            let message = format!("Duplicate instance group name '{}'", group.name);
            return Err(Error::new(Code::ValidationInvalid, message));
        }
    }
    Ok(Manifest { groups })
}

/// The releases (or the stemcells) that a stored manifest names, for the list of deployments.
pub(crate) fn references(manifest: &str, key: &str) -> Vec<Reference> {
    let value: Value = serde_yaml::from_str(manifest).unwrap_or_default();
    let entries = value.get(key).and_then(Value::as_sequence).cloned().unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let name = entry.get("name").or_else(|| entry.get("os")).or_else(|| entry.get("alias"))?.as_str()?;
            let version = scalar(entry.get("version")?)?;
            Some(Reference { name: name.to_owned(), version })
        })
        .collect()
}

/// `version: 1.930` may be a number to YAML.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A deployment's name is also a file name and, in certificates and addresses, a host name.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.len() <= 200 && name.chars().all(allowed) && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    let message =
        format!("Invalid deployment name '{name}': letters, digits, '-', '_' and '.' are allowed, 200 at most");
    Err(Error::new(Code::ValidationInvalid, message))
}

fn check_release(wanted: &raw::Release, known: &Release) -> Result<()> {
    let version = wanted.version.as_ref().and_then(scalar).unwrap_or_else(|| "latest".to_owned());
    let there = format!("this director has '{}/{}'", known.name, known.version);
    if wanted.name != known.name {
        return Err(Error::new(Code::ReleaseNotFound, format!("Release '{}' doesn't exist: {there}", wanted.name)));
    }
    if version != known.version && version != "latest" {
        let message = format!("Release version '{}/{version}' doesn't exist: {there}", wanted.name);
        return Err(Error::new(Code::ReleaseVersionNotFound, message));
    }
    Ok(())
}

fn missing(name: &str, place: &str) -> Error {
    Error::new(Code::ValidationMissingField, format!("Required property '{name}' was not specified in {place}"))
}

#[cfg(test)]
mod tests;
