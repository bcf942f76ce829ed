//! The data directory of a new server, copied from a template that the VMs of a director share: making one anew takes
//! most of a second and a copy takes a few hundredths. The template is made once for each server version, redo log size
//! and way with the case of names, beside its place and then renamed; so is the copy. A crash leaves no half directory under the real name.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::files::{remove_file_if_there, remove_if_there};
use super::program::Program;
use super::settings::{Vm, lower_case_table_names, redo_log_mb};
use crate::mysql::Family;

/// Making a template takes most of a second; a machine that is busy may take very much longer.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// Longer, so that who waits sees the other one give up.
const LOCK_LIMIT: Duration = Duration::from_secs(330);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Where templates are kept and which one is needed.
pub(super) struct Template<'a> {
    pub(super) cache: &'a Path,
    pub(super) vm: &'a Vm,
}

/// Make `data` from the template.
pub(super) fn copy(template: &Path, data: &Path) -> Result<()> {
    let half = data.with_extension("new");
    remove_if_there(&half)?;
    copy_directory(template, &half).with_context(|| format!("copy {} to {}", template.display(), half.display()))?;
    rename(&half, data)
}

impl Template<'_> {
    /// Find the template, made first where it is missing. Dropping it ends the programs that make it.
    pub(super) async fn find_or_make(&self, program: &Program) -> Result<PathBuf> {
        fs::create_dir_all(self.cache).with_context(|| format!("make the directory {}", self.cache.display()))?;
        let name = self.name(program);
        let template = self.cache.join(&name);
        if template.is_dir() {
            return Ok(template);
        }
        let _locked = lock(&self.cache.join("lock")).await?;
        if !template.is_dir() {
            let half = self.cache.join(format!("{name}.new"));
            let left = half.clone();
            tokio::task::spawn_blocking(move || remove_if_there(&left)).await.context("remove a half template")??;
            let temporary = self.cache.join(format!("{name}.tmp"));
            remove_if_there(&temporary)?;
            fs::create_dir(&temporary).with_context(|| format!("make the directory {}", temporary.display()))?;
            self.install(program, &half, &temporary).await?;
            remove_if_there(&temporary)?;
            rename(&half, &template)?;
        }
        Ok(template)
    }

    fn name(&self, program: &Program) -> String {
        let case = if self.vm.parameters.enable_lower_case_table_names { "-lower" } else { "" };
        format!("mysql-data-{}-redo{}M{case}", program.version, redo_log_mb(self.vm))
    }

    async fn install(&self, program: &Program, data: &Path, temporary: &Path) -> Result<()> {
        let (name, command) = self.installer(program, data, temporary);
        let output = match timeout(INSTALL_LIMIT, output_of(command)).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("cannot find the program {name}; install the Debian package mariadb-server")
            }
            Ok(Err(error)) => return Err(error).with_context(|| format!("start {name}")),
            Err(_) => {
                bail!("{name} did not make {} within {} s and was killed", data.display(), INSTALL_LIMIT.as_secs())
            }
        };
        if output.status.success() {
            return remove_identity(data);
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> =
            said.lines().filter(|line| line.contains("ERROR") || line.contains("rror:")).take(5).collect();
        bail!("{name} could not make {} ({}): {}", data.display(), output.status, lines.join("; "))
    }

    /// The program that makes a data directory, and its name. The directory of its temporary tables is its own: a server
    /// that starts removes those of every other that shares the place.
    fn installer(&self, program: &Program, data: &Path, temporary: &Path) -> (String, Command) {
        let redo_log = format!("{}M", redo_log_mb(self.vm));
        let (path, arguments) = match program.family {
            Family::MariaDb => (
                PathBuf::from("mariadb-install-db"),
                vec![
                    "--auth-root-authentication-method=normal".to_owned(),
                    "--skip-test-db".to_owned(),
                    format!("--innodb-log-file-size={redo_log}"),
                ],
            ),
            Family::MySql => (
                program.path.clone(),
                vec![
                    "--initialize-insecure".to_owned(),
                    "--disable-log-bin".to_owned(),
                    format!("--innodb-redo-log-capacity={redo_log}"),
                ],
            ),
        };
        let mut command = Command::new(&path);
        command.arg("--no-defaults").args(arguments);
        command.arg(format!("--lower-case-table-names={}", lower_case_table_names(self.vm)));
        command.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", temporary.display()));
        if self.vm.is_root {
            command.arg("--user=root");
        }
        (path.display().to_string(), command)
    }
}

