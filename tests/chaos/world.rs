//! A world of its own for the servers and their clients: private namespaces for processes, mounts and networks. Each VM and
//! the witness has a network namespace with one cable to a bridge; the clients are at the bridge. Or all of them are on the
//! loopback addresses of the world, where a director has them. Nothing of it can be seen
//! outside, and the kernel removes all of it (processes, mounts, networks, files in memory) when its first process ends,
//! however that ends.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{WaitOptions, getpid, getuid, wait};

pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod vm;
pub(crate) mod wall_clock;
mod witness;

/// Where the world keeps its files: in memory, and only visible inside.
pub(crate) const ROOT: &str = "/run/tandem";
/// What is started from the outside again on the inside; the value says as what.
const STAGE: &str = "TANDEM_CHAOS_STAGE";
/// The programs of Debian's `util-linux` and `iproute2`.
const TOOLS: [&str; 5] = ["unshare", "nsenter", "setpriv", "mount", "ip"];

/// Where this process is.
pub(crate) enum Place {
    Outside,
    Inside,
}

/// Go inside, if this process is not there yet. The first process of the world does nothing but wait for the others.
pub(crate) fn place() -> Result<Place> {
    match std::env::var(STAGE).as_deref() {
        Err(_) => Ok(Place::Outside),
        Ok("first") => std::process::exit(i32::from(first_process()?)),
        Ok(_) => Ok(Place::Inside),
    }
}

/// Why there can be no such world here, if that is so.
pub(crate) fn obstacle() -> Option<String> {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !exists(tool)).collect();
    if !missing.is_empty() {
        return Some(format!("{} are missing; install util-linux and iproute2", missing.join(", ")));
    }
    let probe = unshare().args(["sh", "-c", "mount -t tmpfs none /run && ip link add br0 type bridge"]).output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "network namespaces cannot be made here, which needs root or unprivileged user namespaces: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(cause) => Some(format!("unshare cannot be started: {cause}")),
    }
}

/// Become the world's first process with the same arguments. Only returns when that is not possible.
pub(crate) fn enter() -> Result<ExitCode> {
    let own = std::env::current_exe().context("find the running program")?;
    let cause = unshare().arg(own).args(std::env::args_os().skip(1)).env(STAGE, "first").exec();
    Err(cause).context("start unshare")
}

/// Without root, a user namespace makes this user its root.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Orphans of the world become its first process's children, which must collect them.
fn first_process() -> Result<u8> {
    ensure!(getpid().is_init(), "{STAGE} is not for you");
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "none", "/run"])?;
    // Libraries leave things there when their process is killed.
    run("mount", &["-t", "tmpfs", "none", "/dev/shm"])?;
    run("ip", &["link", "set", "lo", "up"])?;
    std::fs::create_dir_all(ROOT).context("make the world's directory")?;
    let own = std::env::current_exe().context("find the running program")?;
    let mut inside = Command::new(own);
    inside.args(std::env::args_os().skip(1)).env(STAGE, "inside").env("TMPDIR", ROOT);
    let inside = inside.spawn();
    let inside = i32::try_from(inside.context("start the world's second process")?.id())?;
    loop {
        let Some((pid, status)) = wait(WaitOptions::empty()).context("wait for a process of the world")? else {
            bail!("no process is left in the world");
        };
        if pid.as_raw_nonzero().get() == inside {
            return Ok(std::process::ExitStatus::from_raw(status.as_raw()).code().map_or(1, |code| code as u8));
        }
    }
}

/// Run one of the tools.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {} failed: {}", arguments.join(" "), said.trim());
    Ok(())
}

/// A place in memory of a limited size.
pub(crate) fn mount_memory(at: &Path, mb: u64) -> Result<()> {
    std::fs::create_dir_all(at).with_context(|| format!("make {}", at.display()))?;
    run("mount", &["-t", "tmpfs", "-o", &format!("size={mb}m"), "none", &at.display().to_string()])
}
