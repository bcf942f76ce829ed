//! `release.MF`: what is in a release, with the digests by which a director checks and compares it.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::archive::{digest, fingerprint};
use crate::source::{Part, Release};

/// The state of the repository.
pub(crate) struct Commit {
    pub(crate) hash: String,
    pub(crate) has_changes: bool,
}

/// A job or a package in the document. Its version is its fingerprint, as in releases of the `bosh` CLI: a director has what
/// has a fingerprint that it knows.
#[derive(Serialize)]
pub(crate) struct Entered {
    name: String,
    version: String,
    fingerprint: String,
    sha1: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependencies: Option<Vec<String>>,
}

impl Entered {
    pub(crate) fn new(part: &Part, archive: &[u8]) -> Entered {
        let fingerprint = fingerprint(&part.entries);
        Entered {
            name: part.name.clone(),
            version: fingerprint.clone(),
            fingerprint,
            // The key is older than the digest.
            sha1: format!("sha256:{}", digest(archive)),
            packages: part.packages.clone(),
            dependencies: part.dependencies.clone(),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    name: &'a str,
    version: &'a str,
    commit_hash: &'a str,
    uncommitted_changes: bool,
    jobs: &'a [Entered],
    packages: &'a [Entered],
}

pub(crate) fn write(
    release: &Release,
    version: &str,
    commit: &Commit,
    jobs: &[Entered],
    packages: &[Entered],
) -> Result<String> {
    let document = Document {
        name: &release.name,
        version,
        commit_hash: &commit.hash,
        uncommitted_changes: commit.has_changes,
        jobs,
        packages,
    };
    serde_yaml::to_string(&document).context("write release.MF")
}
