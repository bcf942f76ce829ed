//! `release`: writes the BOSH release of `manifests/release` as the tarball that `bosh upload-release` takes. The same input
//! gives the same bytes: no time, user or machine goes in.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `source.rs` | the release as it lies in its folder: jobs and packages, read and checked |
//! | `archive.rs` | archives whose bytes depend on their files only |
//! | `manifest.rs` | `release.MF` |

mod archive;
mod manifest;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use archive::Entry;
use manifest::{Commit, Entered};
use source::Places;

/// Write the release tarball of Tandem.
#[derive(Parser)]
struct Arguments {
    /// The release's folder.
    #[arg(long, default_value = "manifests/release")]
    source: PathBuf,
    /// Where the built programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// The archive of a MySQL server (manifests/release/packages/mysql/README.md).
    #[arg(long)]
    server: Option<PathBuf>,
    /// The release's version.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// The tarball [default: target/tandem-VERSION.tgz]
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    match write(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("release: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> Result<()> {
    let Arguments { source, programs, server, version, output } = arguments;
    let release = source::read(source, &Places { programs, server: server.as_deref() })?;
    let mut entries = Vec::new();
    let packages = enter("packages", &release.packages, &mut entries)?;
    let jobs = enter("jobs", &release.jobs, &mut entries)?;
    let document = manifest::write(&release, version, &commit_of(source), &jobs, &packages)?;
    // First, so that whoever only wants to know what this is need not read on.
    entries.insert(0, Entry::document("release.MF", document.into_bytes()));

    let output = output.clone().unwrap_or_else(|| format!("target/tandem-{version}.tgz").into());
    replace(&output, &archive::write(&entries)?)?;
    println!("{} is written: release {} {version}", output.display(), release.name);
    Ok(())
}

/// Put every part into an archive of its own, and that among the entries of the release.
fn enter(kind: &str, parts: &[source::Part], entries: &mut Vec<Entry>) -> Result<Vec<Entered>> {
    let mut entered = Vec::with_capacity(parts.len());
    for part in parts {
        let bytes = archive::write(&part.entries).with_context(|| format!("pack {kind}/{}", part.name))?;
        println!("{kind}/{}: {} files, {} KB", part.name, part.entries.len(), bytes.len().div_ceil(1024));
        entered.push(Entered::new(part, &bytes));
        entries.push(Entry::document(&format!("{kind}/{}.tgz", part.name), bytes));
    }
    Ok(entered)
}

/// What the release was made of; `bosh` says `non-git` where nobody knows.
fn commit_of(source: &Path) -> Commit {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(source).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "--short=7", "HEAD"]), git(&["status", "--porcelain"])) {
        (Some(hash), Some(changes)) => Commit { hash, has_changes: !changes.is_empty() },
        (Some(_) | None, None) | (None, Some(_)) => Commit { hash: "non-git".to_owned(), has_changes: true },
    }
}

/// Whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    ensure!(!path.is_dir(), "{} is a directory; give the name of the tarball", path.display());
    let half = path.with_extension("new");
    let put = || fs::write(&half, bytes).and_then(|()| fs::rename(&half, path));
    put().with_context(|| format!("write {}", path.display()))
}
