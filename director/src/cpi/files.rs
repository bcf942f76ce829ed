//! The files of a VM. They are not flushed to the disk: a VM does not outlive the machine's power.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;

pub(super) fn make_dir(path: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
}

/// Replace a file that only its owner may read; a reader sees the old or the new text.
pub(super) fn write_secret(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        let fresh = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text)?;
        std::fs::rename(&fresh, path)
    };
    written().with_context(|| format!("write {}", path.display()))
}

/// Remove a directory and what is in it; what its links point at stays.
pub(super) async fn remove_dir(path: &Path) -> anyhow::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
