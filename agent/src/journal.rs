//! What the commands of this agent did, step by step with its time: a line of JSON for the beginning and the end of each step,
//! beside the server's data. For humans after an incident; nothing is decided by it, because every step is chosen from what the
//! servers say.

use std::fs::{File, OpenOptions, rename};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent::api::Command;
use anyhow::{Context, Result};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Two files of this size are kept.
const SIZE_LIMIT: u64 = 1 << 20;

/// The journal's file.
#[derive(Clone, Debug)]
pub(crate) struct Journal(PathBuf);

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    command: &'a str,
    step: &'a str,
    epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Journal {
    pub(crate) fn new(store: &Path) -> Journal {
        Journal(store.join("journal.ndjson"))
    }

    /// A step begins.
    pub(crate) fn begins(&self, command: Command, step: &str, epoch: u64) {
        self.write(&Line { at: now(), command: command.name(), step, epoch, ms: None, error: None });
    }

    /// It ended after so long, with or without an error.
    pub(crate) fn ended(&self, command: Command, step: &str, epoch: u64, ms: u128, error: Option<&str>) {
        self.write(&Line { at: now(), command: command.name(), step, epoch, ms: Some(ms), error });
    }

    /// A full disk must not stop a failover.
    fn write(&self, line: &Line<'_>) {
        if let Err(error) = self.append(line) {
            tracing::warn!("the journal misses a line: {error:#}");
        }
    }

    fn append(&self, line: &Line<'_>) -> Result<()> {
        let mut text = serde_json::to_string(line).context("write a line of the journal")?;
        text.push('\n');
        let mut file = self.open()?;
        if file.metadata().context("ask for the size of the journal")?.len() > SIZE_LIMIT {
            rename(&self.0, self.0.with_extension("ndjson.1")).context("put the full journal aside")?;
            file = self.open()?;
        }
        file.write_all(text.as_bytes()).context("write a line of the journal")
    }

    fn open(&self) -> Result<File> {
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.0);
        opened.with_context(|| format!("open {}", self.0.display()))
    }
}

fn now() -> String {
    OffsetDateTime::from(std::time::SystemTime::now()).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_leaves_a_line_when_it_begins_and_one_when_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());

        journal.begins(Command::Switchover, "HandOver", 4);
        journal.ended(Command::Switchover, "HandOver", 5, 12, None);
        journal.ended(Command::Switchover, "Follow(Me)", 5, 3, Some("no"));

        let text = std::fs::read_to_string(directory.path().join("journal.ndjson")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["step"], &lines[0]["ms"]), (&"HandOver".into(), &serde_json::Value::Null));
        assert_eq!((&lines[1]["epoch"], &lines[1]["ms"]), (&5.into(), &12.into()));
        assert_eq!(lines[2]["error"], "no");
    }
}
