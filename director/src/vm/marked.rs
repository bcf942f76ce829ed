//! The processes that belong to a VM, wherever they are in the process tree: they carry its CID in their environment.
//! mysqld outlives its agent on purpose, so a process group or a parent is not enough to find everybody.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The mark of every process of a VM; its value is the CID.
pub(crate) const MARK: &str = "TANDEM_VM_CID";
/// The mark of an errand and of what it started, besides the other one; its value is the CID again.
pub(crate) const ERRAND_MARK: &str = "TANDEM_ERRAND_VM_CID";

/// How long the kernel may take to end a process after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// End every process of the VM but this one: SIGTERM, and SIGKILL for those that are still there after `patience`.
pub(crate) async fn end_all(cid: &str, patience: Duration) -> anyhow::Result<()> {
    let members = find(&marks(MARK, [cid]));
    for member in &members {
        tracing::info!(pid = member.pid.as_raw_nonzero(), "ending a process that was left in the VM");
        member.signal(Signal::TERM);
    }
    wait_until_ended(members, Instant::now() + patience).await?;
    kill_all(cid).await
}

/// Kill every process of the VM but this one, and return when none is left.
pub(crate) async fn kill_all(cid: &str) -> anyhow::Result<()> {
    kill(&marks(MARK, [cid])).await.with_context(|| format!("end VM {cid}"))
}

/// Kill the errands in these VMs. A director does it at its start: those that it finds belong to tasks that broke off.
pub(crate) async fn kill_errands(cids: &[String]) -> anyhow::Result<()> {
    kill(&marks(ERRAND_MARK, cids.iter().map(String::as_str))).await.context("end errands that outlived their director")
}

async fn kill(marks: &[Vec<u8>]) -> anyhow::Result<()> {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        // Looked up again until nobody is found: one of them may have started another in between.
        let members = find(marks);
        if members.is_empty() {
            return Ok(());
        }
        let pids: Vec<String> = members.iter().map(|member| member.pid.to_string()).collect();
        anyhow::ensure!(
            Instant::now() < deadline,
            "the processes {} do not end, although they were killed",
            pids.join(", ")
        );
        members.iter().for_each(|member| member.signal(Signal::KILL));
        wait_until_ended(members, deadline).await?;
    }
}

struct Member {
    pid: Pid,
    /// The number may be given to another process; this may not.
    handle: OwnedFd,
}

impl Member {
    fn signal(&self, signal: Signal) {
        // The only failure is that it ended in the meantime: what was wanted.
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

fn marks<'a>(mark: &str, cids: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    cids.into_iter().map(|cid| format!("{mark}={cid}").into_bytes()).collect()
}

fn find(marks: &[Vec<u8>]) -> Vec<Member> {
    let this = rustix::process::getpid();
    super::procfs::pids()
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != this && is_marked(*pid, marks))
        .filter_map(|pid| Some(Member { pid, handle: pidfd_open(pid, PidfdFlags::empty()).ok()? }))
        // Asked again: until the handle was there the number could have changed hands.
        .filter(|member| is_marked(member.pid, marks))
        .collect()
}

/// A process that ended and is not reaped yet has no environment, so it does not count. Nor do processes of others,
/// whose environment may not be read: a VM's processes run as the user who runs the director.
fn is_marked(pid: Pid, marks: &[Vec<u8>]) -> bool {
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    environment
        .is_ok_and(|text| text.split(|byte| *byte == 0).any(|variable| marks.iter().any(|mark| mark == variable)))
}

/// Wait on the handles, in a thread for waiting: Tokio watches files that are not its own only in unsafe code.
async fn wait_until_ended(members: Vec<Member>, deadline: Instant) -> anyhow::Result<()> {
    let wait = move || -> rustix::io::Result<()> {
        for member in members {
            retry_on_intr(|| {
                let remaining = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(remaining).ok();
                poll(&mut [PollFd::new(&member.handle, PollFlags::IN)], timeout.as_ref())
            })?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(wait).await.context("wait in a thread")?.context("wait for processes to end")
}
