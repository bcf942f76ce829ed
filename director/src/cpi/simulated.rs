//! The simulated CPI: a MySQL VM is a file, a listening agent and a few words about its server, without a process, so that
//! one machine has thousands of them. What a broker can see of a VM (its state, its agent over mutual TLS, its errands)
//! is as on a real one; there is no MySQL. Faults are played here on demand.
//!
//! A VM is in `vms/CID/simulated.json`, what its server knows in `simulated.json` on its disk: a director that comes back
//! finds both, and a VM that is made again has the server of before.

mod agent;
mod errand;
mod server;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{ErrandOutput, Job, Layout, Process, ProcessState, VmOrder, VmState, files, process};
use crate::fault::{Fault, Faults, Kind, Point};
use crate::file;
use agent::Agent;
use server::Server;

/// A VM with this job is simulated, and no other: the broker is a process also beside simulated servers.
const SIMULATED_JOB: &str = "mysql-agent";
const FILE: &str = "simulated.json";
/// A script that SIGTERM ended.
const TERMINATED: i32 = 143;

/// All simulated VMs of a director.
pub(crate) struct Simulated {
    layout: Arc<Layout>,
    world: World,
}

/// What the VMs, their agents and their errands share.
#[derive(Clone)]
struct World {
    machines: Arc<Mutex<BTreeMap<String, Machine>>>,
    faults: Arc<Faults>,
}

/// One VM.
struct Machine {
    kept: Kept,
    server: Server,
    /// Where the server is kept; nowhere without a disk.
    disk: Option<PathBuf>,
    started: Option<Instant>,
    agent: Option<Agent>,
}

/// What a VM is, in its file. It holds the keys of its agent, so there is no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    address: Ipv4Addr,
    disk: Option<String>,
    jobs: Vec<Job>,
    is_running: bool,
}

/// Whose VM it is, for the faults.
#[derive(Clone)]
struct Owner {
    deployment: String,
    index: Option<u32>,
}

