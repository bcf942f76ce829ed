//! One instance's turn: stop its jobs, replace its VM, give it its configuration, start it, wait until it runs. Every
//! step is remembered when it is done, so that whoever comes next begins with the truth.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::enter::remove_instance;
use super::pre_stop::pre_stop;
use crate::clock;
use crate::cpi::{Job, NextState, Process, ProcessState, VmOrder, VmState};
use crate::director::Director;
use crate::error::{Code, Error, Result};
use crate::event::Deed;
use crate::manifest::Group;
use crate::manifest::update::Watch;
use crate::model::{Applied, DesiredState, Disk, Instance, Vm};
use crate::plan::{self, Observed, Steps, Wanted};
use crate::render::Rendered;
use crate::task::Running;

/// How often a VM is asked whether its jobs run. Asking costs one message on a local socket.
const POLL: Duration = Duration::from_millis(20);

/// For whom the work is done.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) director: &'a Director,
    pub(crate) task: &'a Running,
    pub(crate) deployment: &'a str,
}

impl Subject<'_> {
    /// Do something to an instance between its two events.
    async fn telling<T>(self, deed: Deed, instance: &Instance, work: impl Future<Output = Result<T>>) -> Result<T> {
        let deed = deed.of(self.deployment).on(instance.slug());
        self.director.events.around(self.task.actor(), deed, work).await
    }
}

/// An instance and what is to be done with it.
pub(crate) struct Turn {
    pub(crate) instance: Instance,
    pub(crate) steps: Steps,
    wanted: Wanted,
    rendered: Rendered,
    revision: u64,
    vm_type: String,
    disk_mb: Option<u64>,
}

impl Turn {
    pub(crate) fn new(instance: Instance, group: &Group, revision: u64, rendered: Rendered, wanted: Wanted) -> Self {
        let (vm_type, disk_mb) = (group.vm_type.clone(), group.disk_mb);
        Self { instance, steps: Steps::default(), wanted, rendered, revision, vm_type, disk_mb }
    }

    /// See what is there, and decide. A VM whose supervisor is gone is an error unless it may be replaced.
    pub(crate) async fn observe(&mut self, director: &Director, may_replace_dead: bool) -> Result<()> {
        let vm = observe_vm(director, &self.instance, self.wanted.state).await;
        if vm == plan::Vm::Dead && !may_replace_dead {
            return Err(unresponsive(&self.instance));
        }
        let has_right_disk = self.instance.disk.is_some() == self.disk_mb.is_some();
        let is_right = |vm: &Vm| vm.vm_type == self.vm_type && vm.address == self.instance.address;
        let observed = Observed {
            vm,
            has_right_vm: has_right_disk && self.instance.vm.as_ref().is_some_and(is_right),
            has_right_jobs: self.instance.applied.as_ref().is_some_and(|a| a.digest == self.rendered.digest),
        };
        self.steps = plan::steps(observed, self.wanted);
        Ok(())
    }

    /// Also an instance that only changes its wanted state has work.
    pub(crate) fn has_work(&self) -> bool {
        !self.steps.are_none() || self.wanted.state != self.instance.state
    }

    /// Make the disk if there is none, and the VM. It is remembered only when it is whole: what a crash leaves before
    /// that is a VM that nobody knows, and the next start of the director clears it away.
    pub(crate) async fn create_vm(&mut self, subject: Subject<'_>) -> Result<()> {
        self.instance.vm = Some(self.new_vm(subject).await?);
        self.steps.create_vm = false;
        Ok(())
    }

    pub(crate) async fn update(&self, subject: Subject<'_>, watch: Watch) -> Result<()> {
        subject.task.check()?;
        let action = if self.instance.applied.is_none() { "create" } else { self.steps.action(self.wanted.force) };
        let deed = Deed::new(action, "instance", &self.instance.slug());
        subject.telling(deed, &self.instance, self.take_steps(subject, watch)).await
    }

    async fn take_steps(&self, subject: Subject<'_>, watch: Watch) -> Result<()> {
        let cpi = &subject.director.cpi;
        let mut vm = self.instance.vm.clone();
        if let (true, Some(vm)) = (self.steps.stop, &vm) {
            if !self.wanted.skips_drain {
                pre_stop(subject, &vm.cid, self.next_state()).await;
                subject.task.check()?;
            }
            cpi.stop_jobs(&vm.cid).await?;
        }
        if self.steps.delete_vm {
            delete_vm(subject, &self.instance).await?;
            vm = None;
        }
        if self.steps.create_vm {
            vm = Some(self.new_vm(subject).await?);
        }
        if let (true, Some(vm)) = (self.steps.configure, &vm) {
            // From here to `remember` nobody knows what the VM was told; no digest is empty, so it will be told again.
            let forget =
                |instance: &mut Instance| instance.applied.iter_mut().for_each(|applied| applied.digest.clear());
            change(subject, &self.instance.id, forget).await?;
            cpi.configure_vm(&vm.cid, &self.jobs(subject.director, &vm.cid)).await?;
        }
        self.remember(subject).await?;
        if let (true, Some(vm)) = (self.steps.start, &vm) {
            let begun = Instant::now();
            cpi.start_jobs(&vm.cid).await?;
            wait_until_running(subject, &self.instance, &vm.cid, watch, begun).await?;
        }
        Ok(())
    }

