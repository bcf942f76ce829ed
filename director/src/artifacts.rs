//! Tasks about what deployments leave behind or lose: orphaned disks, also when they come back, and VMs deleted by their
//! CID.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::clock;
use crate::director::Director;
use crate::error::{Code, Error, Result};
use crate::event::Deed;
use crate::model::{Deployment, DesiredState, Instance};
use crate::task::Running;

/// Which disk an instance is to have from now on.
pub(crate) struct Attachment {
    pub(crate) deployment: String,
    pub(crate) group: String,
    /// The instance's id.
    pub(crate) instance: String,
    pub(crate) cid: String,
}

pub(crate) async fn delete_orphan_disk(director: Arc<Director>, task: Running, cid: String) -> Result<String> {
    let stage = task.stage("Deleting orphaned disks", &[], Some(1));
    stage.step(&format!("Deleting orphaned disk {cid}"), delete_disk(&director, &task, &cid)).await?;
    Ok(format!("orphaned disk(s) {cid} deleted"))
}

/// `orphan-disk`: the instance is given a new, empty disk with its next VM. A disk in use is left alone.
pub(crate) async fn orphan_disk(director: Arc<Director>, task: Running, cid: String) -> Result<String> {
    let stage = task.stage("Orphan disk", &[], Some(1));
    let taking =
        director.events.around(task.actor(), Deed::new("orphan", "disk", &cid), take_disk(&director, &task, &cid));
    stage.step(&cid, taking).await?;
    Ok(format!("disk {cid} orphaned"))
}

/// `attach-disk`: the instance's next VM has this orphan, and the disk that it had becomes one.
pub(crate) async fn attach_disk(director: Arc<Director>, task: Running, wish: Attachment) -> Result<String> {
    let _lock = director.locks.acquire(&wish.deployment, &task).await?;
    let Attachment { deployment, group, instance, cid } = &wish;
    let stage = task.stage("Attach disk", &[], Some(1));
    let deed = Deed::new("attach", "disk", cid).of(deployment).on(format!("{group}/{instance}"));
    stage.step(cid, director.events.around(task.actor(), deed, give_disk(&director, &wish))).await?;
    Ok(format!("attached disk '{cid}' to '{group}/{instance}' in deployment '{deployment}'"))
}

/// `clean-up`: this director has nothing else that could be cleaned up.
pub(crate) async fn clean_up(director: Arc<Director>, task: Running, keep_orphaned_disks: bool) -> Result<String> {
    let orphans = director.store.read().shared.orphan_disks.clone();
    let orphans = if keep_orphaned_disks { Vec::new() } else { orphans };
    let stage = task.stage("Deleting orphaned disks", &[], Some(orphans.len()));
    for orphan in &orphans {
        task.check()?;
        let cid = &orphan.disk.cid;
        stage.step(&format!("Deleting orphaned disk {cid}"), delete_disk(&director, &task, cid)).await?;
    }
    Ok(format!("Deleted 0 release(s), 0 stemcell(s), 0 extra compiled package(s), {} orphaned disk(s)", orphans.len()))
}

/// The instance keeps its place and its disk; the resurrector makes it a new VM, unless it is switched off.
pub(crate) async fn delete_vm(director: Arc<Director>, task: Running, cid: String) -> Result<String> {
    let stage = task.stage("Delete VM", &[], Some(1));
    let ending = director.events.around(task.actor(), Deed::new("delete", "vm", &cid), end_vm(&director, &task, &cid));
    stage.step(&cid, ending).await?;
    Ok(format!("vm {cid} deleted"))
}

async fn delete_disk(director: &Director, task: &Running, cid: &str) -> Result<()> {
    let _orphans = director.orphans.lock().await;
    if !director.store.read().shared.orphan_disks.iter().any(|orphan| orphan.disk.cid == cid) {
        task.warning(&format!("Disk {cid} does not exist. Deletion is skipped"));
        return Ok(());
    }
    let delete = async {
        director.cpi.delete_disk(cid).await?;
        let forget = |model: &mut crate::store::Model| {
            model.shared_mut().orphan_disks.retain(|orphan| orphan.disk.cid != cid);
            Ok(())
        };
        director.store.write(forget).await
    };
    director.events.around(task.actor(), Deed::new("delete", "disk", cid), delete).await
}

