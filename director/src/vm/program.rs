//! One supervised program: started, started again when it ends (at once the first time, later with a growing pause),
//! and stopped for good when it is told to.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::description::{DescribedJob, Description, VmDir, environment};
use super::procfs;
use crate::cpi::{Process, ProcessState};

/// A program that lived this long has recovered: its next end is again the first.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);
/// The pause before the second start in a row; doubled for each one more.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A log file that is longer is put aside (one generation) when the program starts.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

#[derive(Clone, Copy, Debug)]
enum State {
    Starting,
    Alive { pid: u32, since: Instant },
    Failing,
    Ended,
}

/// A program under supervision.
pub(super) struct Program {
    name: String,
    ports: Vec<u16>,
    state: watch::Receiver<State>,
    /// The process whose ports were all seen open; 0 for none yet.
    ready_pid: AtomicU32,
    stop: CancellationToken,
}

impl Program {
    pub(super) fn start(dir: &VmDir, vm: &Description, job: &DescribedJob) -> anyhow::Result<Self> {
        let launch = Launch::new(dir, vm, job)?;
        let (report, state) = watch::channel(State::Starting);
        let stop = CancellationToken::new();
        // The task ends with `State::Ended`; whoever stops the program awaits that.
        tokio::spawn(launch.supervise(report, stop.clone()));
        let (name, ports) = (job.name.clone(), job.ports.clone());
        Ok(Self { name, ports, state, ready_pid: AtomicU32::new(0), stop })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when the program was stopped and is gone.
    pub(super) async fn ended(&self) {
        // An error means that the task is gone without a word, and its child was killed with it.
        let _ = self.state.clone().wait_for(|state| matches!(state, State::Ended)).await;
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            State::Alive { pid, .. } => Some(pid),
            State::Starting | State::Failing | State::Ended => None,
        }
    }

    /// As monit would list it. A program runs once all its ports were open; until then it starts.
    pub(super) fn process(&self, address: Ipv4Addr) -> Process {
        let observed = *self.state.borrow();
        let (state, pid, uptime_secs) = match observed {
            State::Alive { pid, since } if self.is_ready(pid, address) => {
                (ProcessState::Running, Some(pid), since.elapsed().as_secs())
            }
            State::Alive { pid, since } => (ProcessState::Starting, Some(pid), since.elapsed().as_secs()),
            State::Starting => (ProcessState::Starting, None, 0),
            State::Failing => (ProcessState::Failing, None, 0),
            State::Ended => (ProcessState::Stopped, None, 0),
        };
        let memory_kb = pid.and_then(procfs::memory_kb).unwrap_or_default();
        Process { name: self.name.clone(), state, pid, uptime_secs, memory_kb }
    }

    /// Remembered: an agent may close the server's port for a while later on, and runs all the same.
    fn is_ready(&self, pid: u32, address: Ipv4Addr) -> bool {
        let is_ready = self.ready_pid.load(Ordering::Relaxed) == pid
            || self.ports.iter().all(|port| procfs::is_listening(address, *port));
        if is_ready {
            self.ready_pid.store(pid, Ordering::Relaxed);
        }
        is_ready
    }
}

/// How a program is started.
struct Launch {
    name: String,
    program: PathBuf,
    config: PathBuf,
    root: PathBuf,
    log: PathBuf,
    cid: String,
}

impl Launch {
    fn new(dir: &VmDir, vm: &Description, job: &DescribedJob) -> anyhow::Result<Self> {
        let program = job.program.as_ref().with_context(|| format!("job {} has no program", job.name))?;
        let log = dir.log().join(&job.name);
        std::fs::create_dir_all(&log).with_context(|| format!("make {}", log.display()))?;
        Ok(Self {
            name: job.name.clone(),
            program: vm.programs.join(program),
            config: dir.config(&job.name),
            root: dir.root().to_owned(),
            log,
            cid: vm.cid.clone(),
        })
    }

    async fn supervise(self, report: watch::Sender<State>, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let started = Instant::now();
            match self.spawn() {
                Ok(child) => self.attend(child, &report, &stop).await,
                Err(error) => tracing::error!(job = self.name, "cannot start the program: {error:#}"),
            }
            if stop.is_cancelled() {
                break;
            }
            report.send_replace(State::Failing);
            failures = if started.elapsed() >= RECOVERED_AFTER { 1 } else { failures + 1 };
            // Elapsed or stopped: the loop's condition tells which.
            let _ = tokio::time::timeout(pause_after(failures), stop.cancelled()).await;
        }
        report.send_replace(State::Ended);
    }

    /// Stay with the child until it ends, by itself or because it is told to.
    async fn attend(&self, mut child: Child, report: &watch::Sender<State>, stop: &CancellationToken) {
        // A child that is not awaited yet has its number.
        let pid = child.id().unwrap_or_default();
        report.send_replace(State::Alive { pid, since: Instant::now() });
        tracing::info!(job = self.name, pid, "started");
        tokio::select! {
            status = child.wait() => match status {
                Ok(status) => tracing::warn!(job = self.name, pid, "the program ended by itself: {status}"),
                Err(error) => tracing::error!(job = self.name, pid, "cannot await the program: {error}"),
            },
            () = stop.cancelled() => {
                let how = terminate(&mut child, super::STOP_PATIENCE).await;
                tracing::info!(job = self.name, pid, "stopped: {how}");
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .env_clear()
            .envs(environment(&self.cid))
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(open_log(&self.log.join("stdout.log"))?)
            .stderr(open_log(&self.log.join("stderr.log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))
    }
}

/// SIGTERM, and SIGKILL when that was not enough.
async fn terminate(child: &mut Child, patience: Duration) -> String {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // The only failure is that it ended in the meantime.
        let _ = kill_process(pid, Signal::TERM);
    }
    if let Ok(status) = tokio::time::timeout(patience, child.wait()).await {
        return status.map_or_else(|error| error.to_string(), |status| status.to_string());
    }
    match child.kill().await {
        Ok(()) => format!("killed, because it did not end within {} s of SIGTERM", patience.as_secs()),
        Err(error) => format!("cannot kill it: {error}"),
    }
}

/// The pause after so many ends in a row.
fn pause_after(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => (PAUSE_MIN * 2_u32.saturating_pow(more - 2).min(64)).min(PAUSE_MAX),
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_LIMIT) {
        let aside = path.with_extension("log.1");
        std::fs::rename(path, &aside).with_context(|| format!("put {} aside", path.display()))?;
    }
    let log = OpenOptions::new().create(true).append(true).open(path);
    log.with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_pauses_grow_to_a_limit() {
        let pauses: Vec<u128> = (1..10).map(|failures| pause_after(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }
}
