//! Orphaned disks, VMs by their CID, `clean-up`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer, Query};
use super::requester::Requester;
use crate::artifacts::{self, Attachment};
use crate::task::record::Kind;

#[derive(Deserialize)]
struct CleanUp {
    #[serde(default)]
    config: CleanUpConfig,
}

/// `remove_all` makes no difference here: there are no releases and stemcells to keep.
#[derive(Default, Deserialize)]
struct CleanUpConfig {
    #[serde(default)]
    keep_orphaned_disks: bool,
}

pub(super) async fn list(State(app): State<App>) -> Answer {
    let model = app.store.read();
    let row = |orphan: &crate::model::OrphanDisk| {
        json!({"disk_cid": orphan.disk.cid, "size": orphan.disk.size_mb, "az": orphan.az,
            "deployment_name": orphan.deployment, "instance_name": orphan.instance, "cloud_properties": {},
            "orphaned_at": orphan.orphaned_at})
    };
    answer::json(&model.shared.orphan_disks.iter().map(row).collect::<Vec<Value>>())
}

#[derive(Deserialize)]
pub(super) struct Fate {
    #[serde(default)]
    orphan: bool,
}

/// An orphan is deleted; with `orphan=true` an instance's disk becomes one.
pub(super) async fn delete(
    State(app): State<App>,
    requester: Requester,
    Path(cid): Path<String>,
    Query(fate): Query<Fate>,
) -> Answer {
    if fate.orphan {
        let order = requester.order(Kind::OrphanDisk, "orphan disk", None);
        let director = app.clone();
        let id = app.tasks.submit(order, move |task| artifacts::orphan_disk(director, task, cid)).await?;
        return answer::see_task(&requester.host, id);
    }
    let order = requester.order(Kind::DeleteOrphanDisks, "delete orphan disks", None);
    let director = app.clone();
    let id = app.tasks.submit(order, move |task| artifacts::delete_orphan_disk(director, task, cid)).await?;
    answer::see_task(&requester.host, id)
}

#[derive(Deserialize)]
pub(super) struct AttachQuery {
    deployment: String,
    job: String,
    instance_id: String,
}

/// How an orphan, or a disk that somebody restored, comes back to an instance.
pub(super) async fn attach(
    State(app): State<App>,
    requester: Requester,
    Path(cid): Path<String>,
    Query(query): Query<AttachQuery>,
) -> Answer {
    let AttachQuery { deployment, job, instance_id } = query;
    app.store.deployment(&deployment)?;
    let description = format!("attach disk '{cid}' to '{job}/{instance_id}'");
    let order = requester.order(Kind::AttachDisk, description, Some(&deployment));
    let wish = Attachment { deployment, group: job, instance: instance_id, cid };
    let director = app.clone();
    let id = app.tasks.submit(order, move |task| artifacts::attach_disk(director, task, wish)).await?;
    answer::see_task(&requester.host, id)
}

pub(super) async fn delete_vm(State(app): State<App>, requester: Requester, Path(cid): Path<String>) -> Answer {
    let order = requester.order(Kind::DeleteVm, format!("delete vm {cid}"), None);
    let director = app.clone();
    let id = app.tasks.submit(order, move |task| artifacts::delete_vm(director, task, cid)).await?;
    answer::see_task(&requester.host, id)
}

pub(super) async fn clean_up(State(app): State<App>, requester: Requester, body: Bytes) -> Answer {
    let CleanUp { config } = answer::from_json(&body)?;
    let order = requester.order(Kind::CleanupArtifacts, "delete artifacts", None);
    let (director, keep) = (app.clone(), config.keep_orphaned_disks);
    let id = app.tasks.submit(order, move |task| artifacts::clean_up(director, task, keep)).await?;
    answer::see_task(&requester.host, id)
}
