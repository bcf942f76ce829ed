//! The floor: `floor.sh` with the product's own server settings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use tests::Stack;
use tests::mysql::Credentials;

/// Settings that say which server it is, not how it works; the script gives its own.
const IDENTITY: [&str; 15] = [
    "basedir",
    "bind-address",
    "datadir",
    "init-file",
    "log-bin",
    "log-error",
    "pid-file",
    "port",
    "read-only",
    "relay-log",
    "server-id",
    "socket",
    "tmpdir",
    "user",
    "report-host",
];

/// How many servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Single,
    Pair,
}

impl Topology {
    /// The plan of the same shape.
    pub(crate) fn plan(self) -> &'static str {
        match self {
            Topology::Single => "db-single",
            Topology::Pair => "db-leader-follower",
        }
    }
}

/// Where the bare servers live.
pub(crate) struct Floor {
    script: PathBuf,
    directory: PathBuf,
    settings: PathBuf,
    addresses: [String; 2],
}

impl Floor {
    /// Take over the product's settings and prepare the template.
    pub(crate) fn prepare(stack: &Stack, settings: &str) -> Result<Floor> {
        // On the same file system as the product's disks, so that a copy costs the same.
        let directory = stack.directory().join("floor");
        std::fs::create_dir_all(&directory).context("make the floor's directory")?;
        let floor = Floor {
            script: Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/floor.sh"),
            settings: directory.join("my.cnf"),
            directory,
            addresses: [2, 3].map(|host| format!("127.{}.200.{host}", stack.block)),
        };
        std::fs::write(&floor.settings, without_identity(settings)).context("write the floor's settings")?;
        floor.script(&["template"], &[floor.settings.to_str().context("the settings' path is not text")?])?;
        Ok(floor)
    }

    /// Start servers once and return how long that took.
    pub(crate) fn start(&self, topology: Topology) -> Result<Duration> {
        let settings = self.settings.to_str().context("the settings' path is not text")?;
        let [leader, follower] = &self.addresses;
        let printed = match topology {
            Topology::Single => self.script(&["single"], &[settings, leader])?,
            Topology::Pair => self.script(&["pair"], &[settings, leader, follower])?,
        };
        let ms: f64 = printed.trim().parse().with_context(|| format!("read the floor's time from {printed}"))?;
        Ok(Duration::from_secs_f64(ms / 1000.0))
    }

    /// End the servers and remove their data.
    pub(crate) fn stop(&self) -> Result<()> {
        self.script(&["stop"], &[]).map(drop)
    }

    /// The application's way to both servers.
    pub(crate) fn application(&self) -> [Credentials; 2] {
        self.addresses.clone().map(|hostname| Credentials {
            hostname,
            port: 3306,
            name: "service_instance_db".to_owned(),
            username: "application".to_owned(),
            password: "application".to_owned(),
            uri: String::new(),
            jdbc_url: String::new(),
        })
    }

    /// The administrator's way to a server.
    pub(crate) async fn administrator(&self, server: &str) -> Result<MySqlConnection> {
        let socket = self.directory.join(server).join("socket");
        let options = MySqlConnectOptions::new().socket(socket).username("root");
        options.connect().await.with_context(|| format!("connect to the bare {server}"))
    }

    /// The address of a server.
    pub(crate) fn address(&self, server: usize) -> &str {
        &self.addresses[server]
    }

    fn script(&self, mode: &[&str], arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.script);
        // Marked like a VM's processes, so that the stack's guard ends the servers when the benchmark is interrupted.
        command.env("TANDEM_VM_CID", "floor").args(mode).arg(&self.directory).args(arguments);
        let output = command.output();
        let output = output.context("run floor.sh")?;
        ensure!(output.status.success(), "floor.sh {mode:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(cause) = self.stop() {
            eprintln!("{cause:#}");
        }
    }
}

fn without_identity(settings: &str) -> String {
    let is_identity = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim().replace('_', "-").to_lowercase();
        IDENTITY.contains(&name.as_str()) || line.trim_start().starts_with('!')
    };
    settings.lines().filter(|line| !is_identity(line)).fold(String::new(), |text, line| text + line + "\n")
}
