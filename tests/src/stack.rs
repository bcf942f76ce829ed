//! A stack: the built director and, deployed by it, the built broker, on addresses and in a directory of its own.
//! Whatever happens to the process that started it, its guard removes everything.

pub use catalog::copy_documents;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::broker::Broker;
use crate::director::{Director, Host};
use crate::proxy::Proxy;
use crate::wait::eventually;

pub mod block;
mod catalog;
pub mod guard;

use block::Block;
use guard::Guard;

/// The deployment of the broker.
pub const BROKER_DEPLOYMENT: &str = "mysql-broker";
/// Lines of a log that are printed where something did not come up.
const LAST_WORDS: usize = 30;
/// Time for the broker to answer after its deployment is done.
const BROKER_LIMIT: Duration = Duration::from_secs(30);

/// What a stack is started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wiring {
    /// The broker talks to the director.
    #[default]
    Direct,
    /// The broker talks to the director through a [`Proxy`].
    ThroughProxy,
    /// The broker talks to a director of simulated VMs, which go wrong on demand.
    Simulated,
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    /// The director.
    pub director: Director,
    /// The broker.
    pub broker: Broker,
    /// Between them, where asked for.
    pub proxy: Option<Proxy>,
    /// N in `127.N.0.0/16`.
    pub block: u8,
    directory: PathBuf,
    host: Host,
    guard: Option<Guard>,
    claim: Option<Block>,
}

impl Stack {
    /// Start a stack in a directory of its own, to be removed with this process at the latest.
    ///
    /// # Errors
    /// A program is missing or does not come up; its own words are in the text.
    pub async fn start(wiring: Wiring) -> Result<Stack> {
        Stack::start_offering(wiring, &[]).await
    }

    /// The same with more plans than our catalog has.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_offering(wiring: Wiring, plans: &[Value]) -> Result<Stack> {
        let directory = tempfile::Builder::new().prefix("tandem-").tempdir().context("make the stack's directory")?;
        let directory = directory.keep().canonicalize().context("resolve the stack's directory")?;
        let guard = Guard::start(&programs()?, &directory)?;
        let (block, mut guard) = (guard.block, Some(guard));
        let started = async {
            let documents = catalog::with_plans(&documents(), plans, &directory)?;
            Stack::bring_up(&directory, block, wiring, &documents).await
        };
        match started.await {
            Ok(mut stack) => {
                stack.guard = guard.take();
                Ok(stack)
            }
            Err(cause) => {
                let log = tail(&directory.join("director.log"), LAST_WORDS);
                drop(guard.map(Guard::finish));
                Err(cause.context(format!("start a stack; the director's last words:\n{log}")))
            }
        }
    }

    /// Start a stack in `directory` that stays when this process ends (after [`Stack::leave`]).
    ///
    /// # Errors
    /// A program is missing or does not come up. Nothing is left then.
    pub async fn start_in(directory: &Path, wiring: Wiring) -> Result<Stack> {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let directory = directory.canonicalize().with_context(|| format!("resolve {}", directory.display()))?;
        let claim = Block::claim()?;
        match Stack::bring_up(&directory, claim.number, wiring, &documents()).await {
            Ok(mut stack) => {
                stack.claim = Some(claim);
                Ok(stack)
            }
            Err(cause) => {
                let log = tail(&directory.join("director.log"), LAST_WORDS);
                guard::remove(&directory)?;
                Err(cause.context(format!("start a stack; the director's last words:\n{log}")))
            }
        }
    }

    async fn bring_up(directory: &Path, block: u8, wiring: Wiring, documents: &Path) -> Result<Stack> {
        let programs = programs()?;
        let cpi = if wiring == Wiring::Simulated { "simulated" } else { "process" };
        let host = Host::prepare(directory, &programs, documents, block, cpi)?;
        host.spawn()?;
        let director = host.wait().await?;
        let cloud_config =
            std::fs::read_to_string(documents.join("cloud-config.yml")).context("read the cloud config")?;
        let path = directory.join("cloud-config.yml");
        std::fs::write(&path, cloud_config.replace("BLOCK", &block.to_string())).context("write the cloud config")?;
        director.cli(&["update-cloud-config".as_ref(), path.as_os_str()]).await?.succeeded()?;
        let proxy = match wiring {
            Wiring::Direct | Wiring::Simulated => None,
            Wiring::ThroughProxy => Some(Proxy::start(&director).await?),
        };
        let broker = deploy_broker(directory, &director, proxy.as_ref()).await?;
        let directory = directory.to_owned();
        Ok(Stack { director, broker, proxy, block, directory, host, guard: None, claim: None })
    }

    /// The directory of the stack.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory in which the director keeps everything.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The director's process.
    ///
    /// # Errors
    /// Its number cannot be read.
    pub fn director_pid(&self) -> Result<i32> {
        self.host.pid()
    }

    /// Start the director's process again after it was ended, and wait until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_director(&self) -> Result<()> {
        self.host.spawn()?;
        self.host.wait().await.map(drop)
    }

    /// Remove everything now and say whether that worked; dropping the stack does the same without a word.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn shutdown(mut self) -> Result<()> {
        self.claim.take();
        match self.guard.take() {
            Some(guard) => guard.finish(),
            None => guard::remove(&self.directory),
        }
    }

    /// Let the stack live on without this process.
    pub fn leave(mut self) {
        self.guard.take();
        self.claim.take();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        if std::thread::panicking() {
            eprintln!("the director's last words:\n{}", tail(&self.directory.join("director.log"), LAST_WORDS));
        }
        if let Err(cause) = guard.finish() {
            eprintln!("{cause:#}");
        }
    }
}

