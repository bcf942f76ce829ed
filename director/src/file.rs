//! Files that are whole or absent: written beside and renamed. Only the owner can read them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Replace a file: a reader, also one after a crash, finds the old text or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        write_beside(path, bytes)?.sync_all()?;
        std::fs::rename(beside(path), path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// The same for what need not outlive the machine's power: it is not flushed to the disk.
pub(crate) fn replace_unflushed(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || write_beside(path, bytes).and_then(|_| std::fs::rename(beside(path), path));
    write().with_context(|| format!("write {}", path.display()))
}

/// Add to the end of a file, all of it or nothing: a disk may be full in the middle.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        file.write_all(bytes).or_else(|error| file.set_len(length).and(Err(error)))
    };
    write().with_context(|| format!("append to {}", path.display()))
}

/// A directory for us alone, made if it is missing.
pub(crate) fn private_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("make the directory {}", path.display()))
}

fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside(path))?;
    file.write_all(bytes)?;
    Ok(file)
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}
