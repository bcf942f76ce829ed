//! One lock for each deployment. The second writer waits inside its task, and gives up after ten seconds with the words
//! of a real director. Locks live in memory only: a director that died holds none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::error::{Code, Error, Result};
use crate::task::Running;

/// lock_helper.rb: `with_deployment_lock` waits this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// lock.rb: how long a lock is good without being renewed; shown by `GET /locks`.
const EXPIRATION_SECS: f64 = 241.0;

#[derive(Clone, Default)]
pub(crate) struct Locks {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Mutex<BTreeMap<String, Held>>,
    released: Notify,
}

/// Who holds a lock.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) task: u64,
    pub(crate) description: String,
    /// Seconds since 1970, with the fraction, when the lock would expire.
    pub(crate) timeout: f64,
}

/// The right to change a deployment, until it is dropped.
pub(crate) struct Lock {
    locks: Locks,
    deployment: String,
}

impl Locks {
    pub(crate) async fn acquire(&self, deployment: &str, task: &Running) -> Result<Lock> {
        tokio::select! {
            lock = self.wait(deployment, task) => Ok(lock),
            () = task.cancelled.cancelled() => Err(Error::cancelled(task.id)),
            () = tokio::time::sleep(PATIENCE) => Err(self.refusal(deployment)),
        }
    }

    pub(crate) fn held(&self) -> BTreeMap<String, Held> {
        self.lock().clone()
    }

    pub(crate) fn is_held(&self, deployment: &str) -> bool {
        self.lock().contains_key(deployment)
    }

    async fn wait(&self, deployment: &str, task: &Running) -> Lock {
        loop {
            let released = self.shared.released.notified();
            if let Some(lock) = self.try_take(deployment, task) {
                return lock;
            }
            released.await;
        }
    }

    fn try_take(&self, deployment: &str, task: &Running) -> Option<Lock> {
        let mut held = self.lock();
        if held.contains_key(deployment) {
            return None;
        }
        let timeout = OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9 + EXPIRATION_SECS;
        held.insert(deployment.to_owned(), Held { task: task.id, description: task.description.clone(), timeout });
        Some(Lock { locks: self.clone(), deployment: deployment.to_owned() })
    }

    fn refusal(&self, deployment: &str) -> Error {
        let holder = self.lock().get(deployment).cloned();
        let who = holder.map_or_else(String::new, |held| {
            format!(" Locking task id is {}, description: '{}'", held.task, held.description)
        });
        let uid = uuid::Uuid::new_v4();
        let message = format!("Failed to acquire lock for lock:deployment:{deployment} uid: {uid}.{who}");
        Error::new(Code::Generic, message)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.deployment);
        self.locks.shared.released.notify_waiters();
    }
}
