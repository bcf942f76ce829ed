//! The cloud provider interface: what the director asks of the machine below it. A VM is a directory, an address of its
//! own out of 127.0.0.0/8 and a group of supervised processes; or, where that is asked for, it is simulated. Nothing but
//! directories and processes is remembered, so a director that comes back finds every VM again.

mod errand;
mod files;
mod process;
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::fault::Faults;
use crate::vm::marked;
use crate::vm::protocol::{self, Request};
use simulated::Simulated;

/// The director gives an agent 5 s to say how it is.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Starting only begins; nothing is waited for.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The supervisor's own patience, once for the programs and once for what they left behind, and a rest.
const STOP_TIMEOUT: Duration = Duration::from_secs(150);

/// Where things are on this machine.
pub(crate) struct Layout {
    /// VMs, disks and the shared package cache are below it.
    pub(crate) state: PathBuf,
    /// The programs of the jobs. A MySQL server beside their directory (`../mysql/bin/mysqld`) is every VM's package `mysql`.
    pub(crate) programs: PathBuf,
    /// The release's documents; every VM sees them as `packages/tandem/manifests`.
    pub(crate) documents: PathBuf,
    /// This program: it is also the supervisor of each VM.
    pub(crate) program: PathBuf,
}

/// One job of a VM. `config` holds secrets, so there is no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// The supervised program, a file name in [`Layout::programs`].
    pub(crate) program: Option<String>,
    /// The program of the errand, a file name in [`Layout::programs`].
    pub(crate) errand: Option<String>,
    /// What is run before the VM's jobs are stopped: a program, a file name in [`Layout::programs`], and its arguments.
    #[serde(default)]
    pub(crate) pre_stop: Vec<String>,
    /// What the program listens on.
    pub(crate) ports: Vec<u16>,
    /// The job's `config.json`.
    pub(crate) config: serde_json::Value,
}

/// What a new VM is made of.
#[derive(Clone)]
pub(crate) struct VmOrder {
    pub(crate) cid: String,
    pub(crate) address: Ipv4Addr,
    /// The persistent disk to attach.
    pub(crate) disk: Option<String>,
    pub(crate) jobs: Vec<Job>,
}

/// What is known of a VM now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VmState {
    /// There is no supervisor: nobody takes the call, or there is no VM at all.
    Missing,
    /// There may be one, but it does not answer in time, or we could not ask. Its programs may run.
    Silent,
    Present {
        /// One for each job with a program, in the order of the jobs.
        processes: Vec<Process>,
    },
}

/// One supervised process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The job's name.
    pub(crate) name: String,
    pub(crate) state: ProcessState,
    pub(crate) pid: Option<u32>,
    pub(crate) uptime_secs: u64,
    pub(crate) memory_kb: u64,
}

/// As monit sees a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProcessState {
    /// It was started and listens on every port of its job.
    Running,
    /// It was asked to run and does not yet.
    Starting,
    Stopped,
    /// It ended by itself and is about to be started again.
    Failing,
}

/// How an errand ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrandOutput {
    /// 128+N where signal N ended it.
    pub(crate) exit_code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What becomes of a VM whose jobs are stopped. Its instance and its deployment stay: of those that go nobody asks anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextState {
    Keep,
    Delete,
}

