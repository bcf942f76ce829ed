//! Tasks about what deployments leave behind or lose: orphaned disks, and VMs deleted by their CID.

use std::sync::Arc;

use crate::director::Director;
use crate::error::Result;
use crate::task::Running;

pub(crate) async fn delete_orphan_disk(director: Arc<Director>, task: Running, cid: String) -> Result<String> {
    let stage = task.stage("Deleting orphaned disks", &[], Some(1));
    stage.step(&format!("Deleting orphaned disk {cid}"), delete_disk(&director, &task, &cid)).await?;
    Ok(format!("orphaned disk(s) {cid} deleted"))
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
    stage.step(&cid, end_vm(&director, &task, &cid)).await?;
    Ok(format!("vm {cid} deleted"))
}

async fn delete_disk(director: &Director, task: &Running, cid: &str) -> Result<()> {
    if !director.store.read().shared.orphan_disks.iter().any(|orphan| orphan.disk.cid == cid) {
        task.warning(&format!("Disk {cid} does not exist. Deletion is skipped"));
        return Ok(());
    }
    director.cpi.delete_disk(cid).await?;
    let forget = |model: &mut crate::store::Model| {
        model.shared_mut().orphan_disks.retain(|orphan| orphan.disk.cid != cid);
        Ok(())
    };
    director.store.write(forget).await
}

async fn end_vm(director: &Director, task: &Running, cid: &str) -> Result<()> {
    let owner = owner(director, cid);
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

fn owner(director: &Director, cid: &str) -> Option<(String, String)> {
    let model = director.store.read();
    model.deployments.values().find_map(|deployment| {
        let mut instances = deployment.instances.iter();
        let owner = instances.find(|instance| instance.vm.as_ref().is_some_and(|vm| vm.cid == cid))?;
        Some((deployment.name.clone(), owner.id.clone()))
    })
}
