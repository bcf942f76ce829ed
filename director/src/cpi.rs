//! The cloud provider interface: what the director asks of the machine below it. The one that is here runs a VM as a
//! directory, an address of its own out of 127.0.0.0/8 and a group of supervised processes. Nothing but directories and
//! processes is remembered, so a director that comes back finds every VM again.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// Where things are on this machine.
pub(crate) struct Layout {
    /// VMs, disks and the shared package cache are below it.
    pub(crate) state: PathBuf,
    /// The programs of the jobs.
    pub(crate) programs: PathBuf,
    /// The release's documents; every VM sees them as `packages/tandem/manifests`.
    pub(crate) documents: PathBuf,
    /// This program: it is also the supervisor of each VM.
    pub(crate) program: PathBuf,
}

/// One job of a VM. `config` holds secrets, so there is no `Debug`.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// The supervised program, a file name in [`Layout::programs`].
    pub(crate) program: Option<String>,
    /// The program of the errand, a file name in [`Layout::programs`].
    pub(crate) errand: Option<String>,
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
    /// Its supervisor does not answer: in BOSH's words an unresponsive agent, or no VM at all.
    Missing,
    Present {
        /// One for each job with a program, in the order of the jobs.
        processes: Vec<Process>,
    },
}

/// One supervised process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// The job's name.
    pub(crate) name: String,
    pub(crate) state: ProcessState,
    pub(crate) pid: Option<u32>,
    pub(crate) uptime_secs: u64,
    pub(crate) memory_kb: u64,
}

/// As monit sees a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
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

/// The process CPI.
#[derive(Clone)]
pub(crate) struct Cpi {
    layout: Arc<Layout>,
}

impl Cpi {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout: Arc::new(layout) }
    }

    /// Lay a VM out and start its supervisor. No job runs yet.
    pub(crate) async fn create_vm(&self, _order: &VmOrder) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    /// End every process of a VM and remove its directory, never its disk. No such VM is a success.
    pub(crate) async fn delete_vm(&self, _cid: &str) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    /// Give the VM other jobs, or its jobs other configurations; to be called between `stop_jobs` and `start_jobs`.
    pub(crate) async fn configure_vm(&self, _cid: &str, _jobs: &[Job]) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    pub(crate) async fn start_jobs(&self, _cid: &str) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    /// SIGTERM, at most 60 s, SIGKILL. Returns when no program of the VM runs any more.
    pub(crate) async fn stop_jobs(&self, _cid: &str) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    pub(crate) async fn vm_state(&self, _cid: &str) -> VmState {
        VmState::Missing
    }

    /// Run an errand to its end. When `cancelled`: SIGTERM, and SIGKILL 10 s later.
    pub(crate) async fn run_errand(
        &self,
        _cid: &str,
        _errand: &str,
        _cancelled: CancellationToken,
    ) -> anyhow::Result<ErrandOutput> {
        anyhow::bail!("not built yet")
    }

    pub(crate) async fn create_disk(&self, _cid: &str, _size_mb: u64) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    /// No such disk is a success.
    pub(crate) async fn delete_disk(&self, _cid: &str) -> anyhow::Result<()> {
        anyhow::bail!("not built yet")
    }

    /// Every VM that has a directory or a process on this machine.
    pub(crate) async fn vms(&self) -> anyhow::Result<Vec<String>> {
        anyhow::bail!("not built yet")
    }
}
