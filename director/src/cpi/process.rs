//! VMs and disks of the process CPI: lay out, power on, power off, remove. Every step accepts what a crash before it
//! left behind.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

use super::{Job, Layout, VmOrder, files};
use crate::file;
use crate::vm::description::{DescribedJob, Description, VmDir, environment};
use crate::vm::marked;
use crate::vm::protocol::{self, Request, SocketPath};

/// A new supervisor answers within milliseconds; a busy machine may take longer.
const BIRTH_TIMEOUT: Duration = Duration::from_secs(15);

impl Layout {
    pub(super) fn vms(&self) -> PathBuf {
        self.state.join("vms")
    }

    pub(super) fn vm(&self, cid: &str) -> anyhow::Result<VmDir> {
        Ok(VmDir::new(&self.vms().join(checked(cid)?)))
    }

    pub(super) fn disk(&self, cid: &str) -> anyhow::Result<PathBuf> {
        Ok(self.state.join("disks").join(checked(cid)?))
    }

    fn describe(&self, cid: &str, address: Ipv4Addr, jobs: &[Job]) -> Description {
        let described = |job: &Job| DescribedJob {
            name: job.name.clone(),
            program: job.program.clone(),
            errand: job.errand.clone(),
            pre_stop: job.pre_stop.clone(),
            ports: job.ports.clone(),
        };
        let jobs = jobs.iter().map(described).collect();
        Description { cid: cid.to_owned(), address, programs: self.programs.clone(), jobs }
    }
}

/// A CID becomes a file name, and some come from the network.
fn checked(cid: &str) -> anyhow::Result<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    ensure!(
        !cid.is_empty() && cid.len() < 128 && !cid.starts_with('.') && cid.chars().all(is_plain),
        "'{cid}' is not a CID: letters, digits, '-', '_' and '.' are, up to 127 of them"
    );
    Ok(cid)
}

/// Lay the VM out and power it on. On failure nothing of it is left.
pub(super) async fn create_vm(layout: &Layout, order: &VmOrder) -> anyhow::Result<()> {
    delete_vm(layout, &order.cid).await?;
    check_address(order)?;
    check_programs(layout, &order.jobs)?;
    let made = async {
        lay_out(layout, order)?;
        power_on(layout, &order.cid).await
    };
    if let Err(error) = made.await {
        delete_vm(layout, &order.cid).await.context("remove the VM that could not be made")?;
        return Err(error.context(format!("make VM {}", order.cid)));
    }
    Ok(())
}

pub(super) async fn delete_vm(layout: &Layout, cid: &str) -> anyhow::Result<()> {
    let dir = layout.vm(cid)?;
    marked::kill_all(cid).await?;
    files::remove_dir(dir.root()).await
}

/// Write the jobs' documents and forget jobs that are no longer there. A VM does not outlive the machine's power, and
/// neither must they.
pub(super) fn configure(layout: &Layout, cid: &str, address: Ipv4Addr, jobs: &[Job]) -> anyhow::Result<()> {
    let dir = layout.vm(cid)?;
    for job in jobs {
        checked(&job.name)?;
        let text = serde_json::to_vec_pretty(&job.config).context("write a job's configuration")?;
        files::make_dir(&dir.jobs().join(&job.name))?;
        file::replace_unflushed(&dir.config(&job.name), &text)?;
        files::make_dir(&dir.log().join(&job.name))?;
    }
    for entry in std::fs::read_dir(dir.jobs()).context("list the jobs of the VM")? {
        let entry = entry.context("list the jobs of the VM")?;
        if !jobs.iter().any(|job| *job.name == *entry.file_name()) {
            std::fs::remove_dir_all(entry.path()).context("remove a job that is gone")?;
        }
    }
    let description = serde_json::to_vec_pretty(&layout.describe(cid, address, jobs)).context("describe the VM")?;
    file::replace_unflushed(&dir.description(), &description)
}

