//! What is done with one instance and nothing else (`--no-converge`, the resurrector): it keeps the manifest that it
//! runs, and the rest of the deployment is not looked at.

use std::sync::Arc;
use std::time::Duration;

use crate::deploy::turn::{Subject, Turn};
use crate::director::Director;
use crate::error::{Code, Error, Result};
use crate::manifest::update::Watch;
use crate::model::{Deployment, DesiredState, Instance};
use crate::plan::{Force, Wanted};
use crate::render::{Site, render};
use crate::task::Running;
use crate::task::record::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Stop,
    /// `stop --hard`: without a VM.
    Detach,
    Restart,
    Recreate,
}

pub(crate) struct Order {
    pub(crate) deployment: String,
    /// The instance's id.
    pub(crate) instance: String,
    pub(crate) action: Action,
    pub(crate) ignore_unresponsive_agent: bool,
    pub(crate) skip_drain: bool,
}

impl Action {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop | Self::Detach => "stop",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Start => Kind::StartInstance,
            Self::Stop | Self::Detach => Kind::StopInstance,
            Self::Restart => Kind::RestartInstance,
            Self::Recreate => Kind::RecreateInstance,
        }
    }

    fn stage(self) -> &'static str {
        match self {
            Self::Start => "Starting instance",
            Self::Stop | Self::Detach => "Stopping instance",
            Self::Restart => "Restarting instance",
            Self::Recreate => "Recreating instance",
        }
    }

    /// To restart or recreate what was stopped starts it, as in BOSH.
    fn wanted(self, now: DesiredState) -> Wanted {
        let (state, force) = match self {
            Self::Start => (DesiredState::Started, Force::Nothing),
            Self::Stop if now == DesiredState::Detached => (now, Force::Nothing),
            Self::Stop => (DesiredState::Stopped, Force::Nothing),
            Self::Detach => (DesiredState::Detached, Force::Nothing),
            Self::Restart => (DesiredState::Started, Force::Restart),
            Self::Recreate => (DesiredState::Started, Force::Recreate),
        };
        Wanted { state, force, skips_drain: false }
    }
}

pub(crate) async fn act(director: Arc<Director>, task: Running, order: Order) -> Result<String> {
    let _lock = director.locks.acquire(&order.deployment, &task).await?;
    let deployment = director.store.deployment(&order.deployment)?;
    let instance = deployment.instance(&order.instance).ok_or_else(|| gone(&order))?;
    if instance.is_ignored {
        return Err(Error::ignored(Code::IgnoredInstancesModification, &instance.slug()));
    }
    let subject = Subject { director: &director, task: &task, deployment: &order.deployment };
    let stage = task.stage(&format!("{} {}", order.action.stage(), instance.group), &[], None);
    let wanted = Wanted { skips_drain: order.skip_drain, ..order.action.wanted(instance.state) };
    let work = bring_to(subject, &deployment, instance, wanted, order.ignore_unresponsive_agent);
    stage.step(&instance.title(), work).await?;
    Ok(instance.slug())
}

/// Make one instance what is wanted, with the manifest that it runs already.
pub(crate) async fn bring_to(
    subject: Subject<'_>,
    deployment: &Deployment,
    instance: &Instance,
    wanted: Wanted,
    may_replace_dead: bool,
) -> Result<()> {
    let running = instance.applied.as_ref().map(|applied| applied.revision).or(deployment.deployed);
    let revision = running.and_then(|id| Some((id, deployment.revisions.get(&id)?)));
    let (id, revision) = revision.ok_or_else(|| never_deployed(instance))?;
    let manifest = subject.director.resolve(subject.deployment, revision).await?;
    let group =
        manifest.groups.iter().find(|group| group.name == instance.group).ok_or_else(|| never_deployed(instance))?;
    let site = Site {
        deployment: subject.deployment,
        manifest: &manifest,
        release: &subject.director.release,
        instances: &deployment.instances,
    };
    let mut turn = Turn::new(instance.clone(), group, id, render(site, group, instance)?, wanted);
    turn.observe(subject.director, may_replace_dead).await?;
    if !turn.has_work() {
        return Ok(());
    }
    turn.update(subject, watch(group.update.update_watch)).await
}

/// One instance is watched as long as its manifest says, but asked at once: nobody else waits behind it.
fn watch(of_manifest: Watch) -> Watch {
    Watch { not_before: Duration::ZERO, ..of_manifest }
}

fn never_deployed(instance: &Instance) -> Error {
    let message = format!("'{}' was never deployed with success; deploy its manifest first", instance.slug());
    Error::new(Code::Generic, message)
}

fn gone(order: &Order) -> Error {
    let message = format!("'{}/{}' doesn't exist", order.deployment, order.instance);
    Error::new(Code::InstanceNotFound, message)
}
