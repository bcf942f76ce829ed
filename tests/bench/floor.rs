//! The floor: `floor.sh` with the product's own server settings, or with what of them decides durability.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use tests::clients::Family;
use tests::mysql::Credentials;
use tests::{Stack, stack};

use crate::settings::Settings;

/// The servers of a pair, by the names that the script gives them.
pub(crate) const SERVERS: [&str; 2] = ["leader", "follower"];

/// How many servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Single,
    Pair,
}

/// Where the bare servers of a family live. One server or one pair at a time.
pub(crate) struct Floor {
    pub(crate) family: Family,
    script: PathBuf,
    directory: PathBuf,
    settings: PathBuf,
    addresses: [String; 2],
}

impl Floor {
    /// Prepare the template.
    pub(crate) fn prepare(stack: &Stack, family: Family, settings: &Settings) -> Result<Floor> {
        // On the same file system as the product's disks, so that a copy costs the same.
        let directory = stack.directory().join("floor").join(family.name());
        std::fs::create_dir_all(&directory).context("make the floor's directory")?;
        let floor = Floor {
            family,
            script: Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/floor.sh"),
            settings: directory.join("my.cnf"),
            directory,
            addresses: [2, 3].map(|host| format!("127.{}.200.{host}", stack.block)),
        };
        settings.write(&floor.settings)?;
        floor.script("template", &[&floor.settings()?])?;
        Ok(floor)
    }

    /// Start servers once and return how long that took.
    pub(crate) fn start(&self, topology: Topology, settings: &Settings) -> Result<Duration> {
        settings.write(&self.settings)?;
        let [leader, follower] = &self.addresses;
        let printed = match topology {
            Topology::Single => self.script("single", &[&self.settings()?, leader])?,
            Topology::Pair => self.script("pair", &[&self.settings()?, leader, follower])?,
        };
        let ms: f64 = printed.trim().parse().with_context(|| format!("read the floor's time from {printed}"))?;
        Ok(Duration::from_secs_f64(ms / 1000.0))
    }

    /// Start a server of the pair again, on the data in its directory.
    pub(crate) fn launch(&self, server: usize) -> Result<()> {
        self.script("launch", &[&self.settings()?, SERVERS[server], &self.addresses[server]]).map(drop)
    }

    /// End a server without a farewell; its data stay.
    pub(crate) fn kill(&self, server: usize) -> Result<()> {
        self.script("kill", &[SERVERS[server]]).map(drop)
    }

    /// The process of a server.
    pub(crate) fn pid(&self, server: usize) -> Result<i32> {
        let text = std::fs::read_to_string(self.directory.join(SERVERS[server]).join("process"));
        text.context("read the bare server's pid")?.trim().parse().context("read the bare server's pid")
    }

    /// End the servers and remove their data.
    pub(crate) fn stop(&self) -> Result<()> {
        self.script("stop", &[]).map(drop)
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
    pub(crate) async fn administrator(&self, server: usize) -> Result<MySqlConnection> {
        let options = MySqlConnectOptions::new().socket(self.place(server).join("socket")).username("root");
        options.connect().await.with_context(|| format!("connect to the bare {}", SERVERS[server]))
    }

    /// The address of a server.
    pub(crate) fn address(&self, server: usize) -> &str {
        &self.addresses[server]
    }

    /// The directory of a server; its data are in `data`.
    pub(crate) fn place(&self, server: usize) -> PathBuf {
        self.directory.join(SERVERS[server])
    }

    fn settings(&self) -> Result<String> {
        self.settings.to_str().map(str::to_owned).context("the settings' path is not text")
    }

    fn script(&self, mode: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.script);
        if self.family == Family::Mysql {
            command.env("MYSQL", stack::programs()?.with_file_name("mysql"));
        }
        // Marked like a VM's processes, so that the stack's guard ends the servers when the benchmark is interrupted.
        command.env("TANDEM_VM_CID", "floor").arg(mode).arg(&self.directory).args(arguments);
        let output = command.output();
        let output = output.context("run floor.sh")?;
        ensure!(output.status.success(), "floor.sh {mode} failed: {}", String::from_utf8_lossy(&output.stderr));
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
