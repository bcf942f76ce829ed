//! Cloud check: a scan notes which instances have lost their VM, or have one that does not answer; later each problem is
//! mended as the operator chose. Instances that somebody looks after by hand are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;

use crate::cpi::VmState;
use crate::deploy::turn::{self, Subject};
use crate::director::{Director, VMS_IN_FLIGHT, side_by_side};
use crate::error::{Code, Error, Result};
use crate::instance_actions::bring_to;
use crate::model::{Deployment, DesiredState, Instance, Problem, ProblemKind};
use crate::plan::{Force, Wanted};
use crate::store::Model;
use crate::task::Running;

/// By the id of the problem: the name of a resolution, or none for the one that BOSH would choose.
pub(crate) type Resolutions = BTreeMap<String, Option<String>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Ignore,
    RecreateVm,
    DeleteVm,
    /// What is left of the VM is somebody else's business.
    DeleteVmReference,
}

/// How many instances a scan found in which state.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    well: usize,
    unresponsive: usize,
    missing: usize,
    ignored: usize,
}

impl Resolution {
    pub(crate) fn of(kind: ProblemKind) -> &'static [Self] {
        match kind {
            ProblemKind::MissingVm => &[Self::Ignore, Self::RecreateVm, Self::DeleteVmReference],
            ProblemKind::UnresponsiveAgent => {
                &[Self::Ignore, Self::RecreateVm, Self::DeleteVm, Self::DeleteVmReference]
            }
        }
    }

    /// What BOSH does where nobody chooses.
    fn automatic(kind: ProblemKind) -> Self {
        match kind {
            ProblemKind::MissingVm => Self::RecreateVm,
            ProblemKind::UnresponsiveAgent => Self::Ignore,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::RecreateVm => "recreate_vm",
            Self::DeleteVm => "delete_vm",
            Self::DeleteVmReference => "delete_vm_reference",
        }
    }

    pub(crate) fn plan(self) -> &'static str {
        match self {
            Self::Ignore => "Skip for now",
            Self::RecreateVm => "Recreate VM and wait for processes to start",
            Self::DeleteVm => "Delete VM",
            Self::DeleteVmReference => {
                "Delete VM reference (forceful; may need to manually delete VM from the Cloud to avoid IP conflicts)"
            }
        }
    }

    fn chosen(kind: ProblemKind, name: Option<&str>) -> Result<Self> {
        let Some(name) = name else { return Ok(Self::automatic(kind)) };
        let found = Self::of(kind).iter().find(|resolution| resolution.name() == name).copied();
        let unknown = || Error::new(Code::Generic, format!("Cannot find '{name}' resolution for '{}'", kind.name()));
        found.ok_or_else(unknown)
    }
}

impl ProblemKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MissingVm => "missing_vm",
            Self::UnresponsiveAgent => "unresponsive_agent",
        }
    }

    /// The sentence about an instance with this problem.
    pub(crate) fn description(self, instance: &Instance) -> String {
        let cid = instance.vm.as_ref().map(|vm| format!(" with cloud ID '{}'", vm.cid)).unwrap_or_default();
        let end = match self {
            Self::MissingVm => "missing",
            Self::UnresponsiveAgent => "is not responding",
        };
        format!("VM for '{}'{cid} {end}.", instance.title())
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { well, unresponsive, missing, ignored } = self;
        write!(formatter, "{well} OK, {unresponsive} unresponsive, {missing} missing, 0 unbound")?;
        if *ignored > 0 { write!(formatter, ", {ignored} ignored") } else { Ok(()) }
    }
}

pub(crate) async fn scan(director: Arc<Director>, task: Running, name: String) -> Result<String> {
    let _lock = director.locks.acquire(&name, &task).await?;
    let deployment = director.store.deployment(&name)?;
    let expects_vm = |instance: &&Instance| instance.state != DesiredState::Detached && instance.applied.is_some();
    let instances: Vec<Instance> = deployment.instances.iter().filter(expects_vm).cloned().collect();
    let stage = task.stage(&format!("Scanning {} VMs", instances.len()), &[], Some(2));
    let found = stage.step("Checking VM states", look(&director, &instances)).await?;
    let ignored = instances.iter().filter(|instance| instance.is_ignored).count();
    let tally = tally(&found, instances.len() - ignored, ignored);
    stage.step(&tally.to_string(), director.store.write(|model| note(model, &name, &found))).await?;
    Ok("scan complete".to_owned())
}

