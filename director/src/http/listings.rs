//! What other directors have and this one has not, or has exactly one of: releases, stemcells, snapshots, orphaned VMs,
//! SSH.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};
use crate::error::{Code, Error};
use crate::manifest;

/// The one release, which was not uploaded but configured.
pub(super) async fn releases(State(app): State<App>) -> Answer {
    let release = &app.release;
    let model = app.store.read();
    let is_deployed = model.deployments.values().any(|deployment| deployment.deployed.is_some());
    let jobs: Vec<&str> = release.jobs.iter().map(|job| job.name.as_str()).collect();
    let version = json!({"version": release.version, "commit_hash": "non-git", "uncommitted_changes": false,
        "currently_deployed": is_deployed, "job_names": jobs});
    answer::json(&json!([{"name": release.name, "release_versions": [version]}]))
}

/// A VM is made of no image, so none is uploaded: those that the deployed manifests name count as there.
pub(super) async fn stemcells(State(app): State<App>) -> Answer {
    let model = app.store.read();
    let mut users: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for deployment in model.deployments.values() {
        for stemcell in manifest::references(deployment.manifest().unwrap_or_default(), "stemcells") {
            users.entry((stemcell.name, stemcell.version)).or_default().insert(&deployment.name);
        }
    }
    let row = |((name, version), users): (&(String, String), &BTreeSet<&str>)| {
        let users: Vec<Value> = users.iter().map(|name| json!({"name": name})).collect();
        json!({"name": name, "operating_system": name, "version": version, "cid": "", "cpi": "", "api_version": null,
            "deployments": users})
    };
    answer::json(&users.iter().map(row).collect::<Vec<Value>>())
}

/// A VM that is replaced is deleted at once.
pub(super) async fn orphaned_vms() -> Answer {
    answer::json(&json!([]))
}

/// `/info` says that there are none.
pub(super) async fn snapshots(State(app): State<App>, Path(name): Path<String>) -> Answer {
    app.store.deployment(&name)?;
    answer::json(&json!([]))
}

pub(super) async fn refuse_ssh(State(app): State<App>, Path(name): Path<String>) -> Answer {
    app.store.deployment(&name)?;
    let message = "There is no SSH here: a VM is a group of processes on the director's machine. Its files are in the \
        directory `vms` of the director's state, under its VM CID; `logs` fetches its logs";
    Err(Error::new(Code::ValidationInvalid, message).into())
}
