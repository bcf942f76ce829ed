//! The server's process, our child or one that an earlier agent started: a server outlives its agent.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

/// A running server. Dropping it leaves the server alone.
pub(super) struct Process {
    /// Of a child, so that it is collected when it ends.
    child: Option<Child>,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// Start the server with `my_cnf`; what it says before its log is open goes to `log`.
    pub(super) fn start(program: &Path, my_cnf: &Path, log: &Path) -> Result<Process> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let child = Command::new(program)
            .arg(defaults_file(my_cnf))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the server's log twice")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let pid =
            child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("the server ended at once")?;
        Ok(Process { handle: handle(pid)?, child: Some(child) })
    }

    /// The server that an earlier agent started with `my_cnf`, if one runs. The command line decides: unlike a pid file it
    /// is there from the first moment and cannot name another process.
    pub(super) fn find(my_cnf: &Path) -> Result<Option<Process>> {
        let wanted = defaults_file(my_cnf);
        for entry in std::fs::read_dir("/proc").context("look through /proc for a running server")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else {
                continue;
            };
            let Ok(command_line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            if command_line.split(|byte| *byte == 0).nth(1) == Some(wanted.as_bytes()) {
                // One that ended in between is as good as none.
                return Ok(handle(pid).ok().map(|handle| Process { handle, child: None }));
            }
        }
        Ok(None)
    }

    /// Wait until the process has ended.
    pub(super) async fn ended(&mut self) {
        match &mut self.child {
            Some(child) => drop(child.wait().await),
            None => drop(self.handle.readable().await),
        }
    }

    /// Ask it to end, and end it when it does not within `limit`.
    pub(super) async fn stop(mut self, limit: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(limit, self.ended()).await.is_err() {
            tracing::error!("the server did not end within {} s; it is killed and will repair itself", limit.as_secs());
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// A process that has ended needs no signal, so the error says nothing.
    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(self.handle.get_ref(), signal);
    }
}

fn defaults_file(my_cnf: &Path) -> String {
    format!("--defaults-file={}", my_cnf.display())
}

fn handle(pid: Pid) -> Result<AsyncFd<OwnedFd>> {
    let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).context("watch the server's process")?;
    // Only reading: a pidfd becomes readable when the process ends.
    #[expect(
        deprecated,
        reason = "unsound for types that change their descriptor, which an OwnedFd cannot; the other is unsafe"
    )]
    AsyncFd::with_interest(handle, tokio::io::Interest::READABLE).context("watch the server's process")
}