/// What makes a MySQL server this one and no other: its UUID, and its keys. Each makes its own when it starts.
fn remove_identity(data: &Path) -> Result<()> {
    for entry in fs::read_dir(data).with_context(|| format!("look through {}", data.display()))? {
        let path = entry.with_context(|| format!("look through {}", data.display()))?.path();
        let is_key = path.extension().is_some_and(|extension| extension == "pem");
        if is_key || path.ends_with("auto.cnf") {
            remove_file_if_there(&path)?;
        }
    }
    Ok(())
}

/// Agents that come at the same time wait here for the first one; a dead one's lock is gone with it. Asked again and again,
/// because a thread that waits in the kernel could not be called back when the agent must end.
async fn lock(path: &Path) -> Result<File> {
    let lock = File::create(path).with_context(|| format!("open {}", path.display()))?;
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_LIMIT => tokio::time::sleep(LOCK_POLL).await,
            Err(Errno::WOULDBLOCK) => bail!(
                "{} is held for longer than {} s, and the agent that makes the template should be done by then",
                path.display(),
                LOCK_LIMIT.as_secs()
            ),
            Err(error) => return Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

/// Run a program that starts others. They all end when this is dropped, not only the first one.
async fn output_of(mut command: Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).kill_on_drop(true).spawn()?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let output = child.wait_with_output().await;
    group.has_ended();
    output
}

/// The process group of a running program.
struct Group(Option<Pid>);

impl Group {
    /// Its number may be another's soon.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that has ended needs no signal, so the error says nothing.
        let _ = self.0.map(|group| kill_process_group(group, Signal::KILL));
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else if entry.metadata()?.len() < SMALL {
            fs::copy(entry.path(), target)?;
        } else {
            copy_large(&entry.path(), &target)?;
        }
    }
    Ok(())
}

const SMALL: u64 = 1 << 20;
const BLOCK: usize = 64 << 10;

/// A large file of a new data directory is almost all zeros. Shared blocks where the file system can; otherwise only the
/// written blocks are copied, and the rest is reserved: the redo log must never find the disk full.
fn copy_large(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    target.set_permissions(source.metadata()?.permissions())?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut block = vec![0; BLOCK];
    loop {
        let read = source.read(&mut block)?;
        match &block[..read] {
            [] => break,
            zeros if zeros.iter().all(|byte| *byte == 0) => drop(target.seek(SeekFrom::Current(zeros.len() as i64))?),
            bytes => target.write_all(bytes)?,
        }
    }
    match rustix::fs::fallocate(&target, FallocateFlags::empty(), 0, length) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error).context("reserve the space of the copy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_its_space_is_reserved() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        fs::create_dir_all(from.join("mysql")).unwrap();
        let mut large = vec![0; 3 * SMALL as usize + 17];
        large[5 * BLOCK + 3] = 7;
        *large.last_mut().unwrap() = 9;
        fs::write(from.join("ib_logfile0"), &large).unwrap();
        fs::write(from.join("mysql/user.frm"), "small").unwrap();

        copy_directory(&from, &to).unwrap();

        assert!(fs::read(to.join("ib_logfile0")).unwrap() == large);
        assert_eq!(fs::read_to_string(to.join("mysql/user.frm")).unwrap(), "small");
    }
}
