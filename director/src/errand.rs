//! Errands: jobs with a program that runs once. Only the chosen instances are looked at, so an errand on a healthy one
//! works while another VM of the deployment is dead.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::cpi::{ErrandOutput, VmState};
use crate::deploy::turn::unresponsive;
use crate::director::{Director, VMS_IN_FLIGHT, side_by_side};
use crate::error::{Code, Error, Result};
use crate::manifest::{self, Known, Manifest};
use crate::model::{Deployment, DesiredState, Instance};
use crate::task::Running;

pub(crate) struct Order {
    pub(crate) deployment: String,
    pub(crate) errand: String,
    /// Empty: every instance that has the errand.
    pub(crate) chosen: Vec<Choice>,
}

/// `{"group":"mysql","id":"<uuid|index|first>"}`
#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    pub(crate) group: String,
    pub(crate) id: Option<String>,
}

#[derive(Default)]
struct Tally {
    succeeded: usize,
    errored: usize,
    canceled: usize,
}

/// The errands of the deployed manifest, by name.
pub(crate) fn names(director: &Director, deployment: &Deployment) -> Result<Vec<String>> {
    let Some(manifest) = deployed(director, deployment)? else { return Ok(Vec::new()) };
    let jobs = manifest.groups.iter().flat_map(|group| &group.jobs);
    let is_errand = |name: &str| director.release.job(name).is_some_and(|job| job.errand.is_some());
    let mut names: Vec<String> = jobs.filter(|job| is_errand(&job.name)).map(|job| job.name.clone()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

pub(crate) async fn run(director: Arc<Director>, task: Running, order: Order) -> Result<String> {
    let _lock = director.locks.acquire(&order.deployment, &task).await?;
    let deployment = director.store.deployment(&order.deployment)?;
    let preparing = task.stage("Preparing deployment", &[], Some(1));
    let instances = preparing.step("Preparing deployment", prepare(&director, &order, &deployment)).await?;
    if instances.len() > 1 {
        task.warning(
            "Executing errand on multiple instances in parallel. \
             Use the `--instance` flag to run the errand on a single instance.",
        );
    }
    let tally = Mutex::new(Tally::default());
    let stage = task.stage("Running errand", &[], Some(instances.len()));
    let work = instances.iter().map(|instance| {
        let (stage, director, task, errand, tally) = (&stage, &director, &task, &order.errand, &tally);
        async move { stage.step(&instance.title(), run_on(director, task, errand, instance, tally)).await }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await?;
    task.check()?;
    let Tally { succeeded, errored, canceled } = tally.into_inner();
    Ok(format!("{succeeded} succeeded, {errored} errored, {canceled} canceled"))
}

async fn prepare(director: &Director, order: &Order, deployment: &Deployment) -> Result<Vec<Instance>> {
    let groups = groups_with(director, &order.errand, deployment)?;
    let candidates: Vec<&Instance> = deployment.instances.iter().filter(|i| groups.contains(&i.group)).collect();
    let instances = choose(&candidates, &order.chosen);
    if instances.is_empty() {
        return Err(Error::new(Code::Generic, "No instances match selection criteria"));
    }
    for instance in &instances {
        check(director, &order.errand, instance).await?;
    }
    Ok(instances)
}

fn groups_with(director: &Director, errand: &str, deployment: &Deployment) -> Result<Vec<String>> {
    let missing = || Error::new(Code::ErrandNotFound, format!("Errand '{errand}' doesn't exist"));
    director.release.job(errand).filter(|job| job.errand.is_some()).ok_or_else(missing)?;
    let manifest = deployed(director, deployment)?.ok_or_else(missing)?;
    let has = |group: &&manifest::Group| group.jobs.iter().any(|job| job.name == errand);
    let groups: Vec<String> = manifest.groups.iter().filter(has).map(|group| group.name.clone()).collect();
    if groups.is_empty() { Err(missing()) } else { Ok(groups) }
}

fn deployed(director: &Director, deployment: &Deployment) -> Result<Option<Manifest>> {
    let Some(revision) = deployment.deployed.and_then(|id| deployment.revisions.get(&id)) else { return Ok(None) };
    let cloud = director.cloud_config(revision.cloud_config)?;
    let (_, value) = manifest::read(&revision.manifest)?;
    manifest::check(&value, Known { cloud: &cloud, release: &director.release }).map(Some)
}

/// PURE: the chosen ones. `first` is the instance with the lowest index; a group without an id means all of it.
fn choose(candidates: &[&Instance], chosen: &[Choice]) -> Vec<Instance> {
    let first = |group: &str| candidates.iter().filter(|i| i.group == group).map(|i| i.index).min();
    let is_chosen = |instance: &Instance, choice: &Choice| {
        instance.group == choice.group
            && match choice.id.as_deref() {
                None | Some("") => true,
                Some("first") => first(&choice.group) == Some(instance.index),
                Some(id) => instance.id == id || instance.index.to_string() == id,
            }
    };
    let wanted = |instance: &Instance| chosen.is_empty() || chosen.iter().any(|choice| is_chosen(instance, choice));
    candidates.iter().filter(|instance| wanted(instance)).map(|instance| (*instance).clone()).collect()
}

async fn check(director: &Director, errand: &str, instance: &Instance) -> Result<()> {
    if instance.state != DesiredState::Started {
        let message = format!("Errand '{errand}' cannot run on '{}': it is {}", instance.slug(), instance.state.name());
        return Err(Error::new(Code::ErrandOnStoppedInstance, message));
    }
    let Some(vm) = &instance.vm else { return Err(unresponsive(instance)) };
    match director.cpi.vm_state(&vm.cid).await {
        VmState::Present { .. } => Ok(()),
        VmState::Missing | VmState::Silent => Err(unresponsive(instance)),
    }
}

/// An exit code other than 0 is a result and not an error: the task is `done`.
async fn run_on(
    director: &Director,
    task: &Running,
    errand: &str,
    instance: &Instance,
    tally: &Mutex<Tally>,
) -> Result<()> {
    let Some(vm) = &instance.vm else { return Err(unresponsive(instance)) };
    let output = director.cpi.run_errand(&vm.cid, errand, task.cancelled.clone()).await?;
    let ErrandOutput { exit_code, stdout, stderr } = output;
    task.result_line(&json!({
        "instance": {"group": instance.group, "id": instance.id},
        "errand_name": errand,
        "exit_code": exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "logs": {"blobstore_id": null, "sha1": null},
    }))?;
    let mut tally = tally.lock().await;
    match exit_code {
        0 => tally.succeeded += 1,
        // errand_result.rb: a signal ended it.
        129.. => tally.canceled += 1,
        _ => tally.errored += 1,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(group: &str, index: u32) -> Instance {
        let (id, group) = (format!("{group}-id{index}"), group.to_owned());
        let (az, address, state) = (String::new(), [127, 0, 0, 1].into(), DesiredState::Started);
        let (bootstrap, disk, vm, applied, is_ignored) = (false, None, None, None, false);
        Instance { id, group, index, az, bootstrap, address, state, disk, vm, applied, is_ignored }
    }

    #[test]
    fn instances_are_chosen_by_group_id_index_or_first() {
        let all = [instance("mysql", 1), instance("mysql", 2), instance("other", 0)];
        let table: [(&str, &[&str]); 7] = [
            ("[]", &["mysql-id1", "mysql-id2", "other-id0"]),
            (r#"[{"group":"mysql"}]"#, &["mysql-id1", "mysql-id2"]),
            (r#"[{"group":"mysql","id":"mysql-id2"}]"#, &["mysql-id2"]),
            (r#"[{"group":"mysql","id":"1"}]"#, &["mysql-id1"]),
            (r#"[{"group":"mysql","id":"first"},{"group":"other","id":"0"}]"#, &["mysql-id1", "other-id0"]),
            (r#"[{"group":"mysql","id":"9"}]"#, &[]),
            (r#"[{"group":"none"}]"#, &[]),
        ];
        for (json, expected) in table {
            let choices: Vec<Choice> = serde_json::from_str(json).unwrap();
            let chosen = choose(&all.iter().collect::<Vec<_>>(), &choices);
            assert_eq!(chosen.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), expected, "{json}");
        }
    }
}
