//! The task queue: everything that takes time is a task with a number, a state and growing outputs. A bounded number of
//! workers takes them in order.
//!
//! ```text
//! queued -> processing -> done | error            (or timeout, which is played only: `disturbance`)
//!    |          '-> cancelling -> cancelled        (a task may end in `done` before it sees the cancellation)
//!    '-> cancelled
//! ```

mod disturbance;
mod entry;
pub(crate) mod log;
pub(crate) mod range;
pub(crate) mod record;
mod running;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::event::{Deed, Events};
use crate::fault::Faults;
use crate::file;
use crate::lock::Locks;
use entry::Entry;
use record::{Filter, Kind, Record, State};
pub(crate) use running::Running;

/// How many tasks run at the same time. A task that waits for a deployment's lock keeps its worker, as in BOSH.
const WORKERS: usize = 32;
/// How many tasks may wait for a worker.
const QUEUE: usize = 4096;
/// How many tasks of each kind are remembered, as in BOSH.
const KEPT: usize = 2000;

pub(crate) struct Tasks {
    directory: PathBuf,
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    workers: Arc<Semaphore>,
    tracker: TaskTracker,
    events: Arc<Events>,
    disturbances: Option<disturbance::Source>,
}

/// What a request asks to be done.
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) description: String,
    pub(crate) deployment: Option<String>,
    pub(crate) user: String,
    pub(crate) context_id: String,
    /// What the director's events say of it; nothing of what changes nothing.
    pub(crate) deed: Option<Deed>,
}

impl Order {
    pub(crate) fn telling(self, deed: Deed) -> Self {
        Self { deed: Some(deed), ..self }
    }
}

impl Tasks {
    /// Tasks that ran when the director died are over: nobody works on them any more.
    pub(crate) fn open(state: &Path, events: Arc<Events>) -> anyhow::Result<Self> {
        let directory = state.join("tasks");
        file::private_directory(&directory)?;
        let mut entries = BTreeMap::new();
        for entry in std::fs::read_dir(&directory).context("list the stored tasks")? {
            let directory = entry.context("list the stored tasks")?.path();
            let Some(record) = Record::read(&directory) else { continue };
            entries.insert(record.id, Arc::new(Entry::new(record, directory)));
        }
        let tasks = Self {
            directory,
            entries: Mutex::new(entries),
            workers: Arc::new(Semaphore::new(WORKERS)),
            tracker: TaskTracker::new(),
            events,
            disturbances: None,
        };
        tasks.end_what_was_running();
        Ok(tasks)
    }

    /// The same, with faults that are played.
    pub(crate) fn disturbed_by(self, faults: Arc<Faults>, locks: Locks) -> Self {
        Self { disturbances: Some(disturbance::Source { faults, locks }), ..self }
    }

    /// Queue a task. It is on disk when this returns, so its number stays good.
    pub(crate) async fn submit<W, F>(&self, order: Order, work: W) -> Result<u64>
    where
        W: FnOnce(Running) -> F + Send + 'static,
        F: Future<Output = Result<String>> + Send + 'static,
    {
        let (entry, forgotten) = self.enter(order)?;
        let (id, workers, events) = (entry.lock().id, self.workers.clone(), self.events.clone());
        let (tell, told) = oneshot::channel();
        // All of it is the tracker's: whoever asked may hang up at any moment, and a task that was entered must end.
        self.tracker.spawn(async move {
            let stored = entry.store(forgotten).await;
            let is_stored = stored.is_ok();
            // Nobody listens where the client has hung up.
            let _ = tell.send(stored);
            if !is_stored {
                return entry.finish(Err(anyhow::anyhow!("the task could not be stored").into())).await;
            }
            let ran = tokio::select! {
                biased;
                () = entry.cancelled.cancelled() => Err(Error::cancelled(id)),
                place = entry.wait_for(workers) => match place {
                    Some(_place) => run(&entry, &events, work).await,
                    None => Err(anyhow::anyhow!("the director is stopping").into()),
                },
            };
            entry.finish(ran).await;
        });
        told.await.context("store a task")??;
        Ok(id)
    }

    pub(crate) fn get(&self, id: u64) -> Option<Record> {
        self.entry(id).map(|entry| entry.lock().clone())
    }

