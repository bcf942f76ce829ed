//! The server program: found at run time, because it comes with the operating system and not with this release.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

use crate::mysql::Family;
use crate::report::sentence;

/// Debian has the server in `/usr/sbin`; other packagings put it under libexec.
const PLACES: [&str; 5] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec"];

/// For a program that only says its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A server program that can be used.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// Its version, as in `10.11.19-MariaDB`.
    pub(super) version: String,
    pub(super) family: Family,
}

impl Program {
    /// Find a server of the `wanted` family; of any, with MariaDB first, where none is named. MySQL may be a package of the
    /// release as well, since not every system has one.
    pub(super) async fn find(packages: &Path, wanted: Option<Family>) -> Result<Program> {
        let mut why_not = Vec::new();
        for path in candidates(packages, wanted).into_iter().filter(|path| path.is_file()) {
            match Program::at(path).await {
                Ok(program) if wanted.is_none_or(|wanted| wanted == program.family) => return Ok(program),
                Ok(_) => {}
                Err(error) => why_not.push(sentence(&error)),
            }
        }
        let missing = match wanted {
            None | Some(Family::MariaDb) => {
                "cannot find the server program mariadbd (nor mysqld); install the Debian package mariadb-server"
            }
            Some(Family::MySql) => {
                "cannot find a MySQL server of version 8.4 or later, as mysqld in PATH or as the package mysql of the VM"
            }
        };
        why_not.insert(0, missing.to_owned());
        bail!(why_not.join("; "))
    }

    async fn at(path: PathBuf) -> Result<Program> {
        let version = version_of(&path).await?;
        let family = Family::of(&version).with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(Program { path, version, family })
    }
}

/// Where a server may be, the likeliest first: each is asked for its version, which takes time.
fn candidates(packages: &Path, wanted: Option<Family>) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = || std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    let package = packages.join("mysql/bin/mysqld");
    let mut found = match wanted {
        Some(Family::MySql) => std::iter::once(package).chain(places().map(|place| place.join("mysqld"))).collect(),
        None | Some(Family::MariaDb) => {
            let of_the_system = places().flat_map(|place| ["mariadbd", "mysqld"].map(|name| place.join(name)));
            of_the_system.chain([package]).collect::<Vec<_>>()
        }
    };
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(path.clone()));
    found
}

async fn version_of(path: &Path) -> Result<String> {
    let mut command = Command::new(path);
    command.args(["--no-defaults", "--version"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(VERSION_LIMIT, command.output())
        .await
        .with_context(|| format!("{} --version did not end within {} s", path.display(), VERSION_LIMIT.as_secs()))?
        .with_context(|| format!("start {} --version", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().skip_while(|word| *word != "Ver").nth(1);
    let version =
        version.with_context(|| format!("{} --version said {:?}, no version", path.display(), text.trim()))?;
    Ok(version.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect())
}