pub(crate) async fn resolve(
    director: Arc<Director>,
    task: Running,
    name: String,
    resolutions: Resolutions,
) -> Result<String> {
    let _lock = director.locks.acquire(&name, &task).await?;
    let deployment = director.store.deployment(&name)?;
    let subject = Subject { director: &director, task: &task, deployment: &name };
    let chosen: Vec<(&Problem, Option<&str>)> = deployment
        .problems
        .iter()
        .filter_map(|problem| Some((problem, resolutions.get(&problem.id.to_string())?.as_deref())))
        .collect();
    let stage = task.stage("Applying problem resolutions", &[], Some(chosen.len()));
    let failures = Mutex::new(Vec::new());
    let work = chosen.iter().map(|(problem, choice)| {
        let (stage, deployment, failures) = (&stage, &deployment, &failures);
        async move {
            let title = title(deployment, problem, *choice);
            let mended = stage.step(&title, mend(subject, deployment, problem, *choice)).await;
            if let Err(error) = mended {
                failures.lock().await.push(format!("Error resolving problem '{}': {error}", problem.id));
            }
            // One problem that stays must not keep the others from being mended; a cancellation does.
            subject.task.check()
        }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await?;
    let failures = failures.into_inner();
    match failures.is_empty() {
        true => Ok(format!("{} resolved", chosen.len())),
        false => Err(Error::new(Code::Generic, failures.join("\n"))),
    }
}

/// What is wrong, by the instance's id.
async fn look(director: &Director, instances: &[Instance]) -> Result<Vec<(ProblemKind, String)>> {
    let there = director.cpi.vms().await?;
    let looks: Vec<_> = instances
        .iter()
        .filter(|instance| !instance.is_ignored)
        .map(|instance| {
            let there = &there;
            async move { problem(director, instance, there).await.map(|kind| (kind, instance.id.clone())) }
        })
        .collect();
    let found: Vec<Option<_>> = stream::iter(looks).buffered(VMS_IN_FLIGHT).collect().await;
    Ok(found.into_iter().flatten().collect())
}

async fn problem(director: &Director, instance: &Instance, there: &[String]) -> Option<ProblemKind> {
    let Some(vm) = &instance.vm else { return Some(ProblemKind::MissingVm) };
    match director.cpi.vm_state(&vm.cid).await {
        VmState::Present { .. } => None,
        VmState::Missing | VmState::Silent if there.contains(&vm.cid) => Some(ProblemKind::UnresponsiveAgent),
        VmState::Missing | VmState::Silent => Some(ProblemKind::MissingVm),
    }
}

fn tally(found: &[(ProblemKind, String)], scanned: usize, ignored: usize) -> Tally {
    let missing = found.iter().filter(|(kind, _)| *kind == ProblemKind::MissingVm).count();
    Tally { well: scanned - found.len(), unresponsive: found.len() - missing, missing, ignored }
}

/// A problem that is there still keeps its id; one that is not found again is forgotten.
fn note(model: &mut Model, name: &str, found: &[(ProblemKind, String)]) -> Result<()> {
    let known = model.deployment(name)?.problems.clone();
    let mut problems = Vec::new();
    for (kind, instance) in found {
        let same = known.iter().find(|problem| problem.kind == *kind && problem.instance == *instance);
        let id = match same {
            Some(problem) => problem.id,
            None => model.shared_mut().new_id(),
        };
        problems.push(Problem { id, kind: *kind, instance: instance.clone() });
    }
    model.deployment_mut(name)?.problems = problems;
    Ok(())
}

fn title(deployment: &Deployment, problem: &Problem, choice: Option<&str>) -> String {
    let description = deployment.instance(&problem.instance).map(|instance| problem.kind.description(instance));
    let plan = Resolution::chosen(problem.kind, choice).map_or("no resolution", Resolution::plan);
    format!("{} ({} {}): {plan}", description.unwrap_or_default(), problem.kind.name(), problem.instance)
}

async fn mend(subject: Subject<'_>, deployment: &Deployment, problem: &Problem, choice: Option<&str>) -> Result<()> {
    let resolution = Resolution::chosen(problem.kind, choice)?;
    // An instance that went away meanwhile has no problem.
    if let Some(instance) = deployment.instance(&problem.instance) {
        if resolution != Resolution::Ignore {
            // Somebody may have taken it into their hands since the scan.
            if instance.is_ignored {
                return Err(Error::ignored(Code::IgnoredInstancesModification, &instance.slug()));
            }
            check_still_dead(subject.director, instance).await?;
        }
        match resolution {
            Resolution::Ignore => {}
            Resolution::RecreateVm => {
                let wanted = Wanted { state: instance.state, force: Force::Nothing, skips_drain: false };
                bring_to(subject, deployment, instance, wanted, true).await?;
            }
            Resolution::DeleteVm => turn::delete_vm(subject, instance).await?,
            Resolution::DeleteVmReference => turn::forget_vm(subject, instance).await?,
        }
    }
    let forget = |model: &mut Model| {
        model.deployment_mut(subject.deployment)?.problems.retain(|open| open.id != problem.id);
        Ok(())
    };
    subject.director.store.write(forget).await
}

/// What was true at the scan may be so no more: a VM that works is not to be replaced.
async fn check_still_dead(director: &Director, instance: &Instance) -> Result<()> {
    let Some(vm) = &instance.vm else { return Ok(()) };
    match director.cpi.vm_state(&vm.cid).await {
        VmState::Missing | VmState::Silent => Ok(()),
        VmState::Present { .. } => Err(Error::new(Code::Generic, "Agent is responding now, skipping resolution")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kinds: &[(ProblemKind, &str)]) -> Vec<(ProblemKind, String)> {
        kinds.iter().map(|(kind, instance)| (*kind, (*instance).to_owned())).collect()
    }

    #[test]
    fn a_problem_keeps_its_id_as_long_as_it_lasts() {
        use ProblemKind::{MissingVm, UnresponsiveAgent};
        let deployment = Deployment { name: "d".to_owned(), ..Deployment::default() };
        let mut model = Model::default();
        model.deployments.insert("d".to_owned(), Arc::new(deployment));
        let ids = |model: &Model| {
            model.deployment("d").unwrap().problems.iter().map(|p| (p.id, p.instance.clone())).collect::<Vec<_>>()
        };

        note(&mut model, "d", &found(&[(MissingVm, "a"), (UnresponsiveAgent, "b")])).unwrap();
        let first = ids(&model);
        note(&mut model, "d", &found(&[(UnresponsiveAgent, "b"), (UnresponsiveAgent, "a")])).unwrap();

        assert_eq!(first, [(1, "a".to_owned()), (2, "b".to_owned())]);
        assert_eq!(ids(&model), [(2, "b".to_owned()), (3, "a".to_owned())], "another problem of a is another one");
    }

    #[test]
    fn a_resolution_is_one_of_those_that_are_offered() {
        use ProblemKind::{MissingVm, UnresponsiveAgent};
        let chosen = |kind, name| Resolution::chosen(kind, name).map_err(|error| error.description);

        assert_eq!(chosen(MissingVm, None), Ok(Resolution::RecreateVm));
        assert_eq!(chosen(UnresponsiveAgent, None), Ok(Resolution::Ignore));
        assert_eq!(chosen(UnresponsiveAgent, Some("delete_vm")), Ok(Resolution::DeleteVm));
        assert!(chosen(MissingVm, Some("delete_vm")).unwrap_err().contains("'delete_vm' resolution for 'missing_vm'"));
    }

    #[test]
    fn a_tally_counts_each_instance_once() {
        use ProblemKind::{MissingVm, UnresponsiveAgent};
        let found = found(&[(MissingVm, "a"), (UnresponsiveAgent, "b"), (UnresponsiveAgent, "c")]);

        assert_eq!(tally(&found, 5, 1).to_string(), "2 OK, 2 unresponsive, 1 missing, 0 unbound, 1 ignored");
        assert_eq!(tally(&[], 2, 0).to_string(), "2 OK, 0 unresponsive, 0 missing, 0 unbound");
    }
}
