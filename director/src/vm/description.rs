//! The directory of a VM, and `vm.json` in it: what the director writes down for the supervisor. Properties and secrets
//! are not in it but in each job's `config.json`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What the supervisor must know of its VM.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) cid: String,
    pub(crate) address: Ipv4Addr,
    /// Where the programs are.
    pub(crate) programs: PathBuf,
    pub(crate) jobs: Vec<DescribedJob>,
}

/// A job without its properties.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedJob {
    pub(crate) name: String,
    pub(crate) program: Option<String>,
    pub(crate) errand: Option<String>,
    #[serde(default)]
    pub(crate) pre_stop: Vec<String>,
    pub(crate) ports: Vec<u16>,
}

/// The root directory of a VM and where things are in it.
#[derive(Clone)]
pub(crate) struct VmDir(PathBuf);

impl VmDir {
    pub(crate) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn description(&self) -> PathBuf {
        self.0.join("vm.json")
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.0.join("jobs")
    }

    pub(crate) fn config(&self, job: &str) -> PathBuf {
        self.jobs().join(job).join("config.json")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("sys/run")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("sys/log")
    }

    pub(crate) fn read(&self) -> anyhow::Result<Description> {
        let file = self.description();
        let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))
    }
}

/// The whole environment of every process of a VM. The mark is how they are found, whoever their parent is.
pub(crate) fn environment(cid: &str) -> [(&'static str, &str); 2] {
    [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), (super::marked::MARK, cid)]
}