impl Simulated {
    /// Find the VMs of an earlier director again, and start the agents of those that ran.
    pub(crate) fn open(layout: Arc<Layout>, faults: Arc<Faults>) -> anyhow::Result<Self> {
        let world = World { machines: Arc::default(), faults };
        let simulated = Self { layout, world };
        for cid in process::list(&simulated.layout)? {
            let path = simulated.path(&cid)?;
            if path.is_file() {
                let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                let kept: Kept =
                    serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))?;
                let is_running = kept.is_running;
                simulated.enter(&cid, kept)?;
                if is_running {
                    simulated.power_on(&cid)?;
                }
            }
        }
        Ok(simulated)
    }

    /// Whether a VM with these jobs would be simulated.
    pub(super) fn takes(jobs: &[Job]) -> bool {
        jobs.iter().any(|job| job.name == SIMULATED_JOB)
    }

    pub(super) fn has(&self, cid: &str) -> bool {
        self.world.lock().contains_key(cid)
    }

    pub(super) async fn create_vm(&self, order: &VmOrder) -> anyhow::Result<()> {
        let VmOrder { cid, address, disk, jobs } = order.clone();
        self.disturb("create_vm", &Owner::of(&jobs)).await?;
        files::make_dir(self.layout.vm(&cid)?.root())?;
        let kept = Kept { address, disk, jobs, is_running: false };
        self.enter(&cid, kept)?;
        self.save(&cid)
    }

    pub(super) async fn delete_vm(&self, cid: &str) -> anyhow::Result<()> {
        self.disturb("delete_vm", &self.owner(cid)).await?;
        self.power_off(cid).await;
        files::remove_dir(self.layout.vm(cid)?.root()).await?;
        self.world.lock().remove(cid);
        Ok(())
    }

    pub(super) async fn configure_vm(&self, cid: &str, jobs: &[Job]) -> anyhow::Result<()> {
        self.disturb("configure_vm", &self.owner(cid)).await?;
        self.change(cid, |machine| machine.kept.jobs = jobs.to_vec())?;
        self.save(cid)
    }

    pub(super) async fn start_jobs(&self, cid: &str) -> anyhow::Result<()> {
        self.disturb("start_jobs", &self.owner(cid)).await?;
        self.power_on(cid)?;
        self.save(cid)
    }

    pub(super) async fn stop_jobs(&self, cid: &str) -> anyhow::Result<()> {
        self.disturb("stop_jobs", &self.owner(cid)).await?;
        self.power_off(cid).await;
        self.save(cid)
    }

    pub(super) async fn vm_state(&self, cid: &str) -> VmState {
        let owner = self.owner(cid);
        let fault = self.world.faults.take(owner.point("vm_state"));
        if let Some(fault) = &fault {
            tokio::time::sleep(fault.latency()).await;
        }
        let is_failing = match fault.map(|fault| fault.fault) {
            Some(Kind::Silent) => return VmState::Silent,
            Some(Kind::Missing) => {
                self.lose(cid).await;
                return VmState::Missing;
            }
            kind => kind == Some(Kind::Failing),
        };
        let machines = self.world.lock();
        let Some(machine) = machines.get(cid) else { return VmState::Missing };
        VmState::Present { processes: machine.processes(is_failing) }
    }

    pub(super) async fn run_errand(
        &self,
        cid: &str,
        errand: &str,
        cancelled: CancellationToken,
    ) -> anyhow::Result<ErrandOutput> {
        if let Some(fault) = self.world.faults.take(self.owner(cid).point("run_errand")) {
            tokio::select! {
                () = tokio::time::sleep(fault.latency()) => {}
                () = cancelled.cancelled() => return Ok(ErrandOutput::silent(TERMINATED)),
            }
            match fault.fault {
                Kind::Fail => bail!(sentence(&fault)),
                Kind::Exit => {
                    let Fault { exit_code, stdout, stderr, .. } = fault;
                    return Ok(ErrandOutput { exit_code: exit_code.unwrap_or(1), stdout, stderr });
                }
                _ => {}
            }
        }
        errand::run(&self.world, cid, errand)
    }

    /// Every simulated VM, and how many of them run.
    pub(crate) fn count(&self) -> (usize, usize) {
        let machines = self.world.lock();
        (machines.len(), machines.values().filter(|machine| machine.kept.is_running).count())
    }

    fn enter(&self, cid: &str, kept: Kept) -> anyhow::Result<()> {
        let disk = kept.disk.as_deref().map(|disk| self.layout.disk(disk)).transpose()?;
        let server = disk.as_deref().map(Server::read).transpose()?.unwrap_or_default();
        let machine = Machine { kept, server, disk, started: None, agent: None };
        self.world.lock().insert(cid.to_owned(), machine);
        Ok(())
    }

    fn power_on(&self, cid: &str) -> anyhow::Result<()> {
        let (agent_world, id) = (self.world.clone(), cid.to_owned());
        let mut machines = self.world.lock();
        let machine = machines.get_mut(cid).with_context(|| format!("there is no VM {cid}"))?;
        if machine.agent.is_none() {
            machine.agent = Some(Agent::start(agent_world, id, &machine.kept)?);
        }
        machine.kept.is_running = true;
        machine.started.get_or_insert_with(Instant::now);
        machine.server.start(&machine.kept);
        machine.save_server()
    }

    async fn power_off(&self, cid: &str) {
        let agent = self.world.lock().get_mut(cid).and_then(|machine| {
            machine.kept.is_running = false;
            machine.started = None;
            machine.agent.take()
        });
        if let Some(agent) = agent {
            agent.stop().await;
        }
    }

    /// The machine below it is gone; its disk is not.
    async fn lose(&self, cid: &str) {
        self.power_off(cid).await;
        self.world.lock().remove(cid);
    }

    fn owner(&self, cid: &str) -> Owner {
        self.world.lock().get(cid).map_or_else(|| Owner::of(&[]), |machine| Owner::of(&machine.kept.jobs))
    }

    async fn disturb(&self, act: &str, owner: &Owner) -> anyhow::Result<()> {
        let Some(fault) = self.world.faults.take(owner.point(act)) else { return Ok(()) };
        tokio::time::sleep(fault.latency()).await;
        if fault.fault == Kind::Fail { bail!(sentence(&fault)) } else { Ok(()) }
    }

    fn change(&self, cid: &str, act: impl FnOnce(&mut Machine)) -> anyhow::Result<()> {
        let mut machines = self.world.lock();
        machines.get_mut(cid).map(act).with_context(|| format!("there is no VM {cid}"))
    }

    fn save(&self, cid: &str) -> anyhow::Result<()> {
        let kept = self.world.lock().get(cid).map(|machine| machine.kept.clone());
        let text = serde_json::to_vec(&kept).context("write a simulated VM")?;
        file::replace_unflushed(&self.path(cid)?, &text)
    }

    fn path(&self, cid: &str) -> anyhow::Result<PathBuf> {
        Ok(self.layout.vm(cid)?.root().join(FILE))
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    fn processes(&self, is_failing: bool) -> Vec<Process> {
        let state = match self.kept.is_running {
            true if is_failing => ProcessState::Failing,
            true => ProcessState::Running,
            false => ProcessState::Stopped,
        };
        let uptime_secs = self.started.map_or(0, |started| started.elapsed().as_secs());
        let supervised = self.kept.jobs.iter().filter(|job| job.program.is_some());
        let process =
            |job: &Job| Process { name: job.name.clone(), state, pid: None, uptime_secs, memory_kb: 100 * 1024 };
        supervised.map(process).collect()
    }

    fn save_server(&self) -> anyhow::Result<()> {
        self.disk.as_deref().map_or(Ok(()), |disk| self.server.write(disk))
    }
}

impl Kept {
    /// The configuration of the agent.
    fn config(&self) -> &Value {
        let job = self.jobs.iter().find(|job| job.name == SIMULATED_JOB);
        job.map_or(&Value::Null, |job| &job.config)
    }

    /// The addresses of the other servers of the deployment.
    fn peers(&self) -> Vec<Ipv4Addr> {
        let linked = self.config()["links"]["mysql"]["instances"].as_array().into_iter().flatten();
        let addresses = linked.filter_map(|instance| instance["address"].as_str()?.parse().ok());
        addresses.filter(|address| *address != self.address).collect()
    }
}

impl Owner {
    fn of(jobs: &[Job]) -> Self {
        let spec = jobs.first().map_or(&Value::Null, |job| &job.config["spec"]);
        let deployment = spec["deployment"].as_str().unwrap_or_default().to_owned();
        Self { deployment, index: spec["index"].as_u64().and_then(|index| u32::try_from(index).ok()) }
    }

    fn point<'a>(&'a self, act: &'a str) -> Point<'a> {
        Point { act, deployment: &self.deployment, instance: self.index }
    }
}

fn sentence(fault: &Fault) -> String {
    fault.message.clone().unwrap_or_else(|| "CPI error 'Bosh::Clouds::CloudError': this fault was asked for".to_owned())
}

fn read_file<T: for<'a> Deserialize<'a> + Default>(path: &Path) -> anyhow::Result<T> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
