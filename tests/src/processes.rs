//! The processes of a stack, found in `/proc` by what cannot be taken off them: the directory that they work on.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The variable by which the director marks every process of a VM.
const VM_VARIABLE: &str = "TANDEM_VM_CID";

/// Programs that are a stack's without the mark: the director, and what the packages' own tests start.
const PROGRAMS: [&str; 8] = [
    "tandem-director",
    "mysql-broker",
    "mysql-agent",
    "mysql-guard",
    "mariadbd",
    "mysqld",
    "mariadb-backup",
    "mariadb-install-db",
];

/// A process of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The file name of its program.
    pub program: String,
    /// The VM that it belongs to; none for the director.
    pub vm: Option<String>,
}

/// What one process costs.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory in kB.
    pub resident_kb: u64,
    /// Processor time used so far.
    pub cpu: Duration,
}

/// Every living process of the stack in `directory`: the ones that a director marked as a VM's, or whose program is one
/// of ours, and that work on a file below the directory.
#[must_use]
pub fn of_stack(directory: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| inspect(pid, directory))
        .collect()
}

/// The living processes of one VM.
#[must_use]
pub fn of_vm(directory: &Path, cid: &str) -> Vec<Process> {
    of_stack(directory).into_iter().filter(|process| process.vm.as_deref() == Some(cid)).collect()
}

/// End a process without a farewell. One that is gone already is fine.
pub fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

/// Stop (`true`) or resume a process.
pub fn pause(pid: i32) {
    signal(pid, Signal::STOP);
}

/// Let a stopped process go on.
pub fn resume(pid: i32) {
    signal(pid, Signal::CONT);
}

/// Ask a process to end.
pub fn terminate(pid: i32) {
    signal(pid, Signal::TERM);
}

/// Have a process read its configuration again.
pub fn reload(pid: i32) {
    signal(pid, Signal::HUP);
}

/// Kill every process of the stack until there is none: supervisors start programs again while their turn has not come.
///
/// # Errors
/// Something is still there after ten seconds.
pub fn kill_stack(directory: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        let alive = of_stack(directory);
        if alive.is_empty() {
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(10) {
            bail!("processes of {} cannot be killed: {alive:?}", directory.display());
        }
        alive.iter().for_each(|process| kill(process.pid));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Memory and processor time of a process.
#[must_use]
pub fn usage(pid: i32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kb = resident.trim().trim_end_matches("kB").trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything but ends with the last bracket: utime and stime are the fields 14 and 15 of
    // proc(5). They count threads that have ended, which the finer clocks of the single threads do not.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let cpu = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    Some(Usage { resident_kb, cpu })
}

/// Is the process there (and not a zombie)?
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

fn signal(pid: i32, signal: Signal) {
    // The only failures are "gone" and "not mine"; both show in the next look at /proc.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn inspect(pid: i32, directory: &Path) -> Option<Process> {
    let root = PathBuf::from(format!("/proc/{pid}"));
    let arguments = fs::read(root.join("cmdline")).ok().filter(|line| !line.is_empty())?;
    let program = Path::new(std::str::from_utf8(arguments.split(|byte| *byte == 0).next()?).ok()?);
    let program = program.file_name()?.to_str()?.to_owned();
    let vm = fs::read(root.join("environ")).ok().and_then(|environment| variable(&environment, VM_VARIABLE));
    let works_below =
        mentions(&arguments, directory) || fs::read_link(root.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    let ours = works_below && (vm.is_some() || PROGRAMS.contains(&program.as_str()));
    (ours && is_alive(pid)).then_some(Process { pid, program, vm })
}

fn variable(environment: &[u8], name: &str) -> Option<String> {
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// A path in an argument counts only when it is the directory itself or something below it: `/x/.run2` is not `/x/.run`.
fn mentions(arguments: &[u8], directory: &Path) -> bool {
    let needle = directory.as_os_str().as_bytes();
    arguments.windows(needle.len()).enumerate().any(|(at, window)| {
        window == needle && matches!(arguments.get(at + needle.len()), None | Some(0 | b'/' | b','))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_itself_and_what_is_below_it_is_mentioned() {
        let directory = Path::new("/x/.run");

        assert!(mentions(b"agent\0--config\0/x/.run/vms/1/config.json\0", directory));
        assert!(mentions(b"agent\0--dir=/x/.run\0", directory));
        assert!(!mentions(b"agent\0--dir=/x/.run2\0", directory));
    }

    #[test]
    fn the_vm_is_read_from_the_environment() {
        assert_eq!(variable(b"PATH=/bin\0TANDEM_VM_CID=vm-7\0", VM_VARIABLE).as_deref(), Some("vm-7"));
        assert_eq!(variable(b"PATH=/bin\0", VM_VARIABLE), None);
    }

    #[test]
    fn a_process_knows_what_it_costs() {
        let own = usage(std::process::id().cast_signed()).unwrap();

        assert!(own.resident_kb > 100);
    }
}
