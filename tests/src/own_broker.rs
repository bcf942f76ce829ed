//! A broker beside the deployed one, on its address and with its director, but with a port, a state database and a catalog
//! of its own: a test may kill it and start it again as often as it likes. (The director starts a program that keeps dying
//! later and later.)

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::broker::{self, Broker};
use crate::director::write_secret;
use crate::processes;
use crate::proxy::Proxy;
use crate::stack::{self, BROKER_DEPLOYMENT, Stack};
use crate::state_database::StateDatabase;
use crate::wait::eventually;

/// Time for the broker to answer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A broker that runs; it is killed in the end.
#[derive(Debug)]
pub struct OwnBroker {
    /// As a platform sees it.
    pub broker: Broker,
    /// Between it and the director.
    pub proxy: Proxy,
    /// Where its wishes are.
    pub database: StateDatabase,
    /// What it is told.
    pub config: Value,
    directory: PathBuf,
    process: Child,
}

impl OwnBroker {
    /// Start one with a new state database: on the PostgreSQL server of the environment, or a file.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(stack: &Stack) -> Result<OwnBroker> {
        OwnBroker::start_with(stack, |_| {}).await
    }

    /// The same with a change of what it is told.
    ///
    /// # Errors
    /// As [`OwnBroker::start`].
    pub async fn start_with(stack: &Stack, change: impl FnOnce(&mut Value)) -> Result<OwnBroker> {
        let id = broker::new_id();
        let directory = stack.directory().join(format!("broker-{id}"));
        stack::copy_documents(&stack::documents(), &directory.join("documents"))?;
        let database = StateDatabase::new(&id, directory.join("store/mysql-broker/state.db")).await?;
        let proxy = Proxy::start(&stack.director).await?;
        let mut config = stack.director.job_config(BROKER_DEPLOYMENT, "mysql-broker")?;
        config["spec"]["id"] = id.into();
        config["spec"]["root"] = json!(directory);
        let port = free_port(&config["spec"]["ip"])?;
        let properties = &mut config["properties"];
        properties["port"] = port.into();
        // Simulated servers have no questions to a witness.
        properties["witness_port"] = 0.into();
        properties["documents"] = json!(directory.join("documents"));
        properties["director"]["url"] = proxy.url.as_str().into();
        properties["director"]["ca"] = proxy.ca_pem.as_str().into();
        properties["state_database"] = database.property();
        change(&mut config);
        write_secret(&directory.join("config.json"), &config.to_string())?;
        let (broker, process) = (Broker::from_config(&config)?, spawn(&directory)?);
        let own = OwnBroker { broker, proxy, database, config, directory, process };
        own.answers().await?;
        Ok(own)
    }

    /// End it without a farewell.
    ///
    /// # Errors
    /// It cannot be awaited.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().context("kill the broker")?;
        self.process.wait().map(drop).context("await the broker")
    }

    /// Start it again after it was killed.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.directory)?;
        self.answers().await
    }

    /// Have it serve this catalog.
    ///
    /// # Errors
    /// It does not.
    pub async fn offer(&self, catalog: &str, sign: &str) -> Result<()> {
        fs::write(self.catalog_path(), catalog).context("write the catalog")?;
        processes::reload(self.process.id().cast_signed());
        eventually("the broker serves the new catalog", START_LIMIT, async || {
            Ok(self.broker.get("/v2/catalog").await?.body.to_string().contains(sign).then_some(()))
        })
        .await
    }

    /// The catalog that it serves.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn catalog(&self) -> Result<String> {
        fs::read_to_string(self.catalog_path()).context("read the catalog")
    }

    /// Everything that it has said.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.directory.join("log")).context("read the broker's log")
    }

    fn catalog_path(&self) -> PathBuf {
        self.directory.join("documents/catalog.yml")
    }

    async fn answers(&self) -> Result<()> {
        let answers = eventually("the broker answers", START_LIMIT, async || {
            Ok((self.broker.get("/v2/catalog").await?.status == 200).then_some(()))
        });
        answers
            .await
            .with_context(|| format!("the broker's last words:\n{}", stack::tail(&self.directory.join("log"), 30)))
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        if let Err(cause) = self.kill() {
            eprintln!("{cause:#}");
        }
    }
}

fn spawn(directory: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log")).context("open the broker's log")?;
    let mut command = Command::new(stack::programs()?.join("mysql-broker"));
    command.arg("--config").arg(directory.join("config.json")).env("RUST_LOG", "debug");
    let streams = (log.try_clone().context("share the log")?, log);
    command.stdout(streams.0).stderr(streams.1).spawn().context("start mysql-broker")
}

fn free_port(ip: &Value) -> Result<u16> {
    let ip = ip.as_str().context("read the broker's address")?;
    let listener = TcpListener::bind((ip, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("read the free port")?.port())
}
