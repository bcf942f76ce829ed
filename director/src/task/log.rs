//! A task's three outputs: the events (one JSON object per line, as the `bosh` CLI reads them), the result and the debug
//! log. Each is a file that grows while the task runs.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::file;

/// The directory of one task.
#[derive(Clone)]
pub(crate) struct Log {
    directory: PathBuf,
}

/// A stage of a task: a numbered list of steps in the event output.
pub(crate) struct Stage<'a> {
    log: &'a Log,
    name: String,
    tags: Vec<String>,
    total: Option<usize>,
    begun: AtomicUsize,
}

impl Log {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// `total` is null in the events of single-instance actions.
    pub(crate) fn stage(&self, name: &str, tags: &[&str], total: Option<usize>) -> Stage<'_> {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Stage { log: self, name: name.to_owned(), tags, total, begun: AtomicUsize::new(0) }
    }

    pub(crate) fn warning(&self, message: &str) {
        self.event(&json!({"time": now(), "type": "warning", "message": message}));
    }

    /// The last event of a task that failed.
    pub(super) fn failure(&self, error: &Error) {
        self.event(&json!({"time": now(), "error": {"code": error.code.number(), "message": error.description}}));
    }

    /// What was asked for; without it the task has failed.
    pub(crate) fn result_line(&self, line: &Value) -> Result<()> {
        Ok(file::append(&self.directory.join("result"), format!("{line}\n").as_bytes())?)
    }

    /// For the operator: never a secret.
    pub(crate) fn debug(&self, message: &str) {
        let time = OffsetDateTime::now_utc();
        self.write("debug", format!("{time} {message}\n").as_bytes());
    }

    fn event(&self, event: &Value) {
        self.write("event", format!("{event}\n").as_bytes());
    }

    /// A lost line of these must not fail the work that it tells of.
    fn write(&self, output: &str, bytes: &[u8]) {
        if let Err(error) = file::append(&self.directory.join(output), bytes) {
            tracing::error!(error = format!("{error:#}"), "cannot write the output of a task");
        }
    }
}

impl Stage<'_> {
    /// Do one step of the stage between its `started` and its `finished` or `failed` event.
    pub(crate) async fn step<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let index = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.event(name, index, "started", 0, None);
        let done = work.await;
        match &done {
            Ok(_) => self.event(name, index, "finished", 100, None),
            Err(error) => self.event(name, index, "failed", 100, Some(json!({"error": error.description}))),
        }
        done
    }

    fn event(&self, task: &str, index: usize, state: &str, progress: u8, data: Option<Value>) {
        let mut event = json!({"time": now(), "stage": self.name, "tags": self.tags, "total": self.total, "task": task,
            "index": index, "state": state, "progress": progress});
        if let (Some(data), Some(fields)) = (data, event.as_object_mut()) {
            fields.insert("data".to_owned(), data);
        }
        self.log.event(&event);
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
