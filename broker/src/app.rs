//! What every part of the program works with.

#[cfg(test)]
pub(crate) mod fixture;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use agent::config::{Config, Secret};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::agents::Agents;
use crate::bosh::Director;
use crate::config::{Clients, Properties};
use crate::documents::Documents;
use crate::reconciler::{Overview, TURNS_LIMIT};
use crate::seal::Sealer;
use crate::store::Store;
use crate::witness::Witness;

/// The parts, ready to work.
#[derive(Debug)]
pub(crate) struct App {
    documents: RwLock<Arc<Documents>>,
    pub(crate) store: Store,
    pub(crate) director: Director,
    pub(crate) agents: Agents,
    pub(crate) sealer: Sealer,
    pub(crate) witness: Witness,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) clients: Clients,
    /// The id of this broker's BOSH instance: claims of an earlier run are known by it.
    pub(crate) owner: String,
    pub(crate) operation_timeout: Duration,
    /// There is a new operation.
    pub(crate) wish: Notify,
    /// An operation in progress was halted.
    pub(crate) halt: Notify,
    /// There are new documents.
    pub(crate) reloaded: Notify,
    /// What the director works on, seen for all operations.
    pub(crate) overview: Overview,
    /// Who looks at an operation and acts, now.
    pub(crate) turns: Semaphore,
    /// Every request that is being carried out, also after its client has hung up.
    pub(crate) requests: TaskTracker,
}

impl App {
    /// Read the documents and open the state database; nothing is listening and nobody is called yet.
    pub(crate) async fn prepare(config: Config<Properties>) -> anyhow::Result<App> {
        let Config { spec, properties, .. } = config;
        properties.check()?;
        let documents = Documents::read(&spec, &properties)?;
        let director = Director::new(&properties.director)?;
        let sealer = Sealer::new(&properties.encryption_keys)?;
        let store = Store::open(&properties.state_database(&spec)).await?;
        let agents = Agents::new(properties.agent_tls)?;
        let witness = Witness::new(store.clone(), Instant::now());
        Ok(App {
            documents: RwLock::new(Arc::new(documents)),
            store,
            director,
            agents,
            sealer,
            witness,
            username: properties.username,
            password: properties.password,
            clients: properties.clients,
            owner: spec.id,
            operation_timeout: Duration::from_secs(60) * properties.operation_timeout_minutes,
            wish: Notify::new(),
            halt: Notify::new(),
            reloaded: Notify::new(),
            overview: Overview::default(),
            turns: Semaphore::new(TURNS_LIMIT),
            requests: TaskTracker::new(),
        })
    }

    /// The documents as they are now. Whoever decides twice asks once.
    pub(crate) fn documents(&self) -> Arc<Documents> {
        Arc::clone(&self.documents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these.
    pub(crate) fn replace(&self, documents: Documents) {
        *self.documents.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(documents);
        self.reloaded.notify_one();
    }
}
