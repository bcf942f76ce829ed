//! The built broker, told to work with the director behind a gate.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tests::broker::{self, Broker};
use tests::director::write_secret;
use tests::stack::{self, BROKER_DEPLOYMENT};
use tests::{Stack, eventually};

use crate::gate::{CLIENT, CLIENT_SECRET, Gate};

const LIMIT: Duration = Duration::from_secs(30);

/// A broker that runs; it is killed in the end.
pub(crate) struct Program {
    pub(crate) broker: Broker,
    directory: PathBuf,
    process: Child,
}

impl Program {
    /// Start one, and wait until it serves.
    pub(crate) async fn start(stack: &Stack, gate: &Gate) -> Result<Program> {
        let id = broker::new_id();
        let directory = stack.directory().join(format!("broker-{id}"));
        std::fs::create_dir_all(&directory).context("make the broker's directory")?;
        let mut config = stack.director.job_config(BROKER_DEPLOYMENT, "mysql-broker")?;
        let ip = config["spec"]["ip"].as_str().context("read the broker's address")?;
        let port = TcpListener::bind((ip, 0)).context("find a free port")?.local_addr()?.port();
        config["spec"]["id"] = id.into();
        config["spec"]["root"] = json!(directory);
        let properties = &mut config["properties"];
        properties["port"] = port.into();
        properties["witness_port"] = 0.into();
        properties["documents"] = json!(stack::documents());
        properties["director"] =
            json!({"url": gate.url, "ca": gate.ca, "client": CLIENT, "client_secret": CLIENT_SECRET});
        write_secret(&directory.join("config.json"), &config.to_string())?;
        let program = Program { broker: Broker::from_config(&config)?, process: spawn(&directory)?, directory };
        eventually("the broker answers", LIMIT, async || {
            Ok((program.broker.get("/v2/catalog").await?.status == 200).then_some(()))
        })
        .await
        .with_context(|| program.log().unwrap_or_default())?;
        Ok(program)
    }

    pub(crate) fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.directory.join("log")).context("read the broker's log")
    }

    /// Wait until it has said so.
    pub(crate) async fn says(&self, words: &str) -> Result<()> {
        let said =
            eventually(format!("it says `{words}`"), LIMIT, async || Ok(self.log()?.contains(words).then_some(())));
        said.await.with_context(|| self.log().unwrap_or_default())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &Path) -> Result<Child> {
    let log = File::create(directory.join("log")).context("open the broker's log")?;
    let mut command = Command::new(stack::programs()?.join("mysql-broker"));
    command.arg("--config").arg(directory.join("config.json")).env("RUST_LOG", "debug");
    let streams = (log.try_clone().context("share the log")?, log);
    command.stdout(streams.0).stderr(streams.1).spawn().context("start mysql-broker")
}
