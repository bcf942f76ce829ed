//! What a `delete deployment` task does. It may be run again after any failure, and with `force` it goes on where a VM
//! does not answer.

use std::sync::Arc;

use crate::deploy::turn::{self, Subject, Tolerated};
use crate::director::{Director, VMS_IN_FLIGHT, side_by_side};
use crate::error::{Error, Result};
use crate::task::Running;

pub(crate) async fn delete(director: Arc<Director>, task: Running, name: String, force: bool) -> Result<String> {
    let _lock = director.locks.acquire(&name, &task).await?;
    let deployment = director.store.deployment(&name)?;
    if deployment.instances.iter().any(|instance| instance.is_ignored) {
        return Err(Error::ignored_deletion(&format!("deployment '{name}'")));
    }
    let subject = Subject { director: &director, task: &task, deployment: &name };

    let tolerated = if force { Tolerated::Everything } else { Tolerated::Nothing };
    let stage = task.stage("Deleting instances", &[], Some(deployment.instances.len()));
    let work = deployment.instances.iter().map(|instance| {
        let stage = &stage;
        async move { stage.step(&instance.title(), turn::delete(subject, instance, tolerated)).await }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await?;

    let stage = task.stage("Removing deployment artifacts", &[], Some(1));
    stage.step("Destroying deployment", forget(&director, &name)).await?;
    Ok(format!("/deployments/{name}"))
}

async fn forget(director: &Director, name: &str) -> Result<()> {
    director.variables.forget(name).await?;
    director
        .store
        .write(|model| {
            model.deployments.remove(name);
            Ok(())
        })
        .await?;
    // What other deployments cannot be served with is not this one's failure; the health loop reports it.
    director.client_addresses.follow(&director.store).await;
    Ok(())
}
