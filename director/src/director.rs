//! The parts of a running director, and what several of its tasks need from them.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_yaml::Value;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::task::TaskTracker;

use crate::blob::Blobs;
use crate::client_address::ClientAddresses;
use crate::cloud_config::{self, CloudConfig};
use crate::config::{Config, CpiKind};
use crate::cpi::{Cpi, Layout};
use crate::error::{Code, Error, Result as BoshResult};
use crate::event::Events;
use crate::fault::Faults;
use crate::lock::Locks;
use crate::manifest::{self, Known, Manifest};
use crate::model::{Instance, OrphanDisk, Revision, StoredConfig};
use crate::release::{self, Release};
use crate::store::{Model, Store};
use crate::task::Tasks;
use crate::token::Tokens;
use crate::variables::{self, Variables};

/// How many VMs of one task are made, asked or ended at the same time.
pub(crate) const VMS_IN_FLIGHT: usize = 16;

/// How many requests are carried out at the same time; more wait.
const REQUESTS_IN_FLIGHT: usize = 128;

pub(crate) struct Director {
    pub(crate) config: Config,
    pub(crate) release: Release,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) tasks: Tasks,
    pub(crate) tokens: Tokens,
    pub(crate) events: Arc<Events>,
    pub(crate) locks: Locks,
    pub(crate) cpi: Cpi,
    pub(crate) variables: Variables,
    pub(crate) client_addresses: ClientAddresses,
    pub(crate) requests: Requests,
    /// Held by whoever deletes an orphaned disk or gives it to an instance, so that nobody is given one that is going.
    pub(crate) orphans: Mutex<()>,
    /// What is to go wrong; none where nothing is simulated.
    pub(crate) faults: Option<Arc<Faults>>,
    /// Locked as long as this director lives: two directors would remove each other's VMs.
    _state: File,
}

/// The requests that are being carried out, whether or not their clients still wait.
pub(crate) struct Requests {
    pub(crate) running: TaskTracker,
    pub(crate) places: Arc<Semaphore>,
}

impl Director {
    pub(crate) fn open(config: Config) -> Result<Self> {
        crate::file::private_directory(&config.state)?;
        let state = claim(&config.state)?;
        let program: PathBuf = std::env::current_exe().context("find the director's own program")?;
        let layout = Layout {
            state: config.state.clone(),
            programs: config.programs.clone(),
            documents: config.documents.clone(),
            program,
        };
        let locks = Locks::default();
        let faults = (config.cpi == CpiKind::Simulated).then(Arc::<Faults>::default);
        let events = Arc::new(Events::open(&config.state)?);
        let tasks = Tasks::open(&config.state, events.clone())?;
        Ok(Self {
            release: release::read(&config.release)?,
            store: Store::open(&config.state)?,
            blobs: Blobs::open(&config.state)?,
            tasks: match &faults {
                Some(faults) => tasks.disturbed_by(faults.clone(), locks.clone()),
                None => tasks,
            },
            tokens: Tokens::new(rand::random()),
            events,
            locks,
            cpi: match &faults {
                Some(faults) => Cpi::simulating(layout, faults.clone())?,
                None => Cpi::new(layout),
            },
            variables: Variables::open(&config.state)?,
            client_addresses: match &faults {
                // Nothing listens behind them.
                Some(_) => ClientAddresses::unserved(),
                None => ClientAddresses::default(),
            },
            faults,
            orphans: Mutex::new(()),
            requests: Requests { running: TaskTracker::new(), places: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT)) },
            _state: state,
            config,
        })
    }

    /// The manifest of a revision with its variables filled in. It is checked twice: as it was written, where an error
    /// may quote it, and as it is used, where a quotation could hold a secret.
    pub(crate) async fn resolve(&self, deployment: &str, revision: &Revision) -> BoshResult<Manifest> {
        let cloud = self.cloud_config(revision.cloud_config)?;
        let known = Known { cloud: &cloud, release: &self.release };
        let (_, written) = manifest::read(&revision.manifest)?;
        manifest::check(&written, known)?;
        let resolved = self.fill_in(deployment, &written).await?;
        manifest::check(&resolved, known).map_err(|error| {
            Error::new(error.code, "The manifest is not usable once its variables are filled in; its text is withheld")
        })
    }

    pub(crate) fn cloud_config(&self, id: u64) -> BoshResult<CloudConfig> {
        let model = self.store.read();
        let config = model.shared.config(id).ok_or_else(no_cloud_config)?;
        cloud_config::parse(&config.content)
    }

    async fn fill_in(&self, deployment: &str, manifest: &Value) -> BoshResult<Value> {
        self.variables.resolve(deployment, manifest).await.map_err(|error| match error {
            variables::Error::Invalid(message) => Error::new(Code::VariableInvalid, message),
            variables::Error::Store(cause) => cause.context("keep the variables").into(),
        })
    }
}

impl Model {
    pub(crate) fn latest_cloud_config(&self) -> BoshResult<&StoredConfig> {
        self.shared.cloud_config().ok_or_else(no_cloud_config)
    }

    /// An instance's disk outlives it: the orphan can be attached again, or deleted.
    pub(crate) fn orphan_disk(&mut self, deployment: &str, instance: &Instance, now: String) {
        if let Some(disk) = instance.disk.clone() {
            let orphan = OrphanDisk {
                disk,
                az: instance.az.clone(),
                deployment: deployment.to_owned(),
                instance: instance.slug(),
                orphaned_at: now,
            };
            self.shared_mut().orphan_disks.push(orphan);
        }
    }
}

fn claim(state: &Path) -> Result<File> {
    let path = state.join("lock");
    let file = File::create(&path).with_context(|| format!("make the lock {}", path.display()))?;
    file.try_lock().with_context(|| format!("another director uses the state directory {}", state.display()))?;
    Ok(file)
}

fn no_cloud_config() -> Error {
    Error::new(Code::ConfigNotFound, "There is no cloud config; upload one with `update-cloud-config`")
}

/// Do work side by side, at most `limit` at a time. After the first failure nothing new is begun, and what runs is
/// finished, so that no half-made VM stays behind.
///
/// The work comes as a list: a future that holds a `Map` with its closure is not `Send` to the compiler.
pub(crate) async fn side_by_side<F>(limit: usize, work: Vec<F>) -> BoshResult<()>
where
    F: Future<Output = BoshResult<()>>,
{
    let mut waiting = work.into_iter();
    let mut running: FuturesUnordered<F> = waiting.by_ref().take(limit.max(1)).collect();
    let mut failure = None;
    while let Some(done) = running.next().await {
        match done {
            Ok(()) if failure.is_none() => running.extend(waiting.next()),
            Ok(()) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(()), Err)
}
