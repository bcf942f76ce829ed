//! The server's process, started by us or by an earlier agent, because a server outlives its agent; and its guard, where it
//! has one (`guard.rs`).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{POLL, STOP_LIMIT};
use crate::guard;

/// A guard starts its server at once, and ends right behind it.
const GUARD_LIMIT: Duration = Duration::from_secs(10);

/// A running server. Dropping it leaves the server alone.
pub(super) struct Process {
    server: Watched,
    guard: Option<Watched>,
}

/// How to start a server.
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    pub(super) my_cnf: &'a Path,
    /// For what it says before its log is open.
    pub(super) log: &'a Path,
    /// Of a server that has a guard.
    pub(super) guard_socket: Option<UnixListener>,
}

impl Process {
    pub(super) async fn start(start: Start<'_>) -> Result<Process> {
        let log = std::fs::File::options().create(true).append(true).open(start.log);
        let log = log.with_context(|| format!("open {}", start.log.display()))?;
        let Some(socket) = start.guard_socket else {
            let mut command = Command::new(start.program);
            let server = Watched::child(command.arg(defaults_file(start.my_cnf)).stdin(Stdio::null()), log)?;
            return Ok(Process { server, guard: None });
        };
        let mut command = Command::new(guard::THIS_PROGRAM);
        command.arg0(guard::NAME).args(["guard", "--"]).arg(start.program).arg(defaults_file(start.my_cnf));
        let mut guard = Watched::child(command.stdin(OwnedFd::from(socket)), log)?;
        let server = tokio::select! {
            server = timeout(GUARD_LIMIT, server_of(start.my_cnf)) => server,
            () = guard.ended() => bail!("the server ended at once"),
        };
        match server {
            Ok(server) => Ok(Process { server: server?, guard: Some(guard) }),
            Err(_) => {
                guard.signal(Signal::KILL);
                guard.ended().await;
                bail!("the guard did not start the server within {} s and was killed", GUARD_LIMIT.as_secs())
            }
        }
    }

    /// The server that an earlier agent started with `my_cnf`, if one runs that has a guard where it must have one.
    pub(super) async fn adopt(my_cnf: &Path, needs_guard: bool) -> Result<Option<Process>> {
        match Process::find(my_cnf).await? {
            Some(process) if needs_guard && process.guard.is_none() => {
                tracing::warn!("a server runs without a guard; it is stopped and started with one");
                process.stop(STOP_LIMIT).await;
                Ok(None)
            }
            found => Ok(found),
        }
    }

    pub(super) async fn find(my_cnf: &Path) -> Result<Option<Process>> {
        let found = timeout(GUARD_LIMIT, async {
            loop {
                match look(my_cnf)? {
                    // The guard is about to start its server, or to end.
                    Found { server: None, guard: Some(_) } => tokio::time::sleep(POLL).await,
                    found => return anyhow::Ok(found),
                }
            }
        });
        match found.await {
            Ok(Ok(Found { server, guard })) => Ok(server.map(|server| Process { server, guard })),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                if let Found { server: None, guard: Some(mut guard) } = look(my_cnf)? {
                    guard.signal(Signal::KILL);
                    guard.ended().await;
                }
                bail!("a guard without a server did not end within {} s and was killed", GUARD_LIMIT.as_secs())
            }
        }
    }

    /// Wait until the server has ended, and its guard with it.
    pub(super) async fn ended(&mut self) {
        let Process { server, guard: Some(guard) } = self else { return self.server.ended().await };
        tokio::select! {
            () = server.ended() => {}
            () = guard.ended() => {
                // The kernel does the same; a server without a guard must not live in any case.
                server.signal(Signal::KILL);
                server.ended().await;
            }
        }
        if timeout(GUARD_LIMIT, guard.ended()).await.is_err() {
            guard.signal(Signal::KILL);
            guard.ended().await;
        }
    }

    /// Ask it to end, and end it when it does not within `limit`.
    pub(super) async fn stop(mut self, limit: Duration) {
        self.server.signal(Signal::TERM);
        if timeout(limit, self.ended()).await.is_err() {
            tracing::error!("the server did not end within {} s; it is killed and will repair itself", limit.as_secs());
            self.kill().await;
        }
    }

    pub(super) async fn kill(mut self) {
        self.server.signal(Signal::KILL);
        self.ended().await;
    }
}

/// A process, and how to wait for its end.
struct Watched {
    /// Of a child, so that it is collected when it ends.
    child: Option<Child>,
    handle: AsyncFd<OwnedFd>,
}

impl Watched {
    fn child(command: &mut Command, log: std::fs::File) -> Result<Watched> {
        command.stdout(log.try_clone().context("open the server's log twice")?).stderr(log);
        let child = command.spawn().context("start the server")?;
        let pid =
            child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("the server ended at once")?;
        Ok(Watched { handle: handle(pid)?, child: Some(child) })
    }

    async fn ended(&mut self) {
        match &mut self.child {
            Some(child) => drop(child.wait().await),
            None => drop(self.handle.readable().await),
        }
    }

    /// A process that has ended needs no signal, so the error says nothing.
    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(self.handle.get_ref(), signal);
    }
}

#[derive(Default)]
struct Found {
    server: Option<Watched>,
    guard: Option<Watched>,
}

async fn server_of(my_cnf: &Path) -> Result<Watched> {
    loop {
        if let Some(server) = look(my_cnf)?.server {
            return Ok(server);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The command line decides: unlike a pid file it is there from the first moment and cannot name another process. Which
/// argument it is differs: a server that was not made for this system's C library runs as the argument of a loader. The
/// guard, and what becomes the server, have all of it behind their own.
fn look(my_cnf: &Path) -> Result<Found> {
    let wanted = defaults_file(my_cnf);
    let mut found = Found::default();
    for entry in std::fs::read_dir("/proc").context("look through /proc for a running server")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else {
            continue;
        };
        let Ok(command_line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
        // One that ended in between is as good as none.
        let watched = || handle(pid).ok().map(|handle| Watched { handle, child: None });
        if !arguments.contains(&wanted.as_bytes()) {
            continue;
        } else if arguments.first() != Some(&guard::NAME.as_bytes()) {
            found.server = watched();
        } else if arguments.get(1) == Some(&b"guard".as_slice()) {
            found.guard = watched();
        }
    }
    Ok(found)
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
