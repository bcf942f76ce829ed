//! What every part of the program works with.

#[cfg(test)]
pub(crate) mod fixture;

use agent::config::Secret;
use std::time::{Duration, Instant};

use agent::config::Config;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::agents::Agents;
use crate::bosh::Director;
use crate::catalog::Catalog;
use crate::config::Properties;
use crate::manifest::{Manifests, Pairs};
use crate::reconciler::TURNS_LIMIT;
use crate::seal::Sealer;
use crate::store::Store;
use crate::witness::Witness;

/// The parts, ready to work.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) catalog: Catalog,
    pub(crate) manifests: Manifests,
    pub(crate) store: Store,
    pub(crate) director: Director,
    pub(crate) agents: Agents,
    pub(crate) sealer: Sealer,
    pub(crate) witness: Witness,
    pub(crate) username: String,
    pub(crate) password: Secret,
    /// The id of this broker's BOSH instance: claims of an earlier run are known by it.
    pub(crate) owner: String,
    pub(crate) operation_timeout: Duration,
    /// There is a new operation.
    pub(crate) wish: Notify,
    /// An operation in progress was halted.
    pub(crate) halt: Notify,
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
        let documents = properties.documents(&spec);
        let catalog = Catalog::read(&documents.join("catalog.yml"))?;
        let pairs = Pairs {
            witness_host: properties.witness_host.clone().unwrap_or_else(|| spec.ip.to_string()),
            witness_port: properties.witness_port,
            lease_ttl_in_ms: properties.lease_ttl_in_ms,
        };
        let manifests = Manifests::read(&documents, &catalog, pairs)?;
        let director = Director::new(&properties.director)?;
        let sealer = Sealer::new(&properties.encryption_key);
        let agents = Agents::new(properties.agent_tls)?;
        let store = Store::open(&spec.store().join("mysql-broker/state.db")).await?;
        let witness = Witness::new(store.clone(), Instant::now());
        Ok(App {
            catalog,
            manifests,
            store,
            director,
            agents,
            sealer,
            witness,
            username: properties.username,
            password: properties.password,
            owner: spec.id,
            operation_timeout: Duration::from_secs(60) * properties.operation_timeout_minutes,
            wish: Notify::new(),
            halt: Notify::new(),
            turns: Semaphore::new(TURNS_LIMIT),
            requests: TaskTracker::new(),
        })
    }
}