/// Every VM that has a directory. Looking for marked processes instead would find the VMs of other directors on this
/// machine too; and a directory stays until all processes of its VM are gone.
pub(super) fn list(layout: &Layout) -> anyhow::Result<Vec<String>> {
    let entries = match std::fs::read_dir(layout.vms()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("list the VMs"),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry.context("list the VMs")?.file_name());
    let names = entries.map(name).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn check_address(order: &VmOrder) -> anyhow::Result<()> {
    let address = order.address;
    TcpListener::bind((address, 0)).with_context(|| {
        format!("the address {address} cannot be used on this machine (every address in 127.0.0.0/8 can)")
    })?;
    for job in &order.jobs {
        for port in &job.ports {
            TcpListener::bind((address, *port)).with_context(|| {
                format!("port {port} of {address} cannot be used, job {} needs it: end who listens there", job.name)
            })?;
        }
    }
    Ok(())
}

fn check_programs(layout: &Layout, jobs: &[Job]) -> anyhow::Result<()> {
    for job in jobs {
        for program in job.program.iter().chain(&job.errand) {
            let file = layout.programs.join(program);
            ensure!(file.is_file(), "the program of job {} is not there: {}", job.name, file.display());
        }
    }
    Ok(())
}

fn lay_out(layout: &Layout, order: &VmOrder) -> anyhow::Result<()> {
    let dir = layout.vm(&order.cid)?;
    let cache = layout.state.join("cache");
    let packages = dir.root().join("packages");
    for path in [dir.run(), dir.log(), dir.jobs(), dir.root().join("data"), packages.join("tandem"), cache.clone()] {
        files::make_dir(&path)?;
    }
    link(&layout.programs, &packages.join("tandem/bin"))?;
    link(&layout.documents, &packages.join("tandem/manifests"))?;
    link(&cache, &packages.join("cache"))?;
    let mysql = layout.programs.join("../mysql");
    if mysql.join("bin/mysqld").is_file() {
        link(&mysql, &packages.join("mysql"))?;
    }
    if let Some(disk) = &order.disk {
        let disk = layout.disk(disk)?;
        ensure!(disk.is_dir(), "the disk is not there: {}", disk.display());
        link(&disk, &dir.root().join("store"))?;
    }
    configure(layout, &order.cid, order.address, &order.jobs)
}

fn link(target: &Path, name: &Path) -> anyhow::Result<()> {
    symlink(target, name).with_context(|| format!("link {} to {}", name.display(), target.display()))
}

/// Start the supervisor and wait until it answers.
async fn power_on(layout: &Layout, cid: &str) -> anyhow::Result<()> {
    let dir = layout.vm(cid)?;
    let log_file = dir.log().join("supervisor.log");
    let socket = SocketPath::open(&dir.run())?;
    let listener = UnixListener::bind(socket.path()).context("listen for the supervisor")?;
    let log = std::fs::File::create(&log_file).with_context(|| format!("make {}", log_file.display()))?;
    let mut supervisor = Command::new(&layout.program)
        .args(["vm", "--dir"])
        .arg(dir.root())
        .env_clear()
        .envs(environment(cid))
        .current_dir(dir.root())
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("run {}", layout.program.display()))?;
    // Owned by nobody on purpose: it reaps the supervisor whenever that ends, and does nothing else.
    tokio::spawn(async move { supervisor.wait().await });
    if let Err(error) = protocol::ask(&dir.run(), Request::Status, BIRTH_TIMEOUT).await {
        let log = std::fs::read_to_string(&log_file).unwrap_or_default();
        match log.lines().last() {
            Some(line) => bail!("its supervisor gave up: {}", line.split_once("ERROR ").map_or(line, |(_, why)| why)),
            None => return Err(error.context("its supervisor does not come up")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_cids() {
        for good in ["a", "vm-0b1c", "A_1.2"] {
            assert_eq!(checked(good).unwrap(), good);
        }
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "a\0", "ä", &"x".repeat(128)] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
    }
}