    /// The deployment of the first task that was asked for with this context id.
    pub(crate) fn deployment_of(&self, context_id: &str) -> Option<String> {
        let entries = self.lock();
        let mut records = entries.values().map(|entry| entry.lock());
        records.find(|record| record.context_id == context_id).and_then(|record| record.deployment.clone())
    }

    pub(crate) fn list(&self, filter: &Filter) -> Vec<Record> {
        let entries: Vec<_> = self.lock().values().cloned().collect();
        record::select(entries.iter().map(|entry| entry.lock().clone()), filter)
    }

    /// The file of one output of a task.
    pub(crate) fn output(&self, id: u64, kind: &str) -> Option<PathBuf> {
        self.entry(id).map(|entry| entry.directory.join(kind))
    }

    /// Ask a task to stop. The refusal is the plain text of a real director.
    pub(crate) fn cancel(&self, id: u64) -> std::result::Result<(), String> {
        let entry = self.entry(id).ok_or_else(|| format!("Task {id} not found"))?;
        let mut record = entry.lock();
        match record.state {
            State::Queued | State::Processing => record.state = State::Cancelling,
            State::Cancelling => {}
            State::Cancelled | State::Done | State::Error | State::Timeout => {
                return Err(format!("Cannot cancel task {id}: invalid state ({})", record.state.name()));
            }
        }
        entry.cancelled.cancel();
        Ok(())
    }

    /// Wait for the tasks that run; what takes longer than the caller waits is an error at the next start.
    pub(crate) async fn close(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The new entry, and the old ones that it displaces. Nothing is done on the disk yet: the entries are locked.
    fn enter(&self, mut order: Order) -> Result<(Arc<Entry>, Vec<Arc<Entry>>)> {
        let mut entries = self.lock();
        let waiting = entries.values().filter(|entry| !entry.lock().state.is_final()).count();
        if waiting >= QUEUE {
            return Err(anyhow::anyhow!("{waiting} tasks are waiting already; try again when some have ended").into());
        }
        let disturbance = self.disturbances.as_ref().and_then(|source| source.of(&order));
        let id = entries.last_key_value().map_or(1, |(last, _)| last + 1);
        let records = entries.values().map(|entry| entry.lock());
        let of_kind: Vec<(u64, State)> =
            records.filter(|record| record.kind == order.kind).map(|r| (r.id, r.state)).collect();
        let forgotten =
            record::superfluous(&of_kind, KEPT - 1).into_iter().filter_map(|old| entries.remove(&old)).collect();
        let deed = order.deed.take();
        let entry = Entry::new(Record::queued(id, order), self.directory.join(id.to_string()));
        let entry = Arc::new(Entry { deed, disturbance, ..entry });
        entries.insert(id, entry.clone());
        Ok((entry, forgotten))
    }

    /// A real director whose worker died leaves an error without a result and without an error in the events: that is
    /// how a client knows that the task did not fail by itself and may be asked for again.
    fn end_what_was_running(&self) {
        for entry in self.lock().values().filter(|entry| !entry.lock().state.is_final()) {
            {
                let mut record = entry.lock();
                (record.state, record.timestamp) = (State::Error, Some(OffsetDateTime::now_utc().unix_timestamp()));
                record.result = None;
                tracing::warn!(
                    task_id = record.id,
                    description = record.description,
                    "the director's end broke a task off"
                );
            }
            // The next start would come to the same.
            if let Err(error) = entry.save() {
                tracing::error!(error = format!("{error:#}"), "cannot store the end of a task");
            }
        }
    }

    fn entry(&self, id: u64) -> Option<Arc<Entry>> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work between its two events; a task of its own, so that a panic in it is the task's error and not the director's
/// end.
async fn run<W, F>(entry: &Arc<Entry>, events: &Events, work: W) -> Result<String>
where
    W: FnOnce(Running) -> F + Send + 'static,
    F: Future<Output = Result<String>> + Send + 'static,
{
    let running = entry.begin();
    let actor = running.actor();
    let spawned = match entry.disturbance.clone() {
        None => tokio::spawn(work(running)),
        Some(disturbance) => tokio::spawn(disturbance.play(running, work)),
    };
    let done =
        async { spawned.await.unwrap_or_else(|cause| Err(anyhow::anyhow!("the task broke off: {cause}").into())) };
    match entry.deed.clone() {
        Some(deed) => events.around(actor, deed, done).await,
        None => done.await,
    }
}
