//! Where everything of the server is, and writing files that only this user may read.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::settings;
use super::socket::Socket;
use crate::instance::Instance;

/// Where everything of the server is.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) data: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) log: PathBuf,
    /// For temporary tables and files. A server that starts removes what looks like its own, so no two may share it.
    pub(crate) temporary: PathBuf,
    pub(crate) socket: Socket,
    pub(super) cache: PathBuf,
    pub(super) packages: PathBuf,
    pub(super) vm: settings::Vm,
}

impl Files {
    pub(crate) fn new(instance: &Instance) -> Result<Files> {
        let ram_mb = match instance.spec.vm_resources {
            Some(resources) => resources.ram,
            None => memory_mb().context("find out how much memory the VM has")?,
        };
        let (data, run, log) = (instance.store().join("data"), instance.run(), instance.log());
        let socket = Socket::new(&instance.spec.root, &run, &instance.store())?;
        let temporary = instance.spec.data().join("mysql");
        let vm = settings::Vm {
            data: data.clone(),
            temporary: temporary.clone(),
            run: run.clone(),
            log: log.clone(),
            socket: socket.for_server.clone(),
            address: instance.spec.ip,
            index: instance.spec.index,
            ram_mb,
            is_pair: instance.pair.is_some(),
            ack_timeout_ms: instance.sync().map(|sync| sync.ack_timeout_ms),
            is_root: is_root(),
            parameters: instance.parameters.clone(),
        };
        let packages = instance.spec.packages();
        Ok(Files { data, run, log, temporary, socket, cache: packages.join("cache"), packages, vm })
    }

    pub(crate) fn my_cnf(&self) -> PathBuf {
        self.run.join("my.cnf")
    }

    pub(super) fn init_file(&self) -> PathBuf {
        self.run.join("init.sql")
    }

    /// The login of a running backup.
    pub(crate) fn backup_login(&self) -> PathBuf {
        self.run.join("backup.cnf")
    }

    /// What only this server had when it was replaced as the leader; beside the data, so that it outlives them.
    pub(crate) fn saved(&self) -> PathBuf {
        self.data.with_file_name("saved")
    }

    /// What a physical copy leaves in the data directory for the first start from it: the history that it holds.
    pub(crate) fn copied(&self) -> PathBuf {
        self.data.join("tandem_copied_history")
    }
}

fn memory_mb() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let kb = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kb.map(|kb| kb / 1024).context("/proc/meminfo has no MemTotal")
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Make a directory that only this user can read.
pub(crate) fn make_private_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
}

/// Write a file that only this user can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let half = path.with_extension("new");
    let write = || {
        write_anew(&half, text)?;
        fs::rename(&half, path)?;
        anyhow::Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn write_anew(path: &Path, text: &str) -> Result<fs::File> {
    remove_file_if_there(path)?;
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// As [`write_private`], and on the disk when it returns.
pub(crate) fn write_durably(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().with_context(|| format!("{} has no directory", path.display()))?;
    make_private_directory(directory)?;
    let half = path.with_extension("new");
    let write = || {
        write_anew(&half, text)?.sync_all()?;
        fs::rename(&half, path)?;
        fs::File::open(directory)?.sync_all()?;
        anyhow::Ok(())
    };
    write().with_context(|| format!("write {} to the disk", path.display()))
}

/// Remove a file; none is fine.
pub(crate) fn remove_file_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Remove a directory and all in it; none is fine.
pub(crate) fn remove_if_there(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
