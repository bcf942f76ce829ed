//! The directories of VMs and disks.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;

pub(super) fn make_dir(path: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
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
