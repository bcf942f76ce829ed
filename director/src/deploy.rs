//! What a `create deployment` task does: check and place, end what is obsolete, make the missing VMs, then update the
//! instances in turn, canaries first. The converging `stop`, `start`, `restart` and `recreate` are the same task with
//! the stored manifest and one change on top.

mod enter;
mod pre_stop;
pub(crate) mod turn;

use std::sync::Arc;

use crate::director::{Director, VMS_IN_FLIGHT, side_by_side};
use crate::error::{Code, Error, Result};
use crate::manifest::update::Overrides;
use crate::manifest::{Group, Manifest};
use crate::model::{DesiredState, Instance, Revision};
use crate::plan::{self, Force, Wanted};
use crate::render::{Site, render};
use crate::task::Running;
pub(crate) use enter::find_or_create;
use turn::{Subject, Tolerated, Turn};

pub(crate) struct Order {
    pub(crate) deployment: String,
    pub(crate) revision: Revision,
    pub(crate) change: Change,
    pub(crate) overrides: Overrides,
    /// Replace or, where they are obsolete, delete VMs whose supervisor is gone, instead of failing.
    pub(crate) fix: bool,
    pub(crate) dry_run: bool,
}

/// What is asked for beyond the manifest, and of which instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) whom: Whom,
    pub(crate) state: Option<DesiredState>,
    pub(crate) force: Force,
    pub(crate) undrained: Undrained,
}

/// The groups whose jobs are stopped without being asked to prepare for it (`skip_drain`).
#[derive(Clone, Debug, Default)]
pub(crate) enum Undrained {
    #[default]
    Nobody,
    Everybody,
    Groups(Vec<String>),
}