async fn take_disk(director: &Director, task: &Running, cid: &str) -> Result<()> {
    let has_disk = |instance: &Instance| instance.disk.as_ref().is_some_and(|disk| disk.cid == cid);
    let Some((deployment, _)) = owner(director, has_disk) else {
        task.warning(&format!("Disk {cid} does not exist or is an orphan already. Orphaning is skipped"));
        return Ok(());
    };
    let _lock = director.locks.acquire(&deployment, task).await?;
    let now = clock::spaced(OffsetDateTime::now_utc());
    let orphan = |model: &mut crate::store::Model| {
        let mut instances = model.deployment_mut(&deployment)?.instances.iter_mut();
        let Some(instance) = instances.find(|instance| has_disk(instance)) else { return Ok(()) };
        if let Some(vm) = &instance.vm {
            let (slug, vm) = (instance.slug(), &vm.cid);
            let message =
                format!("Disk '{cid}' is attached to VM '{vm}' of {slug}: `stop --hard` or `delete-vm` first");
            return Err(Error::new(Code::Generic, message));
        }
        let owner = instance.clone();
        instance.disk = None;
        model.orphan_disk(&deployment, &owner, now);
        Ok(())
    };
    director.store.write(orphan).await
}

/// In two changes: a crash between them leaves a disk that is on the list of orphans and attached, which is put right at
/// the next start, and never one that nobody knows.
async fn give_disk(director: &Director, wish: &Attachment) -> Result<()> {
    let _orphans = director.orphans.lock().await;
    let now = clock::spaced(OffsetDateTime::now_utc());
    let attach = |model: &mut crate::store::Model| {
        let instance = may_change_disk(model.deployment(&wish.deployment)?, wish)?.clone();
        if instance.disk.as_ref().is_some_and(|disk| disk.cid == wish.cid) {
            return Ok(());
        }
        let orphan = model.shared.orphan_disks.iter().find(|orphan| orphan.disk.cid == wish.cid);
        let missing = || Error::new(Code::DiskMissing, format!("There is no orphaned disk '{}'", wish.cid));
        let disk = orphan.ok_or_else(missing)?.disk.clone();
        model.orphan_disk(&wish.deployment, &instance, now);
        if let Some(instance) = model.deployment_mut(&wish.deployment)?.instance_mut(&wish.instance) {
            instance.disk = Some(disk);
        }
        Ok(())
    };
    director.store.write(attach).await?;
    let forget = |model: &mut crate::store::Model| {
        model.shared_mut().orphan_disks.retain(|orphan| orphan.disk.cid != wish.cid);
        Ok(())
    };
    director.store.write(forget).await
}

/// BOSH also takes an instance with a stopped VM; here a VM keeps the disk that it was made with.
fn may_change_disk<'a>(deployment: &'a Deployment, wish: &Attachment) -> Result<&'a Instance> {
    let place = format!("Instance '{}/{}' in deployment '{}'", wish.group, wish.instance, wish.deployment);
    let refused = |why: &str| Err(Error::new(Code::AttachDiskInvalidInstanceState, format!("{place} {why}")));
    let found = deployment.instance(&wish.instance).filter(|instance| instance.group == wish.group);
    match found {
        None => Err(Error::new(Code::AttachDiskUnknownInstance, format!("{place} was not found"))),
        Some(instance) if instance.is_ignored => {
            refused("is in 'ignore' state. Attaching disks to ignored instances is not allowed.")
        }
        Some(instance) if instance.state == DesiredState::Started || instance.vm.is_some() => {
            refused("must be in 'bosh stopped' state: `stop --hard` first")
        }
        Some(instance) => Ok(instance),
    }
}

async fn end_vm(director: &Director, task: &Running, cid: &str) -> Result<()> {
    let owner = owner(director, |instance| instance.vm.as_ref().is_some_and(|vm| vm.cid == cid));
    if owner.is_none() && !director.cpi.vms().await?.iter().any(|known| known == cid) {
        task.warning(&format!("VM {cid} does not exist. Deletion is skipped"));
        return Ok(());
    }
    director.cpi.delete_vm(cid).await?;
    let Some((deployment, instance)) = owner else { return Ok(()) };
    let forget = |model: &mut crate::store::Model| {
        let instance = model.deployment_mut(&deployment)?.instance_mut(&instance);
        instance.filter(|i| i.vm.as_ref().is_some_and(|vm| vm.cid == cid)).iter_mut().for_each(|i| i.vm = None);
        Ok(())
    };
    director.store.write(forget).await
}

fn owner(director: &Director, is_it: impl Fn(&Instance) -> bool) -> Option<(String, String)> {
    let model = director.store.read();
    model.deployments.values().find_map(|deployment| {
        let owner = deployment.instances.iter().find(|instance| is_it(instance))?;
        Some((deployment.name.clone(), owner.id.clone()))
    })
}