impl NextState {
    /// BOSH's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}

/// The CPI of this director.
#[derive(Clone)]
pub(crate) struct Cpi {
    layout: Arc<Layout>,
    /// None where every VM is a group of processes.
    simulated: Option<Arc<Simulated>>,
}

impl Cpi {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout: Arc::new(layout), simulated: None }
    }

    /// VMs with a MySQL server are simulated, and have these faults.
    pub(crate) fn simulating(layout: Layout, faults: Arc<Faults>) -> anyhow::Result<Self> {
        let layout = Arc::new(layout);
        let simulated = Simulated::open(layout.clone(), faults)?;
        Ok(Self { layout, simulated: Some(Arc::new(simulated)) })
    }

    pub(crate) fn simulated(&self) -> Option<&Simulated> {
        self.simulated.as_deref()
    }

    /// The root directory of a VM, for `spec.root`.
    pub(crate) fn root(&self, cid: &str) -> PathBuf {
        self.layout.vms().join(cid)
    }

    /// Lay a VM out and start its supervisor. No job runs yet. Fails, and leaves nothing, where the address or a port
    /// of a job is taken.
    pub(crate) async fn create_vm(&self, order: &VmOrder) -> anyhow::Result<()> {
        match self.simulated() {
            Some(simulated) if Simulated::takes(&order.jobs) => simulated.create_vm(order).await,
            Some(_) | None => process::create_vm(&self.layout, order).await,
        }
    }

    /// End every process of a VM and remove its directory, never its disk. No such VM is a success.
    pub(crate) async fn delete_vm(&self, cid: &str) -> anyhow::Result<()> {
        match self.simulating_vm(cid) {
            Some(simulated) => simulated.delete_vm(cid).await,
            None => process::delete_vm(&self.layout, cid).await,
        }
    }

    /// Give the VM other jobs, or its jobs other configurations; to be called between `stop_jobs` and `start_jobs`.
    pub(crate) async fn configure_vm(&self, cid: &str, jobs: &[Job]) -> anyhow::Result<()> {
        if let Some(simulated) = self.simulating_vm(cid) {
            return simulated.configure_vm(cid, jobs).await;
        }
        let vm = self.layout.vm(cid)?.read()?;
        process::configure(&self.layout, cid, vm.address, jobs)
    }

    /// Begin to start the programs; [`Cpi::vm_state`] says when they run.
    pub(crate) async fn start_jobs(&self, cid: &str) -> anyhow::Result<()> {
        match self.simulating_vm(cid) {
            Some(simulated) => simulated.start_jobs(cid).await,
            None => self.ask(cid, Request::Start, START_TIMEOUT).await.map(drop),
        }
    }

    /// SIGTERM, at most 60 s, SIGKILL. Returns when no program of the VM runs any more.
    pub(crate) async fn stop_jobs(&self, cid: &str) -> anyhow::Result<()> {
        match self.simulating_vm(cid) {
            Some(simulated) => simulated.stop_jobs(cid).await,
            None => self.ask(cid, Request::Stop, STOP_TIMEOUT).await.map(drop),
        }
    }

    /// Run what the VM has to run before its jobs are stopped, and say what each job's program came to. When `cancelled`, as
    /// an errand.
    pub(crate) async fn pre_stop(
        &self,
        cid: &str,
        next: NextState,
        cancelled: CancellationToken,
    ) -> anyhow::Result<Vec<(String, ErrandOutput)>> {
        match self.simulating_vm(cid) {
            Some(_) => Ok(Vec::new()),
            None => errand::before_stop(&self.layout, cid, next, cancelled).await,
        }
    }

    pub(crate) async fn vm_state(&self, cid: &str) -> VmState {
        if let Some(simulated) = self.simulating_vm(cid) {
            return simulated.vm_state(cid).await;
        }
        match self.ask(cid, Request::Status, STATE_TIMEOUT).await {
            Ok(processes) => VmState::Present { processes },
            Err(error) => {
                tracing::debug!(cid, "the VM does not say how it is: {error:#}");
                if nobody_is_there(&error) { VmState::Missing } else { VmState::Silent }
            }
        }
    }

    /// Run an errand to its end. When `cancelled`: SIGTERM, and SIGKILL 10 s later.
    pub(crate) async fn run_errand(
        &self,
        cid: &str,
        errand: &str,
        cancelled: CancellationToken,
    ) -> anyhow::Result<ErrandOutput> {
        match self.simulating_vm(cid) {
            Some(simulated) => simulated.run_errand(cid, errand, cancelled).await,
            None => errand::run(&self.layout, cid, errand, cancelled).await,
        }
    }

    /// End the errands that a director left running when it died. To be called before any task runs.
    pub(crate) async fn end_errands(&self) -> anyhow::Result<()> {
        marked::kill_errands(&process::list(&self.layout)?).await
    }

    /// The size is not enforced: a disk is a directory, and grows as far as the file system below it.
    pub(crate) async fn create_disk(&self, cid: &str, _size_mb: u64) -> anyhow::Result<()> {
        files::make_dir(&self.layout.disk(cid)?)
    }

    /// No such disk is a success.
    pub(crate) async fn delete_disk(&self, cid: &str) -> anyhow::Result<()> {
        files::remove_dir(&self.layout.disk(cid)?).await
    }

    /// Every VM that exists on this machine.
    pub(crate) async fn vms(&self) -> anyhow::Result<Vec<String>> {
        process::list(&self.layout)
    }

    fn simulating_vm(&self, cid: &str) -> Option<&Simulated> {
        self.simulated().filter(|simulated| simulated.has(cid))
    }

    async fn ask(&self, cid: &str, request: Request, timeout: Duration) -> anyhow::Result<Vec<Process>> {
        let dir = self.layout.vm(cid)?;
        let answer = protocol::ask(&dir.run(), request, timeout).await;
        anyhow::Context::with_context(answer, || format!("VM {cid}"))
    }
}

/// The kernel itself says so: a supervisor that is slow, or a director that is out of open files, looks different.
fn nobody_is_there(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| matches!(cause.kind(), ConnectionRefused | NotFound))
}
