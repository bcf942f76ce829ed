//! What an agent must not forget, on the disk.

use std::io::ErrorKind;
use std::path::Path;

use agent::quorum::Record;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Promise;
use crate::mysqld::remove_file_if_there;

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