    fn next_state(&self) -> NextState {
        if self.steps.delete_vm { NextState::Delete } else { NextState::Keep }
    }

    async fn new_vm(&self, subject: Subject<'_>) -> Result<Vm> {
        subject.task.check()?;
        let director = subject.director;
        let disk = self.prepare_disk(subject).await?;
        let (cid, address) = (new_cid("vm"), self.instance.address);
        let order = VmOrder { cid: cid.clone(), address, disk, jobs: self.jobs(director, &cid) };
        let creation = async { Ok(director.cpi.create_vm(&order).await?) };
        subject.telling(Deed::new("create", "vm", &cid), &self.instance, creation).await?;
        let vm = Vm {
            cid,
            agent_id: uuid::Uuid::new_v4().to_string(),
            created_at: clock::rfc3339(OffsetDateTime::now_utc()),
            vm_type: self.vm_type.clone(),
            address,
        };
        let (made, applied) = (vm.clone(), self.applied());
        let remember = |instance: &mut Instance| (instance.vm, instance.applied) = (Some(made), Some(applied));
        match change(subject, &self.instance.id, remember).await {
            Ok(()) => Ok(vm),
            // Nobody would know it, and it would keep its address.
            Err(error) => director.cpi.delete_vm(&vm.cid).await.map_err(Into::into).and(Err(error)),
        }
    }

    /// A disk that is not wanted any more becomes an orphan. A new size needs no new disk: a directory has no size.
    async fn prepare_disk(&self, subject: Subject<'_>) -> Result<Option<String>> {
        let (id, deployment, cpi) = (&self.instance.id, subject.deployment, &subject.director.cpi);
        let disk = match (&self.instance.disk, self.disk_mb) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                let (old, now) = (self.instance.clone(), clock::spaced(OffsetDateTime::now_utc()));
                let forget = |model: &mut crate::store::Model| {
                    model.orphan_disk(deployment, &old, now);
                    model
                        .deployment_mut(deployment)?
                        .instance_mut(id)
                        .iter_mut()
                        .for_each(|instance| instance.disk = None);
                    Ok(())
                };
                return subject.director.store.write(forget).await.map(|()| None);
            }
            (Some(disk), Some(size_mb)) => Disk { cid: disk.cid.clone(), size_mb },
            (None, Some(size_mb)) => Disk { cid: new_cid("disk"), size_mb },
        };
        let (cid, size_mb) = (disk.cid.clone(), disk.size_mb);
        if self.instance.disk.as_ref() != Some(&disk) {
            change(subject, id, |instance| instance.disk = Some(disk)).await?;
        }
        // Remembered first, so that a crash leaves no disk that nobody knows; made for certain as long as no VM has had
        // it. Later a disk that is missing is a loss to be seen, not to be papered over with an empty one.
        if self.instance.applied.is_none() || self.instance.disk.is_none() {
            cpi.create_disk(&cid, size_mb).await?;
        }
        Ok(Some(cid))
    }

    /// Only the CPI knows where the VM's directory is.
    fn jobs(&self, director: &Director, cid: &str) -> Vec<Job> {
        let root = director.cpi.root(cid);
        let mut jobs = self.rendered.jobs.clone();
        for job in &mut jobs {
            job.config["spec"]["root"] = json!(root);
        }
        jobs
    }

    fn applied(&self) -> Applied {
        Applied { revision: self.revision, digest: self.rendered.digest.clone() }
    }

    async fn remember(&self, subject: Subject<'_>) -> Result<()> {
        let state = self.wanted.state;
        let (applied, size_mb) = (self.applied(), self.disk_mb);
        let is_known = self.instance.state == state && !self.steps.configure;
        if is_known {
            return Ok(());
        }
        let is_configured = self.steps.configure;
        change(subject, &self.instance.id, |instance| {
            instance.state = state;
            if is_configured {
                instance.applied = Some(applied);
                instance.disk.iter_mut().for_each(|disk| disk.size_mb = size_mb.unwrap_or(disk.size_mb));
            }
        })
        .await
    }
}

/// What may be wrong with a VM that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tolerated {
    Nothing,
    /// It does not answer.
    Dead,
    /// Also that its jobs do not stop.
    Everything,
}

