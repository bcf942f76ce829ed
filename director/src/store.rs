//! The director's memory on disk: one document for each deployment and one for the rest. A change is made to a copy,
//! written, and only then seen by anybody, so that what was answered survives a crash. One writer at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result as BoshResult};
use crate::file;
use crate::model::{Deployment, Shared};

/// Everything that is remembered. Copies are cheap: only what a change touches is really copied.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) deployments: BTreeMap<String, Arc<Deployment>>,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Store {
    directory: PathBuf,
    now: RwLock<Model>,
    writer: tokio::sync::Mutex<()>,
}

impl Model {
    pub(crate) fn deployment(&self, name: &str) -> BoshResult<&Arc<Deployment>> {
        self.deployments.get(name).ok_or_else(|| Error::no_deployment(name))
    }

    pub(crate) fn deployment_mut(&mut self, name: &str) -> BoshResult<&mut Deployment> {
        self.deployments.get_mut(name).map(Arc::make_mut).ok_or_else(|| Error::no_deployment(name))
    }

    pub(crate) fn shared_mut(&mut self) -> &mut Shared {
        Arc::make_mut(&mut self.shared)
    }
}

impl Store {
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let directory = state.to_owned();
        file::private_directory(&directory.join("deployments"))?;
        let mut model = Model { deployments: BTreeMap::new(), shared: Arc::new(read(&shared_path(&directory))?) };
        for entry in std::fs::read_dir(directory.join("deployments")).context("list the stored deployments")? {
            let path = entry.context("list the stored deployments")?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let deployment: Deployment = read(&path)?;
                model.deployments.insert(deployment.name.clone(), Arc::new(deployment));
            }
        }
        forget_attached_orphans(&mut model);
        Ok(Self { directory, now: RwLock::new(model), writer: tokio::sync::Mutex::new(()) })
    }

    /// What is remembered at this moment.
    pub(crate) fn read(&self) -> Model {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn deployment(&self, name: &str) -> BoshResult<Arc<Deployment>> {
        self.read().deployment(name).cloned()
    }

    /// Change what is remembered. Nothing changes when `change` refuses or the disk does. Not to be dropped in the middle,
    /// because the disk would then know what the memory does not: whoever calls runs in a task of its own (every handler
    /// does, see `http::carry_out`).
    pub(crate) async fn write<T>(&self, change: impl FnOnce(&mut Model) -> BoshResult<T>) -> BoshResult<T> {
        let _writer = self.writer.lock().await;
        let before = self.read();
        let mut after = before.clone();
        let answer = change(&mut after)?;
        let (directory, new) = (self.directory.clone(), after.clone());
        tokio::task::spawn_blocking(move || save(&directory, &before, &new)).await.context("save the state")??;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(answer)
    }
}

/// A crash between the two documents of one change leaves a disk both orphaned and attached: attached is the truth,
/// because a disk is put on the list of orphans before its instance forgets it.
fn forget_attached_orphans(model: &mut Model) {
    let attached: Vec<String> = model
        .deployments
        .values()
        .flat_map(|deployment| &deployment.instances)
        .filter_map(|instance| instance.disk.as_ref().map(|disk| disk.cid.clone()))
        .collect();
    model.shared_mut().orphan_disks.retain(|orphan| !attached.contains(&orphan.disk.cid));
}

/// Write the documents that differ; the shared one first (see `forget_attached_orphans`).
fn save(directory: &Path, before: &Model, after: &Model) -> Result<()> {
    if !Arc::ptr_eq(&before.shared, &after.shared) {
        file::replace(&shared_path(directory), &serde_json::to_vec_pretty(&*after.shared)?)?;
    }
    for (name, deployment) in &after.deployments {
        let unchanged = before.deployments.get(name).is_some_and(|old| Arc::ptr_eq(old, deployment));
        if !unchanged {
            file::replace(&deployment_path(directory, name), &serde_json::to_vec_pretty(&**deployment)?)?;
        }
    }
    for name in before.deployments.keys().filter(|name| !after.deployments.contains_key(*name)) {
        let path = deployment_path(directory, name);
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn shared_path(directory: &Path) -> PathBuf {
    directory.join("director.json")
}

/// Names are checked when a manifest is read (`manifest::check_name`): no `/`, no leading dot.
fn deployment_path(directory: &Path, name: &str) -> PathBuf {
    directory.join("deployments").join(format!("{name}.json"))
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read the state file {}", path.display())),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(cause) => Err(cause).with_context(|| format!("read the state file {}", path.display())),
    }
}
