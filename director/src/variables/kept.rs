//! The file of the variables. Its text is replaced as a whole, so it is always one that was meant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::is_absolute;
use crate::file;

/// A variable that was made. It is a secret, so there is no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) is_ca: bool,
    pub(super) value: serde_json::Value,
}

/// All variables, in memory as in the file.
pub(super) struct Kept {
    file: PathBuf,
    document: Document,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Document {
    last_id: u64,
    /// Those with an absolute name.
    shared: BTreeMap<String, Entry>,
    deployments: BTreeMap<String, Deployment>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Deployment {
    own: BTreeMap<String, Entry>,
    /// The absolute names that its manifest uses.
    used: BTreeSet<String>,
}

impl Kept {
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        let document = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Document::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        Ok(Self { file: file.to_owned(), document })
    }

    pub(super) fn get(&self, deployment: &str, name: &str) -> Option<&Entry> {
        if is_absolute(name) {
            return self.document.shared.get(name);
        }
        self.document.deployments.get(deployment)?.own.get(name)
    }

    /// Keep what was made for a deployment, under new ids, and which shared ones it uses.
    pub(super) fn add(
        &mut self,
        deployment: &str,
        made: Vec<(String, Entry)>,
        used: BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let known = self.document.deployments.get(deployment);
        if made.is_empty() && known.map_or(used.is_empty(), |known| known.used == used) {
            return Ok(());
        }
        let mut changed = self.document.clone();
        let Document { last_id, shared, deployments } = &mut changed;
        let known = deployments.entry(deployment.to_owned()).or_default();
        known.used = used;
        for (name, entry) in made {
            *last_id += 1;
            let entry = Entry { id: last_id.to_string(), ..entry };
            let place = if is_absolute(&name) { &mut *shared } else { &mut known.own };
            place.insert(name, entry);
        }
        self.replace(changed)
    }

    pub(super) fn list(&self, deployment: &str) -> Vec<(String, String)> {
        let Some(known) = self.document.deployments.get(deployment) else { return Vec::new() };
        let own = known.own.iter().map(|(name, entry)| (entry.id.clone(), format!("/tandem/{deployment}/{name}")));
        let shared =
            known.used.iter().filter_map(|name| Some((self.document.shared.get(name)?.id.clone(), name.clone())));
        own.chain(shared).collect()
    }

    pub(super) fn forget(&mut self, deployment: &str) -> anyhow::Result<()> {
        if !self.document.deployments.contains_key(deployment) {
            return Ok(());
        }
        let mut changed = self.document.clone();
        changed.deployments.remove(deployment);
        self.replace(changed)
    }

    /// The file first: what is handed out must not be lost.
    fn replace(&mut self, document: Document) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&document).context("write the variables")?;
        file::replace(&self.file, &text)?;
        self.document = document;
        Ok(())
    }
}