/// The directory of the programs: the one of the running program, or its parent for a test.
///
/// # Errors
/// A program has not been built.
pub fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    let directory =
        own.ancestors().skip(1).find(|path| !path.ends_with("deps")).context("find the target directory")?;
    for program in ["tandem-director", "mysql-agent", "mysql-broker", "make-leader", "stack"] {
        if !directory.join(program).exists() {
            bail!("{program} is not in {}: build it first with `cargo build --workspace --bins`", directory.display());
        }
    }
    Ok(directory.to_owned())
}

/// The directory of the manifests.
#[must_use]
pub fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("manifests")
}

/// The end of a log file.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let said: Vec<&str> = text.lines().collect();
    said[said.len().saturating_sub(lines)..].join("\n")
}

async fn deploy_broker(directory: &Path, director: &Director, proxy: Option<&Proxy>) -> Result<Broker> {
    let (url, ca) =
        proxy.map_or((director.url.as_str(), director.ca_pem.as_str()), |proxy| (&proxy.url, &proxy.ca_pem));
    let ca_path = directory.join("broker-director-ca.pem");
    std::fs::write(&ca_path, ca).context("write the broker's CA of the director")?;
    let manifest = documents().join("broker.yml");
    let arguments = [
        "deploy".into(),
        manifest.into_os_string(),
        "-d".into(),
        BROKER_DEPLOYMENT.into(),
        "-v".into(),
        format!("director_url={url}").into(),
        "-v".into(),
        format!("director_client={}", director.client).into(),
        "--var-file".into(),
        format!("director_ca={}", ca_path.display()).into(),
        "--var-file".into(),
        format!("director_client_secret={}", director.secret_path.display()).into(),
    ];
    director.cli(&arguments).await?.succeeded()?;
    let config = director.job_config(BROKER_DEPLOYMENT, "mysql-broker")?;
    let broker = Broker::from_config(&config)?;
    eventually("the broker serves its catalog", BROKER_LIMIT, async || {
        Ok((broker.get("/v2/catalog").await?.status == 200).then_some(()))
    })
    .await?;
    Ok(broker)
}
