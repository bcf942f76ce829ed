//! The guard of a pair's server: a small process of its own that kills the server when the time is over in which it may be
//! writable. The agent extends that time while it holds the lease, so an agent that is dead, frozen or stuck cannot leave a
//! writable server behind.
//!
//! ```text
//! mysql-agent ──starts──▶ mysql-guard ──starts──▶ the server        the guard dies (SIGKILL):  the kernel kills the server
//!      └──deadline──▶ guard.sock ──┘                                the deadline passes:       the guard kills the server
//!                                                                   the server ends:           the guard ends
//! ```
//!
//! The agent connects to the guard's socket and sends a deadline in 8 bytes, the nanoseconds of [`clock::now`] as a little-
//! endian number, 0 for none; the guard sends them back when it knows them. So what is acknowledged holds whatever becomes of
//! the agent, a guard that is frozen itself is noticed, and an agent that starts again just goes on. A later connection
//! replaces an earlier one: an agent that was frozen between two of its bytes holds nobody up. A new guard has no deadline,
//! because a server starts read-only.
//!
//! The kernel's promise to kill the server with its guard (`PR_SET_PDEATHSIG`) is made by a program before it becomes the
//! server; that is the stage `launch`. The kernel forgets it where the server changes its user, and our `my.cnf` has it stay
//! what it is, or where the server's file has capabilities (`setcap`); there an agent that lives kills the server itself.
//! Everything here is one thread, because the promise is about the thread that started the server.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Pid, PidfdFlags, Signal, getppid, kill_process, pidfd_open, set_parent_process_death_signal};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock;
use crate::report::sentence;

/// What the guard is called in a list of processes.
pub(crate) const NAME: &str = "mysql-guard";
/// This program, also when its file was replaced by a newer one.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// What the agent starts this program as.
#[derive(Subcommand)]
pub(crate) enum Stage {
    /// Start a server and kill it when the time is over in which it may be writable; the socket is the standard input.
    #[command(hide = true)]
    Guard {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        server: Vec<OsString>,
    },
    /// Become the server, which dies with its guard.
    #[command(hide = true)]
    Launch {
        guard: i32,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        server: Vec<OsString>,
    },
}

/// A deadline as it is sent.
pub(crate) type Message = [u8; 8];

/// How a deadline is sent; none is "the server is read-only".
pub(crate) fn message(deadline: Option<Duration>) -> Message {
    let nanoseconds = deadline.map_or(0, |deadline| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX).max(1));
    nanoseconds.to_le_bytes()
}

fn deadline(message: Message) -> Option<Duration> {
    Some(u64::from_le_bytes(message)).filter(|nanoseconds| *nanoseconds > 0).map(Duration::from_nanos)
}

/// Be the guard, or become the server.
pub(crate) fn run(stage: Stage) -> ExitCode {
    let done = match stage {
        Stage::Guard { server } => guard(&server),
        Stage::Launch { guard, server } => launch(guard, &server),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// Whatever goes wrong here ends this process, and with it the server: the safe side.
fn guard(server: &[OsString]) -> Result<()> {
    // A guard that must be read from the disk first would be late. Without the right to do so it may be.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    let mut guard = Guard::start(server).context("guard the server")?;
    loop {
        guard.wait()?;
        if guard.must_kill() {
            eprintln!("{NAME}: the time is over in which the server may be writable; it is killed");
            guard.server.kill().context("kill the server")?;
            return guard.server.wait().map(drop).context("wait for the server");
        }
        if guard.server.try_wait().context("ask for the server")?.is_some() {
            return Ok(());
        }
        guard.pass_signal_on();
        guard.listen();
    }
}

struct Guard {
    server: Child,
    server_handle: OwnedFd,
    listener: UnixListener,
    connection: Option<UnixStream>,
    signals: UnixStream,
    timer: OwnedFd,
    deadline: Option<Duration>,
}

impl Guard {
    fn start(server: &[OsString]) -> Result<Guard> {
        let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned().context("take the socket")?);
        listener.set_nonblocking(true).context("listen")?;
        let (signals, raised) = UnixStream::pair().context("make a pipe for signals")?;
        signals.set_nonblocking(true).context("make a pipe for signals")?;
        for signal in [SIGTERM, SIGINT] {
            let raised = raised.try_clone().context("make a pipe for signals")?;
            signal_hook::low_level::pipe::register(signal, raised).context("take signals")?;
        }
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .context("make a timer")?;
        let server = Command::new(THIS_PROGRAM)
            .arg0(NAME)
            .args(["launch", &std::process::id().to_string()])
            .args(server)
            .stdin(Stdio::null())
            .spawn()
            .context("start the server")?;
        let server_handle = pidfd_open(Pid::from_child(&server), PidfdFlags::empty()).context("watch the server")?;
        Ok(Guard { server, server_handle, listener, connection: None, signals, timer, deadline: None })
    }

    /// Wait until there is something to do.
    fn wait(&self) -> Result<()> {
        let mut waited = vec![
            PollFd::new(&self.server_handle, PollFlags::IN),
            PollFd::new(&self.timer, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        waited.extend(self.connection.as_ref().map(|connection| PollFd::new(connection, PollFlags::IN)));
        match poll(&mut waited, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("wait"),
        }
    }

    /// Asked before anything is read: a deadline that has passed cannot be extended.
    fn must_kill(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= clock::now())
    }

    /// Who ends this process in good manners wants the server to end in good manners.
    fn pass_signal_on(&mut self) {
        if matches!(self.signals.read(&mut [0; 64]), Ok(1..)) {
            let _ = kill_process(Pid::from_child(&self.server), Signal::TERM);
        }
    }

    /// The earlier connection is read before a later one takes its place, so the last word is the last one sent.
    fn listen(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let mut message = Message::default();
            match connection.read(&mut message) {
                Ok(length) if length == message.len() && self.set(deadline(message)).is_ok() => {
                    // Who does not wait for the answer does not need it.
                    let _ = connection.write(&message);
                    self.connection = Some(connection);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.connection = Some(connection),
                Ok(_) | Err(_) => {}
            }
        }
        if let Ok((connection, _)) = self.listener.accept() {
            self.connection = connection.set_nonblocking(true).ok().map(|()| connection);
        }
    }

    fn set(&mut self, deadline: Option<Duration>) -> Result<()> {
        let at = Timespec::try_from(deadline.unwrap_or_default()).context("read the deadline")?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value: at };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once).context("set the timer")?;
        self.deadline = deadline;
        Ok(())
    }
}

/// Only returns when the server could not be started.
fn launch(guard: i32, server: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("die with the guard")?;
    // The promise is only about a guard that lives until here.
    ensure!(getppid().map(Pid::as_raw_pid) == Some(guard), "the guard is dead");
    let (program, arguments) = server.split_first().context("no server is named")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("start {}", program.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_what_was_sent_and_none_is_none() {
        for sent in [None, Some(Duration::from_nanos(1)), Some(Duration::from_millis(1_234_567))] {
            assert_eq!(deadline(message(sent)), sent);
        }
        // Never "no deadline" by rounding.
        assert!(deadline(message(Some(Duration::ZERO))).is_some());
        assert!(deadline(message(Some(Duration::MAX))).is_some());
    }
}
