//! `config.json`, the one document that every program on a VM reads: who am I (`spec`), whom do I work with (`links`),
//! what was I told (`properties`). A BOSH release renders it with one line of ERB; the one-machine director writes the
//! same document.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The document, with the job's own properties.
#[derive(Debug, Deserialize)]
pub struct Config<P> {
    /// The instance that the program runs on.
    pub spec: Spec,
    /// What the job consumes, by the name of the link.
    #[serde(default = "BTreeMap::new")]
    pub links: BTreeMap<String, Link>,
    /// The job's properties; each program refuses the ones that it does not know.
    pub properties: P,
}

/// BOSH's `spec`: the instance.
#[derive(Clone, Debug, Deserialize)]
pub struct Spec {
    /// The deployment's name.
    pub deployment: String,
    /// The instance group's name.
    pub name: String,
    /// The instance's id, for ever.
    pub id: String,
    /// Its index in the group.
    pub index: u32,
    /// Its availability zone.
    pub az: String,
    /// Its address.
    pub ip: IpAddr,
    /// The size of the VM; read from the machine where the director does not say.
    pub vm_resources: Option<VmResources>,
    /// The directory that holds `store`, `data`, `jobs`, `packages` and `sys`.
    #[serde(default = "bosh_root")]
    pub root: PathBuf,
}

fn bosh_root() -> PathBuf {
    PathBuf::from("/var/vcap")
}

impl Spec {
    /// The persistent disk: it survives the VM.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The ephemeral disk: it survives a process, not the VM.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The run directory: it survives a process, not the VM.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("sys/run")
    }

    /// The log directory.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("sys/log")
    }

    /// The packages: programs and documents that many VMs share.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }
}

/// The size of a VM, in BOSH's words (`vm_resources`).
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct VmResources {
    /// Cores.
    pub cpu: u32,
    /// Memory in MB.
    pub ram: u64,
}

/// A link that the job consumes.
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// Every instance behind the link, this one included.
    pub instances: Vec<LinkedInstance>,
}

/// One instance behind a link.
#[derive(Clone, Debug, Deserialize)]
pub struct LinkedInstance {
    /// The instance's id.
    pub id: String,
    /// Its index in the group.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
}

/// The keys of one end of a mutual TLS connection, as PEM text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authority that signed both ends.
    pub ca: String,
    /// The certificate of this end.
    pub certificate: String,
    /// Its private key.
    pub private_key: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls { .. }")
    }
}

/// A text that does not print.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why the document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or not readable.
    #[error("cannot read the configuration file {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not the document; the cause names the field.
    #[error("the configuration file {0} is not usable")]
    Parse(PathBuf, #[source] serde_json::Error),
}

/// Read the document.
///
/// # Errors
/// The file cannot be read, is not JSON, lacks a field or has a property that the program does not know.
pub fn read<P: DeserializeOwned>(path: &Path) -> Result<Config<P>, Error> {
    let bytes = std::fs::read(path).map_err(|cause| Error::Read(path.into(), cause))?;
    serde_json::from_slice(&bytes).map_err(|cause| Error::Parse(path.into(), cause))
}
