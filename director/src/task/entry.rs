//! One task in memory and on the disk, from the moment that it is asked for until its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Running;
use super::disturbance::Disturbance;
use super::log::Log;
use super::record::{self, Record, State};
use crate::error::Result;
use crate::event::Deed;
use crate::file;

/// Between two attempts to store the end of a task on a full disk.
const STORE_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Entry {
    pub(super) record: Mutex<Record>,
    pub(super) cancelled: CancellationToken,
    pub(super) directory: PathBuf,
    pub(super) deed: Option<Deed>,
    pub(super) disturbance: Option<Disturbance>,
}

impl Entry {
    pub(super) fn new(record: Record, directory: PathBuf) -> Self {
        let (record, cancelled) = (Mutex::new(record), CancellationToken::new());
        Self { record, cancelled, directory, deed: None, disturbance: None }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A real director has all three outputs from the first moment on.
    fn prepare(&self) -> anyhow::Result<()> {
        file::private_directory(&self.directory)?;
        ["event", "result", "debug"].iter().try_for_each(|output| file::append(&self.directory.join(output), b""))
    }

    fn remove_outputs(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "cannot remove the outputs of an old task");
        }
    }

    pub(super) fn save(&self) -> anyhow::Result<()> {
        let record = serde_json::to_vec_pretty(&*self.lock())?;
        file::replace(&self.directory.join("task.json"), &record)
    }

    /// Bring it to the disk, and what it displaces from there.
    pub(super) async fn store(self: &Arc<Self>, displaced: Vec<Arc<Self>>) -> anyhow::Result<()> {
        let entry = self.clone();
        let store = move || {
            displaced.iter().for_each(|entry| entry.remove_outputs());
            entry.prepare().and_then(|()| entry.save())
        };
        tokio::task::spawn_blocking(store).await.context("store a task")?
    }

    /// A place at work; none when the director is stopping.
    pub(super) async fn wait_for(&self, workers: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Some(disturbance) = &self.disturbance {
            disturbance.queue().await;
        }
        workers.acquire_owned().await.ok()
    }

    pub(super) fn begin(&self) -> Running {
        let mut record = self.lock();
        if record.state == State::Queued {
            record.state = State::Processing;
        }
        record.started_at = Some(OffsetDateTime::now_utc().unix_timestamp());
        Running::new(&record, self.cancelled.clone(), Log::new(self.directory.clone()))
    }

    /// The end is on disk before anybody sees it: what was reported as done stays done. Where the disk is full it is as soon as
    /// there is room, and the task has ended all the same: its lock is waited for.
    pub(super) async fn finish(self: &Arc<Self>, ran: Result<String>) {
        let ended = self.ended(ran);
        let stored = store_end(&self.directory, &ended).await;
        tracing::info!(task_id = ended.id, state = ended.state.name(), description = ended.description, "task ended");
        *self.lock() = ended.clone();
        if let Err(error) = stored {
            tracing::error!(task_id = ended.id, error = format!("{error:#}"), "cannot store the end of a task yet");
            let directory = self.directory.clone();
            // Nobody waits for it: where the director ends first, the next one takes the task for broken off.
            tokio::spawn(async move {
                while directory.exists() && store_end(&directory, &ended).await.is_err() {
                    tokio::time::sleep(STORE_AGAIN).await;
                }
            });
        }
    }

    fn ended(&self, ran: Result<String>) -> Record {
        let mut record = self.lock().clone();
        record.timestamp = Some(OffsetDateTime::now_utc().unix_timestamp());
        let silent_end = self.disturbance.as_ref().and_then(Disturbance::silent_end);
        match ran {
            Err(_) if let Some(state) = silent_end => record.state = state,
            Ok(result) => (record.state, record.result) = (State::Done, Some(record::shorten(result))),
            Err(error) => {
                Log::new(self.directory.clone()).failure(&error);
                let cancelled = self.cancelled.is_cancelled();
                record.state = if cancelled { State::Cancelled } else { State::Error };
                record.result =
                    Some(if cancelled { "task cancelled".to_owned() } else { record::shorten(error.description) });
            }
        }
        record
    }
}

async fn store_end(directory: &Path, ended: &Record) -> anyhow::Result<()> {
    let (path, bytes) = (directory.join("task.json"), serde_json::to_vec_pretty(ended)?);
    tokio::task::spawn_blocking(move || file::replace(&path, &bytes)).await.context("store the end of a task")?
}
