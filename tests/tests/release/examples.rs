//! The examples for a real director fit each other, the release and the catalog.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::job::{document, jobs, release};

fn example() -> Result<Value> {
    document("release/examples/broker.yml")
}

/// The names in a list of the cloud config.
fn names(list: &Value) -> Result<BTreeSet<&str>> {
    let entries = list.as_array().context("it is a list")?;
    entries.iter().map(|entry| entry["name"].as_str().context("every entry has a name")).collect()
}

#[test]
fn the_broker_has_every_property_that_is_set() -> Result<()> {
    let declared = document("release/jobs/mysql-broker/spec")?;
    let declared = declared["properties"].as_object().context("the job has properties")?;
    let mut given = Vec::new();
    leaves("", &jobs(&example()?)?["mysql-broker"], &mut given);

    let is_known = |path: &String| declared.keys().any(|name| path == name || path.starts_with(&format!("{name}.")));
    assert!(!given.is_empty());
    assert_eq!(given.iter().filter(|path| !is_known(path)).collect::<Vec<_>>(), Vec::<&String>::new());
    Ok(())
}

fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object() {
        Some(members) => {
            for (name, value) in members {
                leaves(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, found);
            }
        }
        None => found.push(path.to_owned()),
    }
}

#[test]
fn the_version_is_the_same_wherever_it_stands() -> Result<()> {
    let version = serde_json::json!(env!("CARGO_PKG_VERSION"));
    let spec = document("release/jobs/mysql-broker/spec")?;

    assert_eq!(spec["properties"]["service_instances.release_version"]["default"], version);
    assert_eq!(example()?["releases"][0]["version"], version);
    assert_eq!(document("release.yml")?["version"], version);
    Ok(())
}

#[test]
fn the_cloud_config_has_what_the_broker_and_every_plan_ask_for() -> Result<()> {
    let cloud = document("release/examples/cloud-config.yml")?;
    let (azs, types, disks) = (names(&cloud["azs"])?, names(&cloud["vm_types"])?, names(&cloud["disk_types"])?);
    let has = |known: &BTreeSet<&str>, wanted: &Value| wanted.as_str().is_some_and(|name| known.contains(name));
    let manifest = example()?;
    let group = &manifest["instance_groups"][0];

    ensure!(has(&types, &group["vm_type"]) && has(&disks, &group["persistent_disk_type"]), "the broker: {group}");
    ensure!(has(&azs, &group["azs"][0]) && has(&names(&cloud["networks"])?, &group["networks"][0]["name"]), "{group}");
    let catalog = document("catalog.yml")?;
    let plans = catalog["services"][0]["plans"].as_array().context("the catalog has plans")?;
    for plan in plans.iter().map(|plan| &plan["deployment"]) {
        ensure!(has(&types, &plan["vm_type"]) && has(&disks, &plan["disk_type"]), "{plan}");
        ensure!(plan["azs"].as_array().is_some_and(|wanted| wanted.iter().all(|az| has(&azs, az))), "{plan}");
    }
    Ok(())
}

#[test]
fn every_operation_has_its_place_in_the_example() -> Result<()> {
    let folder = release().join("examples/operations");
    for entry in std::fs::read_dir(&folder).context("list the operations")? {
        let name = entry.context("list the operations")?.file_name().to_string_lossy().into_owned();
        let operations = document(&format!("release/examples/operations/{name}"))?;
        for operation in operations.as_array().context("it is a list")? {
            let path = operation["path"].as_str().context("an operation has a path")?;
            check_place(&example()?, path).with_context(|| format!("{name}: {path}"))?;
        }
    }
    Ok(())
}

/// All but the last word must be there, and that too, unless it ends with `?` or is the `-` behind a list.
fn check_place(manifest: &Value, path: &str) -> Result<()> {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let mut place = manifest;
    for word in words {
        if word.ends_with('?') || (word == "-" && place.is_array()) {
            return Ok(());
        }
        let found = match word.split_once('=') {
            Some((key, value)) => place.as_array().and_then(|list| list.iter().find(|entry| entry[key] == value)),
            None => place.get(word),
        };
        match found {
            Some(found) => place = found,
            None => bail!("there is no {word}"),
        }
    }
    Ok(())
}
