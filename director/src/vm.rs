//! The supervisor of one VM (`tandem-director vm --dir DIR`): what monit and the agent are on a BOSH VM. It leads a
//! session and a process group of its own, so that it survives the director and `kill -9 -PGID` is the VM's power
//! switch. It starts the jobs' programs, starts them again when they end, and answers the director on a unix socket.
//!
//! ```text
//! stopped --Start--> running --program ends--> failing --back-off--> running
//!    ^                  |
//!    +------Stop--------+   SIGTERM, 60 s, SIGKILL; then the same for whatever else runs in the VM
//! ```

pub(crate) mod description;
pub(crate) mod marked;
mod procfs;
mod program;
pub(crate) mod protocol;

use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as unix;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::cpi::{Process, ProcessState};
use description::{Description, VmDir};
use program::Program;
use protocol::{Reply, Request};

/// How long a program may take to end before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// More callers than this at once wait in the socket's queue.
const CALLERS_LIMIT: usize = 16;

/// Be the supervisor until SIGTERM. Standard input is the listening socket (as with inetd): the director made it, so
/// whoever calls the new supervisor is queued instead of refused.
pub(crate) fn run(dir: &Path) -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    match supervise(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the director quotes it where the supervisor does not come up.
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(dir: &Path) -> anyhow::Result<()> {
    rustix::process::setsid().context("lead a session of its own (only the director starts a supervisor)")?;
    // What a program leaves behind (mysqld, when its agent is killed) becomes our child, and we reap it. Otherwise it
    // would be a zombie on machines whose first process does not reap, and look alive to an agent that adopted it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("adopt orphans")?;
    let vm = VmDir::new(dir);
    let description = vm.read()?;
    let _claim = claim_address(&description)?;
    let listener = std::io::stdin().as_fd().try_clone_to_owned().context("take the listening socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(Arc::new(Supervisor::new(vm, description)), listener))
}

/// The name of the address among the abstract sockets of this machine: two directors that share a block of addresses
/// see it at once, also while no program listens yet.
fn claim_address(description: &Description) -> anyhow::Result<unix::UnixListener> {
    let address = description.address;
    let name = unix::SocketAddr::from_abstract_name(format!("tandem-vm/{address}")).context("name the address")?;
    unix::UnixListener::bind_addr(&name).with_context(|| format!("the address {address} is taken by another VM"))
}

async fn serve(supervisor: Arc<Supervisor>, listener: OwnedFd) -> anyhow::Result<()> {
    let listener = unix::UnixListener::from(listener);
    listener.set_nonblocking(true).context("prepare the socket")?;
    let listener = UnixListener::from_std(listener).context("listen")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut child_ended = signal(SignalKind::child()).context("watch for SIGCHLD")?;
    let mut callers = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => return supervisor.stop().await,
            _ = child_ended.recv() => supervisor.reap_orphans(),
            Some(_) = callers.join_next() => {}
            caller = listener.accept(), if callers.len() < CALLERS_LIMIT => {
                let (stream, _) = caller.context("take a call")?;
                let supervisor = supervisor.clone();
                callers.spawn(protocol::answer(stream, async move |request| supervisor.obey(request).await));
            }
        }
    }
}

struct Supervisor {
    dir: VmDir,
    cid: String,
    programs: Mutex<Vec<Arc<Program>>>,
    /// Start and stop take turns; status does not wait for them.
    turn: tokio::sync::Mutex<()>,
}

impl Supervisor {
    fn new(dir: VmDir, description: Description) -> Self {
        Self { dir, cid: description.cid, programs: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    async fn obey(&self, request: Request) -> Reply {
        let done = match request {
            Request::Status => Ok(()),
            Request::Start => self.start().await,
            Request::Stop => self.stop().await,
        };
        match done.and_then(|()| self.status()) {
            Ok(processes) => Reply::Processes(processes),
            Err(error) => Reply::Error(format!("{error:#}")),
        }
    }

    /// Start what the description names and does not run yet.
    async fn start(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let description = self.dir.read()?;
        let mut programs = self.programs();
        for job in &description.jobs {
            if job.program.is_some() && !programs.iter().any(|program| program.name() == job.name) {
                programs.push(Arc::new(Program::start(&self.dir, &description, job)?));
            }
        }
        Ok(())
    }

    /// End every program, then every other process of the VM: a server whose agent was killed must not go on.
    async fn stop(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let programs = self.programs().clone();
        programs.iter().for_each(|program| program.stop());
        for program in &programs {
            program.ended().await;
        }
        self.programs().clear();
        marked::end_all(&self.cid, STOP_PATIENCE).await
    }

    fn status(&self) -> anyhow::Result<Vec<Process>> {
        let description = self.dir.read()?;
        let programs = self.programs();
        let process = |name: &str| match programs.iter().find(|program| program.name() == name) {
            Some(program) => program.process(description.address),
            None => {
                Process { name: name.to_owned(), state: ProcessState::Stopped, pid: None, uptime_secs: 0, memory_kb: 0 }
            }
        };
        let supervised = description.jobs.iter().filter(|job| job.program.is_some());
        Ok(supervised.map(|job| process(&job.name)).collect())
    }

    /// Take the exit status of adopted children; those of the programs are awaited where they were started.
    fn reap_orphans(&self) {
        let programs = self.programs();
        let awaited: Vec<u32> = programs.iter().filter_map(|program| program.pid()).collect();
        procfs::ended_children().into_iter().filter(|pid| !awaited.contains(pid)).for_each(procfs::reap);
    }

    fn programs(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Program>>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "not a test: tests of the CPI start it as their supervisor"]
    fn be_a_supervisor() {
        if let Some(dir) = std::env::var_os("TANDEM_TEST_VM_DIR") {
            run(Path::new(&dir));
        }
    }
}