/// End an instance: its jobs, its VM; its disk becomes an orphan.
pub(crate) async fn delete(subject: Subject<'_>, instance: &Instance, tolerated: Tolerated) -> Result<()> {
    subject.task.check()?;
    let director = subject.director;
    match observe_vm(director, instance, instance.state).await {
        plan::Vm::Dead if tolerated == Tolerated::Nothing => return Err(unresponsive(instance)),
        plan::Vm::Absent | plan::Vm::Dead => {}
        plan::Vm::Alive { .. } => stop(subject, instance, tolerated == Tolerated::Everything).await?,
    }
    let deletion = async {
        delete_vm(subject, instance).await?;
        director.store.write(|model| remove_instance(model, subject.deployment, &instance.id)).await
    };
    subject.telling(Deed::new("delete", "instance", &instance.slug()), instance, deletion).await
}

async fn stop(subject: Subject<'_>, instance: &Instance, anyway: bool) -> Result<()> {
    let Some(vm) = &instance.vm else { return Ok(()) };
    match subject.director.cpi.stop_jobs(&vm.cid).await {
        Err(cause) if anyway => {
            subject.task.debug(&format!("the jobs of {} could not be stopped: {cause:#}", instance.title()));
            Ok(())
        }
        stopped => Ok(stopped?),
    }
}

pub(crate) async fn delete_vm(subject: Subject<'_>, instance: &Instance) -> Result<()> {
    let Some(vm) = &instance.vm else { return Ok(()) };
    let deletion = async { Ok(subject.director.cpi.delete_vm(&vm.cid).await?) };
    subject.telling(Deed::new("delete", "vm", &vm.cid), instance, deletion).await?;
    forget_vm(subject, instance).await
}

pub(crate) async fn forget_vm(subject: Subject<'_>, instance: &Instance) -> Result<()> {
    change(subject, &instance.id, |instance| instance.vm = None).await
}

/// A process VM whose supervisor is gone is dead for certain, so nobody waits 3 times 45 s for an agent as a real
/// director does; the words are the same.
pub(crate) fn unresponsive(instance: &Instance) -> Error {
    let agent = instance.vm.as_ref().map_or("", |vm| vm.agent_id.as_str());
    let slug = instance.slug();
    let message = format!("Timed out sending 'get_state' to instance: '{slug}', agent-id: '{agent}' after 45 seconds");
    Error::new(Code::AgentTimeout, message)
}

async fn observe_vm(director: &Director, instance: &Instance, wanted: DesiredState) -> plan::Vm {
    let Some(vm) = &instance.vm else { return plan::Vm::Absent };
    let processes = match director.cpi.vm_state(&vm.cid).await {
        VmState::Present { processes } => processes,
        VmState::Missing | VmState::Silent => return plan::Vm::Dead,
    };
    let is_running = match wanted {
        DesiredState::Started => processes.iter().all(|process| process.state == ProcessState::Running),
        DesiredState::Stopped | DesiredState::Detached => {
            processes.iter().any(|process| process.state != ProcessState::Stopped)
        }
    };
    plan::Vm::Alive { is_running }
}

async fn wait_until_running(
    subject: Subject<'_>,
    instance: &Instance,
    cid: &str,
    watch: Watch,
    begun: Instant,
) -> Result<()> {
    let running = async {
        sleep_until(begun + watch.not_before).await;
        loop {
            match not_running(subject, cid).await {
                Some(jobs) if jobs.is_empty() => return Ok(()),
                Some(_) => sleep(POLL).await,
                None => return Err(unresponsive(instance)),
            }
        }
    };
    tokio::select! {
        ran = timeout_at(begun + watch.not_after, running) => match ran {
            Ok(ran) => ran,
            Err(_) => Err(not_running_after_update(instance, not_running(subject, cid).await)),
        },
        () = subject.task.cancelled.cancelled() => Err(Error::cancelled(subject.task.id)),
    }
}

/// The names of the jobs that do not run; `None` when the VM does not answer.
async fn not_running(subject: Subject<'_>, cid: &str) -> Option<Vec<String>> {
    let processes = match subject.director.cpi.vm_state(cid).await {
        VmState::Present { processes } => processes,
        VmState::Missing | VmState::Silent => return None,
    };
    let is_failed = |process: &Process| process.state != ProcessState::Running;
    Some(processes.into_iter().filter(is_failed).map(|process| process.name).collect())
}

fn not_running_after_update(instance: &Instance, failed: Option<Vec<String>>) -> Error {
    let Some(failed) = failed else { return unresponsive(instance) };
    let (title, jobs) = (instance.title(), failed.join(", "));
    let message = format!("'{title}' is not running after update. Review logs for failed jobs: {jobs}");
    Error::new(Code::NotRunningAfterUpdate, message)
}

async fn change(subject: Subject<'_>, id: &str, act: impl FnOnce(&mut Instance)) -> Result<()> {
    let deployment = subject.deployment;
    let apply = |model: &mut crate::store::Model| {
        model.deployment_mut(deployment)?.instance_mut(id).map(act);
        Ok(())
    };
    subject.director.store.write(apply).await
}

fn new_cid(kind: &str) -> String {
    format!("{kind}-{}", uuid::Uuid::new_v4().simple())
}
