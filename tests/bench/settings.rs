//! The settings of a bare server, taken from the product's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tests::broker;
use tests::{Service, Stack};

/// Settings that say which server it is, not how it works; the script gives its own.
const IDENTITY: [&str; 16] = [
    "basedir",
    "bind-address",
    "datadir",
    "init-file",
    "log-bin",
    "log-error",
    "pid-file",
    "port",
    "read-only",
    "super-read-only",
    "relay-log",
    "server-id",
    "socket",
    "tmpdir",
    "user",
    "report-host",
];

/// Settings without which it is not replication with the same promise on the same memory. All others are ours, and what they
/// cost is what is measured.
const PROMISE: [&str; 24] = [
    "binlog-format",
    "enforce-gtid-consistency",
    "gtid-mode",
    "innodb-buffer-pool-size",
    "innodb-flush-log-at-trx-commit",
    "innodb-flush-method",
    "innodb-log-buffer-size",
    "innodb-log-file-size",
    "innodb-redo-log-capacity",
    "log-replica-updates",
    "log-slave-updates",
    "mysqlx",
    "performance-schema",
    "plugin-load-add",
    "rpl-semi-sync-master-timeout",
    "rpl-semi-sync-master-wait-point",
    "rpl-semi-sync-replica-enabled",
    "rpl-semi-sync-slave-enabled",
    "rpl-semi-sync-source-timeout",
    "rpl-semi-sync-source-wait-point",
    "secure-file-priv",
    "skip-name-resolve",
    "sync-binlog",
    "sync-relay-log",
];

/// A configuration file's text.
#[derive(Clone)]
pub(crate) struct Settings(String);

impl Settings {
    /// The ones that the product gives the servers of a plan. A service instance is made for that, so the caches are warm.
    pub(crate) async fn of_plan(stack: &Stack, plan: &'static str) -> Result<Settings> {
        let service = Service::provision(stack, plan).await?;
        let instances = stack.director.instances(&broker::deployment_of(&service.id())).await?;
        let root = stack.director.vm_root(instances.first().context("a pair without instances")?)?;
        let path = find(&root, 3).with_context(|| format!("find the server's settings below {}", root.display()))?;
        let settings = std::fs::read_to_string(path).context("read the server's settings")?;
        service.delete().await?;
        Ok(Settings(filtered(&settings, |name| !IDENTITY.contains(&name))))
    }

    /// Only what the promise needs.
    pub(crate) fn bare(&self) -> Settings {
        Settings(filtered(&self.0, |name| PROMISE.contains(&name)))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, &self.0).context("write the floor's settings")
    }
}

fn filtered(settings: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let is_kept = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim().replace('_', "-").to_lowercase();
        name.starts_with('[') || (!line.trim_start().starts_with(['!', '#']) && is_kept(&name))
    };
    settings.lines().filter(is_kept).fold(String::new(), |text, line| text + line + "\n")
}

fn find(directory: &Path, depth: u32) -> Option<PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let here = entries.iter().find(|path| path.extension().is_some_and(|extension| extension == "cnf")).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir() && depth > 0).find_map(|path| find(path, depth - 1)))
}
