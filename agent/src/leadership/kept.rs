//! What an agent must not forget, on the disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use agent::quorum::Record;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Promise;
use crate::mysqld::{put_staged, remove_file_if_there, stage_durably};

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) record: Record,
    /// The last epoch in which this server may have been writable, and has not followed since.
    pub(super) led: u64,
    /// The last epoch that this server laid down for the other one; 0 for none.
    #[serde(default)]
    pub(super) yielded: u64,
    #[serde(default)]
    pub(super) promise: Promise,
}

impl Kept {
    /// A file that is there and cannot be read is an error: a vote that is forgotten could be given twice.
    pub(super) fn read(file: &Path) -> Result<Kept> {
        // What a crash left half written was seen by nobody.
        remove_file_if_there(&file.with_extension("new"))?;
        match std::fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} holds what this agent agreed to and cannot be read; put it back from the other server's status",
                    file.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }
}

/// Where it is kept.
pub(super) struct Keeper {
    file: PathBuf,
    /// What lies beside the file and needs only to be put in its place.
    staged: Option<Kept>,
}

impl Keeper {
    pub(super) fn new(file: PathBuf) -> Keeper {
        Keeper { file, staged: None }
    }

    /// Write the slower half of what will probably be kept next, while there is time.
    pub(super) fn stage(&mut self, kept: Kept) -> Result<()> {
        if self.staged.as_ref() == Some(&kept) {
            return Ok(());
        }
        self.staged = None;
        let text = serde_json::to_string(&kept).context("write what this agent agrees to")?;
        stage_durably(&self.file, &text)?;
        self.staged = Some(kept);
        Ok(())
    }

    /// It is on the disk when this returns.
    pub(super) fn keep(&mut self, kept: Kept) -> Result<()> {
        self.stage(kept)?;
        self.staged = None;
        put_staged(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(epoch: u64) -> Kept {
        Kept { led: epoch, ..Kept::default() }
    }

    #[test]
    fn what_was_staged_is_kept_only_when_it_is_what_is_to_be_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("leadership.json");
        let mut keeper = Keeper::new(file.clone());

        keeper.stage(led(2)).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), Kept::default());

        // The read removes what was staged, as a start of the agent does, so it is written anew.
        keeper.staged = None;
        keeper.keep(led(2)).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), led(2));

        keeper.stage(led(4)).unwrap();
        keeper.keep(led(3)).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), led(3));

        keeper.stage(led(5)).unwrap();
        keeper.keep(led(5)).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), led(5));
    }
}