impl Undrained {
    /// As the query says it: `*`, or names with commas between them; the CLI says `true` for one instance.
    pub(crate) fn asked(text: Option<&str>) -> Self {
        match text {
            None | Some("" | "false") => Self::Nobody,
            Some("*" | "true") => Self::Everybody,
            Some(names) => Self::Groups(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, group: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Everybody => true,
            Self::Groups(names) => names.iter().any(|name| name == group),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Whom {
    #[default]
    Everybody,
    Group(String),
    /// By id.
    Instance(String),
}

/// A deployment that is checked, placed and observed: everything is known before anything is done.
struct Prepared {
    manifest: Manifest,
    revision: u64,
    obsolete: Vec<Instance>,
    turns: Vec<Turn>,
}

impl Change {
    fn wanted(&self, instance: &Instance) -> Wanted {
        let is_meant = match &self.whom {
            Whom::Everybody => true,
            Whom::Group(group) => instance.group == *group,
            Whom::Instance(id) => instance.id == *id,
        };
        let force = if is_meant { self.force } else { Force::Nothing };
        let state = self.state.filter(|_| is_meant).unwrap_or(instance.state);
        Wanted { state, force, skips_drain: self.undrained.has(&instance.group) }
    }

    /// An instance that is looked after by hand cannot be asked for; where all are, it is passed over.
    fn check(&self, instances: &[Instance]) -> Result<()> {
        let Whom::Instance(id) = &self.whom else { return Ok(()) };
        match instances.iter().find(|instance| instance.id == *id && instance.is_ignored) {
            Some(instance) => Err(Error::ignored(Code::JobInstanceIgnored, &instance.slug())),
            None => Ok(()),
        }
    }
}

pub(crate) async fn deploy(director: Arc<Director>, task: Running, order: Order) -> Result<String> {
    let _lock = director.locks.acquire(&order.deployment, &task).await?;
    let preparing = task.stage("Preparing deployment", &[], Some(1));
    let prepared = preparing.step("Preparing deployment", prepare(&director, &order)).await?;
    let result = format!("/deployments/{}", order.deployment);
    let Some(mut prepared) = prepared else { return Ok(result) };
    let subject = Subject { director: &director, task: &task, deployment: &order.deployment };

    if let Some(cause) = director.client_addresses.follow(&director.store).await.remove(&order.deployment) {
        return Err(cause.context("serve the stable client address of the deployment").into());
    }
    let tolerated = if order.fix { Tolerated::Dead } else { Tolerated::Nothing };
    delete_obsolete(subject, &prepared.obsolete, tolerated).await?;
    create_missing_vms(subject, &mut prepared.turns).await?;
    for group in &prepared.manifest.groups {
        update_group(subject, group, &prepared.turns, order.overrides).await?;
    }
    enter::succeed(&director, &order.deployment, prepared.revision, &prepared.manifest).await?;
    Ok(result)
}

/// `None` for a dry run, which ends when everything is checked.
async fn prepare(director: &Director, order: &Order) -> Result<Option<Prepared>> {
    let manifest = director.resolve(&order.deployment, &order.revision).await?;
    if order.dry_run {
        return Ok(None);
    }
    let entered = enter::enter(director, order, &manifest).await?;
    let mut turns = Vec::new();
    for group in &manifest.groups {
        let is_meant = |instance: &&Instance| instance.group == group.name && !instance.is_ignored;
        for instance in entered.instances.iter().filter(is_meant) {
            let site = Site {
                deployment: &order.deployment,
                manifest: &manifest,
                release: &director.release,
                instances: &entered.instances,
            };
            let rendered = render(site, group, instance)?;
            let wanted = order.change.wanted(instance);
            turns.push(Turn::new(instance.clone(), group, entered.revision, rendered, wanted));
        }
    }
    for turn in &mut turns {
        turn.observe(director, order.fix).await?;
    }
    Ok(Some(Prepared { manifest, revision: entered.revision, obsolete: entered.obsolete, turns }))
}

async fn delete_obsolete(subject: Subject<'_>, obsolete: &[Instance], tolerated: Tolerated) -> Result<()> {
    let stage = subject.task.stage("Deleting unneeded instances", &[], Some(obsolete.len()));
    let work = obsolete.iter().map(|instance| {
        let stage = &stage;
        async move { stage.step(&instance.title(), turn::delete(subject, instance, tolerated)).await }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await
}

async fn create_missing_vms(subject: Subject<'_>, turns: &mut [Turn]) -> Result<()> {
    subject.task.check()?;
    let missing: Vec<&mut Turn> = turns.iter_mut().filter(|turn| turn.steps.is_missing_vm()).collect();
    let stage = subject.task.stage("Creating missing vms", &[], Some(missing.len()));
    let work = missing.into_iter().map(|turn| {
        let stage = &stage;
        async move { stage.step(&turn.instance.title(), turn.create_vm(subject)).await }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await
}

async fn update_group(subject: Subject<'_>, group: &Group, turns: &[Turn], overrides: Overrides) -> Result<()> {
    let changing: Vec<&Turn> =
        turns.iter().filter(|turn| turn.instance.group == group.name && turn.has_work()).collect();
    let update = group.update;
    let canaries = overrides.canaries.unwrap_or(update.canaries).of(group.instances as usize);
    let in_flight = overrides.max_in_flight.unwrap_or(update.max_in_flight).of(group.instances as usize);
    let order = plan::turns(changing.len(), canaries, in_flight);
    let stage = subject.task.stage("Updating instance", &[&group.name], Some(changing.len()));
    let (first, rest) = changing.split_at(order.canaries);
    let work = first.iter().map(|turn| {
        let (stage, title) = (&stage, format!("{} (canary)", turn.instance.title()));
        async move { stage.step(&title, turn.update(subject, update.canary_watch)).await }
    });
    side_by_side(order.canaries_in_flight, work.collect()).await?;
    let work = rest.iter().map(|turn| {
        let stage = &stage;
        async move { stage.step(&turn.instance.title(), turn.update(subject, update.update_watch)).await }
    });
    side_by_side(order.in_flight, work.collect()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_skip_drain_means_is_said_as_the_cli_says_it() {
        for (asked, of_mysql, of_broker) in [
            (None, false, false),
            (Some("false"), false, false),
            (Some("true"), true, true),
            (Some("*"), true, true),
            (Some("mysql"), true, false),
            (Some("broker, mysql"), true, true),
        ] {
            let undrained = Undrained::asked(asked);
            assert_eq!((undrained.has("mysql"), undrained.has("broker")), (of_mysql, of_broker), "{asked:?}");
        }
    }
}
