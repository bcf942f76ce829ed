//! `director.yml`. An unknown key, a missing file or a path that is not there is refused before anything starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Everything that the director and its VMs keep is below this directory; made when it is missing.
    pub(crate) state: PathBuf,
    pub(crate) listen: SocketAddr,
    /// Which program each job runs.
    pub(crate) release: PathBuf,
    /// Where the programs of the jobs are.
    pub(crate) programs: PathBuf,
    /// The release's documents.
    pub(crate) documents: PathBuf,
    pub(crate) users: Vec<User>,
    /// How they show who they are.
    #[serde(default)]
    pub(crate) authentication: Authentication,
    /// Of a UAA's tokens.
    #[serde(default = "an_hour")]
    pub(crate) token_lifetime_in_seconds: u32,
    /// Whether a VM that is gone is made again; `PUT /resurrection` pauses it while this is true.
    #[serde(default = "yes")]
    pub(crate) resurrection: bool,
    #[serde(default)]
    pub(crate) cpi: CpiKind,
}

/// What a VM is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CpiKind {
    #[default]
    Process,
    /// VMs with a MySQL server are simulated, and go wrong on demand.
    Simulated,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Authentication {
    /// With every request.
    #[default]
    Basic,
    /// Once, to the UAA that this director then is too, for a token.
    Uaa,
}

/// Somebody who may use the director. No `Debug`: it would print the password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
    /// What he may do, in the words of BOSH; with a UAA only.
    #[serde(default = "administrator")]
    pub(crate) scopes: Vec<String>,
}

/// Everything.
pub(crate) fn administrator() -> Vec<String> {
    vec!["bosh.admin".to_owned()]
}

fn an_hour() -> u32 {
    3600
}

fn yes() -> bool {
    true
}

/// Read and check the file; relative paths in it are relative to it.
pub(crate) fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read the config file {}", path.display()))?;
    let mut config = parse(&text).with_context(|| format!("the config file {} is not usable", path.display()))?;
    let base = std::path::absolute(path)?.parent().map(Path::to_owned).unwrap_or_default();
    for entry in [&mut config.state, &mut config.release, &mut config.programs, &mut config.documents] {
        *entry = base.join(&*entry);
    }
    ensure!(config.release.is_file(), "release: there is no file {}", config.release.display());
    ensure!(config.programs.is_dir(), "programs: there is no directory {}", config.programs.display());
    ensure!(config.token_lifetime_in_seconds >= 2, "token_lifetime_in_seconds: a token must be good for 2 s or more");
    ensure!(config.documents.is_dir(), "documents: there is no directory {}", config.documents.display());
    Ok(config)
}

fn parse(text: &str) -> Result<Config> {
    let config: Config = serde_yaml::from_str(text)?;
    ensure!(!config.users.is_empty(), "users: at least one user with a name and a password is needed");
    for user in &config.users {
        ensure!(!user.name.is_empty() && !user.name.contains(':'), "users: a name is not empty and has no colon");
        ensure!(!user.password.is_empty(), "users: the password of '{}' is empty", user.name);
        let has_scopes = user.scopes != administrator();
        ensure!(
            !has_scopes || config.authentication == Authentication::Uaa,
            "users: '{}' has scopes, which need `authentication: uaa`",
            user.name
        );
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "state: s\nlisten: 127.0.0.1:25555\nrelease: r\nprograms: p\ndocuments: d\n";

    #[test]
    fn bad_files_name_what_is_wrong() {
        let table = [
            ("", "users: [{name: admin, password: x}]\nworkers: 3", "unknown field `workers`"),
            ("", "users: []", "at least one user"),
            ("", "users: [{name: admin, password: ''}]", "the password of 'admin' is empty"),
            ("", "users: [{name: 'a:b', password: x}]", "has no colon"),
            ("", "users: [{name: a, password: x, scopes: [bosh.read]}]", "'a' has scopes, which need"),
            ("", "users: [{name: a, password: x}]\nauthentication: ldap", "unknown variant `ldap`"),
            ("", "", "missing field `users`"),
            ("", "listen: 9", "duplicate"),
        ];
        for (before, after, expected) in table {
            let error = parse(&format!("{before}{GOOD}{after}")).err().map(|error| format!("{error:#}"));
            assert!(error.as_deref().is_some_and(|error| error.contains(expected)), "{after}: {error:?}");
        }
    }

    #[test]
    fn resurrection_is_on_unless_it_is_switched_off() {
        let users = "users: [{name: admin, password: x}]\n";

        let silent = parse(&format!("{GOOD}{users}")).unwrap();
        let off = parse(&format!("{GOOD}{users}resurrection: false")).unwrap();

        assert!(silent.resurrection && !off.resurrection);
    }
}
