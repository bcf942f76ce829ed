//! The health loop, the stand-in for BOSH's Health Monitor: a VM that should be there and is gone is made again, with
//! the same disk and address, and one whose jobs a broken-off task left stopped is started; each in a task of its own.
//! The loop takes no input but what is remembered and what the CPI sees, so any round may be lost.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cpi::{ProcessState, VmState};
use crate::deploy::turn::Subject;
use crate::director::{Director, VMS_IN_FLIGHT, side_by_side};
use crate::error::Result;
use crate::instance_actions::bring_to;
use crate::model::{Deployment, DesiredState, Instance};
use crate::plan::{Force, Wanted};
use crate::store::Model;
use crate::task::record::{Kind, State};
use crate::task::{Order, Running};

const PERIOD: Duration = Duration::from_secs(1);
/// A VM that cannot be made is tried again after 1, 2, 4 ... seconds, at most after this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// When a deployment was last tried, and how long to wait before the next time.
struct Attempt {
    at: Instant,
    pause: Duration,
    task: u64,
}

pub(crate) async fn watch(director: Arc<Director>, stop: CancellationToken) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut attempts = BTreeMap::new();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        round(&director, &mut attempts).await;
    }
}

/// VMs that no instance knows: what a director that died left half-made. To be called before any task runs.
pub(crate) async fn clear_half_made_vms(director: &Director) -> anyhow::Result<()> {
    let model = director.store.read();
    let instances = model.deployments.values().flat_map(|deployment| &deployment.instances);
    let known: Vec<&str> = instances.filter_map(|instance| instance.vm.as_ref().map(|vm| vm.cid.as_str())).collect();
    for cid in director.cpi.vms().await? {
        if !known.contains(&cid.as_str()) {
            tracing::info!(vm_cid = cid, "removing a VM that no instance owns");
            if let Err(error) = director.cpi.delete_vm(&cid).await {
                tracing::error!(vm_cid = cid, error = format!("{error:#}"), "cannot remove a VM that no instance owns");
            }
        }
    }
    Ok(())
}

async fn round(director: &Arc<Director>, attempts: &mut BTreeMap<String, Attempt>) {
    let model = director.store.read();
    for (deployment, error) in director.client_addresses.follow(&director.store).await {
        tracing::warn!(
            deployment,
            error = format!("{error:#}"),
            "cannot serve a client address; the next round tries again"
        );
    }
    attempts.retain(|name, attempt| model.deployments.contains_key(name) && attempt.at.elapsed() < 2 * LONGEST_PAUSE);
    if model.shared.resurrection_paused || !director.config.resurrection {
        return;
    }
    for name in suffering(director, &model, attempts).await {
        let failed = attempts.get(&name).filter(|attempt| has_failed(director, attempt));
        let pause = failed.map_or(PERIOD, |attempt| (2 * attempt.pause).min(LONGEST_PAUSE));
        match submit(director, &name).await {
            Ok(task) => drop(attempts.insert(name, Attempt { at: Instant::now(), pause, task })),
            Err(error) => tracing::warn!(deployment = name, %error, "cannot start a resurrection"),
        }
    }
}

/// The deployments that have lost a VM and that nobody works on. They are looked at side by side: one VM that is slow to
/// answer must not delay the others.
async fn suffering(director: &Director, model: &Model, attempts: &BTreeMap<String, Attempt>) -> Vec<String> {
    let is_pending = |name: &str| attempts.get(name).is_some_and(|attempt| is_pending(director, attempt));
    let idle = model.deployments.iter().filter(|(name, _)| !is_pending(name) && !director.locks.is_held(name));
    let looks = idle.map(|(name, deployment)| async move {
        let has_lost = !lost(director, deployment).await.is_empty();
        has_lost.then(|| name.clone())
    });
    let looks: Vec<_> = looks.collect();
    stream::iter(looks).buffer_unordered(VMS_IN_FLIGHT).filter_map(ready).collect().await
}

/// Its task has not ended, or ended too short a time ago.
fn is_pending(director: &Director, attempt: &Attempt) -> bool {
    let has_ended = director.tasks.get(attempt.task).is_none_or(|record| record.state.is_final());
    !has_ended || attempt.at.elapsed() < attempt.pause
}

fn has_failed(director: &Director, attempt: &Attempt) -> bool {
    director.tasks.get(attempt.task).is_some_and(|record| record.state != State::Done)
}

async fn submit(director: &Arc<Director>, name: &str) -> Result<u64> {
    let order = Order {
        kind: Kind::CckScanAndFix,
        description: "scan and fix".to_owned(),
        deployment: Some(name.to_owned()),
        user: "hm".to_owned(),
        context_id: String::new(),
        deed: None,
    };
    let (deployment, director) = (name.to_owned(), director.clone());
    let tasks = director.clone();
    tasks.tasks.submit(order, move |task| scan_and_fix(director, task, deployment)).await
}

async fn scan_and_fix(director: Arc<Director>, task: Running, name: String) -> Result<String> {
    let _lock = director.locks.acquire(&name, &task).await?;
    // Looked at again under the lock: a deploy may have made the VM meanwhile.
    let deployment = director.store.deployment(&name)?;
    let lost = lost(&director, &deployment).await;
    let subject = Subject { director: &director, task: &task, deployment: &name };
    let stage = task.stage("Applying problem resolutions", &[], Some(lost.len()));
    let work = lost.iter().map(|instance| {
        let (stage, deployment) = (&stage, &deployment);
        let wanted = Wanted { state: instance.state, force: Force::Nothing, skips_drain: false };
        async move { stage.step(&instance.title(), bring_to(subject, deployment, instance, wanted, true)).await }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await?;
    Ok("scan and fix complete".to_owned())
}

/// The instances that were up once, should run, and do not: without a VM, or with stopped jobs. Not those that somebody
/// looks after by hand.
async fn lost(director: &Director, deployment: &Deployment) -> Vec<Instance> {
    let mut lost = Vec::new();
    for instance in deployment.instances.iter().filter(|instance| !instance.is_ignored) {
        let expects_vm = instance.state != DesiredState::Detached && instance.applied.is_some();
        // What a first deploy that failed leaves is not started behind the operator's back.
        let expects_jobs = instance.state == DesiredState::Started && deployment.deployed.is_some();
        if expects_vm && !is_well(director, instance, expects_jobs).await {
            lost.push(instance.clone());
        }
    }
    lost
}

async fn is_well(director: &Director, instance: &Instance, expects_jobs: bool) -> bool {
    let Some(vm) = &instance.vm else { return false };
    match director.cpi.vm_state(&vm.cid).await {
        VmState::Missing => false,
        // To replace a VM kills what is left of it, so a VM that is only slow is left to the operator.
        VmState::Silent => true,
        // The supervisor starts again what failed. Stopped is only what somebody stopped, and a restart or an update
        // that came to its end has started it again: the director died in between.
        VmState::Present { processes } => {
            !expects_jobs || processes.iter().all(|process| process.state != ProcessState::Stopped)
        }
    }
}
