//! The data directory of a new server, copied from a template that the VMs of a director share: making one anew takes
//! most of a second and a copy takes a few hundredths. The template is made once for each server version and redo log
//! size, beside its place and then renamed; so is the copy. A crash leaves no half directory under the real name.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, FlockOperation};

use super::files::remove_if_there;
use super::program::Program;

/// Where templates are kept and which one is needed.
pub(super) struct Template {
    pub(super) cache: PathBuf,
    pub(super) redo_log_mb: u64,
    pub(super) is_root: bool,
}

impl Template {
    /// Make `data` from the template; the template first where it is missing.
    pub(super) fn copy_to(&self, data: &Path, program: &Program) -> Result<()> {
        let template = self.find_or_make(program)?;
        let half = data.with_extension("new");
        remove_if_there(&half)?;
        copy_directory(&template, &half)
            .with_context(|| format!("copy {} to {}", template.display(), half.display()))?;
        fs::rename(&half, data).with_context(|| format!("rename {} to {}", half.display(), data.display()))
    }

    fn find_or_make(&self, program: &Program) -> Result<PathBuf> {
        fs::create_dir_all(&self.cache).with_context(|| format!("make the directory {}", self.cache.display()))?;
        let name = format!("mysql-data-{}-redo{}M", program.version, self.redo_log_mb);
        let template = self.cache.join(&name);
        if template.is_dir() {
            return Ok(template);
        }
        // Agents that come at the same time wait here for the first one; a dead one's lock is gone with it.
        let lock = File::create(self.cache.join("lock")).context("open the lock of the template")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).context("lock the template")?;
        if !template.is_dir() {
            let half = self.cache.join(format!("{name}.new"));
            remove_if_there(&half)?;
            self.install(&half)?;
            fs::rename(&half, &template)
                .with_context(|| format!("rename {} to {}", half.display(), template.display()))?;
        }
        Ok(template)
    }

    fn install(&self, data: &Path) -> Result<()> {
        let mut command = Command::new("mariadb-install-db");
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.arg(format!("--innodb-log-file-size={}M", self.redo_log_mb));
        command.arg(format!("--datadir={}", data.display())).stdin(Stdio::null());
        if self.is_root {
            command.arg("--user=root");
        }
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("cannot find the program mariadb-install-db; install the Debian package mariadb-server")
            }
            Err(error) => return Err(error).context("start mariadb-install-db"),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> =
            said.lines().filter(|line| line.contains("ERROR") || line.contains("rror:")).take(5).collect();
        bail!("mariadb-install-db could not make {} ({}): {}", data.display(), output.status, lines.join("; "))
    }
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
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
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
