//! The server program: found at run time, because it comes with the operating system and not with this release.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::mysql::Family;

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
    pub(super) async fn find() -> Result<Program> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
        let found =
            places.flat_map(|place| ["mariadbd", "mysqld"].map(|name| place.join(name))).find(|path| path.is_file());
        let Some(path) = found else {
            bail!("cannot find the server program mariadbd (nor mysqld); install the Debian package mariadb-server")
        };
        let version = version_of(&path).await?;
        let family = Family::of(&version)?;
        Ok(Program { path, version, family })
    }
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
    ensure!(
        version.contains("MariaDB"),
        "{} is {version}; this agent works with MariaDB (the Debian package mariadb-server)",
        path.display()
    );
    Ok(version.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect())
}
