//! The blobstore: archives that tasks make and clients fetch soon after. The last ones are kept, so that fetching logs
//! does not fill the disk.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use uuid::Uuid;

use crate::file;

/// How many archives are kept.
const KEPT: usize = 20;

pub(crate) struct Blobs {
    directory: PathBuf,
}

/// A directory for what goes into an archive; it is gone when this is.
pub(crate) struct Scratch(PathBuf);

impl Blobs {
    /// What was being made when a director died is removed.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let directory = state.join("blobs");
        file::private_directory(&directory)?;
        for entry in std::fs::read_dir(&directory).context("list the blobs")? {
            let path = entry.context("list the blobs")?.path();
            if is_blob(&path) {
                continue;
            }
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(Self { directory })
    }

    pub(crate) fn scratch(&self) -> Result<Scratch> {
        let scratch = Scratch(self.directory.join(Uuid::new_v4().to_string()).with_extension("scratch"));
        file::private_directory(scratch.path())?;
        Ok(scratch)
    }

    /// Make a blob of everything in a directory, a gzip tar, and return its id.
    pub(crate) async fn store(&self, scratch: &Scratch) -> Result<String> {
        let id = Uuid::new_v4().to_string();
        let packed = scratch.path().with_extension("tgz");
        pack(scratch.path(), &packed).await?;
        std::fs::rename(&packed, self.directory.join(&id)).context("keep an archive")?;
        self.forget_oldest()?;
        Ok(id)
    }

    /// The file of a blob.
    pub(crate) fn find(&self, id: &str) -> Option<PathBuf> {
        let id: Uuid = id.parse().ok()?;
        Some(self.directory.join(id.to_string())).filter(|path| path.is_file())
    }

    fn forget_oldest(&self) -> Result<()> {
        let mut blobs: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.directory).context("list the blobs")? {
            let entry = entry.context("list the blobs")?;
            if is_blob(&entry.path()) {
                blobs.push((
                    entry.metadata().and_then(|about| about.modified()).context("list the blobs")?,
                    entry.path(),
                ));
            }
        }
        blobs.sort();
        let superfluous = blobs.len().saturating_sub(KEPT);
        blobs
            .iter()
            .take(superfluous)
            .try_for_each(|(_, path)| std::fs::remove_file(path).context("remove an old blob"))
    }
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "cannot remove what an archive was made of");
        }
    }
}

fn is_blob(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Uuid>().is_ok())
}

/// Pack a directory that nobody writes to any more.
pub(crate) async fn pack(directory: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--gzip").arg("--file").arg(archive).arg("--directory").arg(directory).arg(".");
    let output = tar.kill_on_drop(true).output().await.context("run tar")?;
    if !output.status.success() {
        bail!("tar ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_blobs_are_kept_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(state.path()).unwrap();

        let mut ids = Vec::new();
        for _ in 0..KEPT + 2 {
            ids.push(blobs.store(&blobs.scratch().unwrap()).await.unwrap());
        }

        let kept: Vec<bool> = ids.iter().map(|id| blobs.find(id).is_some()).collect();
        assert_eq!(kept.iter().filter(|is_kept| **is_kept).count(), KEPT);
        assert!(kept[2..].iter().all(|is_kept| *is_kept), "{kept:?}");
        assert_eq!(std::fs::read_dir(state.path().join("blobs")).unwrap().count(), KEPT);
        for wrong in ["", "..", "../director.json", "../../etc/passwd", "nope"] {
            assert_eq!(blobs.find(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let scratch = Blobs::open(state.path()).unwrap().scratch().unwrap();
        std::fs::write(scratch.path().join("half"), "half").unwrap();
        std::fs::write(scratch.path().with_extension("tgz"), "half").unwrap();
        std::mem::forget(scratch);

        Blobs::open(state.path()).unwrap();

        assert_eq!(std::fs::read_dir(state.path().join("blobs")).unwrap().count(), 0);
    }
}
