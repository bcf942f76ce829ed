//! Running an errand on a VM, or what it has to run before its jobs are stopped: a child of the director with the VM's
//! environment and a process group of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{ErrandOutput, Layout, NextState};
use crate::vm::description::environment;
use crate::vm::marked::ERRAND_MARK;

/// As the BOSH agent: SIGTERM, and SIGKILL this much later.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// The output travels in one line of the task's result, so it cannot be endless.
const OUTPUT_LIMIT: usize = 1024 * 1024;
/// The pipes close with the last process of the group; one that left the group does not keep the task waiting.
const PIPE_PATIENCE: Duration = Duration::from_secs(2);

/// A program of a job that runs once.
struct Call<'a> {
    job: &'a str,
    program: &'a str,
    arguments: &'a [String],
    environment: &'a [(&'a str, &'a str)],
}

pub(super) async fn run(
    layout: &Layout,
    cid: &str,
    errand: &str,
    cancelled: CancellationToken,
) -> anyhow::Result<ErrandOutput> {
    let vm = layout.vm(cid)?.read()?;
    let job = vm.jobs.iter().find(|job| job.name == errand);
    let program = job.and_then(|job| job.errand.as_ref());
    let program = program.with_context(|| format!("VM {cid} has no errand named {errand}"))?;
    carry_out(layout, cid, &Call { job: errand, program, arguments: &[], environment: &[] }, cancelled).await
}

/// One job after the other; when `cancelled`, no further one.
pub(super) async fn before_stop(
    layout: &Layout,
    cid: &str,
    next: NextState,
    cancelled: CancellationToken,
) -> anyhow::Result<Vec<(String, ErrandOutput)>> {
    let environment = [
        ("BOSH_VM_NEXT_STATE", next.name()),
        ("BOSH_INSTANCE_NEXT_STATE", NextState::Keep.name()),
        ("BOSH_DEPLOYMENT_NEXT_STATE", NextState::Keep.name()),
    ];
    let mut outputs = Vec::new();
    for job in layout.vm(cid)?.read()?.jobs {
        let Some((program, arguments)) = job.pre_stop.split_first() else { continue };
        if cancelled.is_cancelled() {
            break;
        }
        let call = Call { job: &job.name, program, arguments, environment: &environment };
        let output = carry_out(layout, cid, &call, cancelled.clone()).await.unwrap_or_else(|error| ErrandOutput {
            exit_code: 127,
            stdout: String::new(),
            stderr: format!("{error:#}"),
        });
        outputs.push((job.name.clone(), output));
    }
    Ok(outputs)
}

async fn carry_out(
    layout: &Layout,
    cid: &str,
    call: &Call<'_>,
    cancelled: CancellationToken,
) -> anyhow::Result<ErrandOutput> {
    let mut child = start(layout, cid, call)?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = CancellationToken::new();
    let waiting = async {
        let status = wait(&mut child, group, cancelled).await;
        signal(group, Signal::KILL);
        ended.cancel();
        status
    };
    let (status, (), ()) = tokio::join!(waiting, stdout.read(out, &ended), stderr.read(err, &ended));
    let status = status?;
    let exit_code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ErrandOutput { exit_code, stdout: stdout.text(), stderr: stderr.text() })
}

fn start(layout: &Layout, cid: &str, call: &Call<'_>) -> anyhow::Result<Child> {
    let dir = layout.vm(cid)?;
    let file = dir.read()?.programs.join(call.program);
    Command::new(&file)
        .args(call.arguments)
        .arg("--config")
        .arg(dir.config(call.job))
        .env_clear()
        .envs(environment(cid))
        .envs(call.environment.iter().copied())
        .env(ERRAND_MARK, cid)
        .current_dir(dir.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("run {}", file.display()))
}

async fn wait(child: &mut Child, group: Option<Pid>, cancelled: CancellationToken) -> anyhow::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status.context("await the errand"),
        () = cancelled.cancelled() => signal(group, Signal::TERM),
    }
    if let Ok(status) = tokio::time::timeout(CANCEL_PATIENCE, child.wait()).await {
        return status.context("await the errand");
    }
    signal(group, Signal::KILL);
    child.wait().await.context("await the errand")
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // The only failure is that the group is empty: what was wanted.
        let _ = kill_process_group(group, signal);
    }
}

/// The beginning of what a process wrote, and how much more it was.
#[derive(Default)]
struct Captured {
    kept: Vec<u8>,
    dropped: usize,
}

impl Captured {
    /// Read to the end, or until a while after the errand `ended`.
    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>, ended: &CancellationToken) {
        let too_late = async {
            ended.cancelled().await;
            tokio::time::sleep(PIPE_PATIENCE).await;
        };
        tokio::select! {
            () = self.read_all(pipe) => {}
            () = too_late => {}
        }
    }

    async fn read_all(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; 16 * 1024];
        // A pipe that breaks has ended.
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            let kept = length.min(OUTPUT_LIMIT - self.kept.len());
            self.kept.extend_from_slice(&chunk[..kept]);
            self.dropped += length - kept;
        }
    }

    fn text(self) -> String {
        let text = String::from_utf8_lossy(&self.kept).into_owned();
        match self.dropped {
            0 => text,
            dropped => format!("{text}\n[{dropped} more bytes of output were dropped]\n"),
        }
    }
}
