//! The director's process and files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::Rng as _;
use serde_json::{Value, json};

use super::{Director, client};
use crate::processes;
use crate::stack::block::Block;
use crate::wait::eventually;

/// Time for a director to listen.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The user that the stack makes.
const USER: &str = "admin";

/// Where a director lives.
#[derive(Clone, Debug)]
pub struct Host {
    directory: PathBuf,
    programs: PathBuf,
    port: u16,
}

impl Host {
    /// Write the configuration of a director into `directory`; `documents` has the manifests, `cpi` is `process` or
    /// `simulated`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn prepare(directory: &Path, programs: &Path, documents: &Path, block: u8, cpi: &str) -> Result<Host> {
        let secret: String = rand::rng().sample_iter(rand::distr::Alphanumeric).take(24).map(char::from).collect();
        let port = Block::director_port(block);
        let config = json!({
            "state": directory.join("state"),
            "listen": format!("127.0.0.1:{port}"),
            "release": documents.join("release.yml"),
            "programs": programs,
            "documents": documents,
            "cpi": cpi,
            "users": [{"name": USER, "password": secret}],
        });
        let config = serde_yaml::to_string(&config).context("write the director's configuration")?;
        write_secret(&directory.join("director.yml"), &config)?;
        write_secret(&directory.join("director-secret"), &secret)?;
        Ok(Host { directory: directory.to_owned(), programs: programs.to_owned(), port })
    }

    /// Start the director's process in a session of its own, so that it survives the terminal.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.directory.join("director.log"));
        let log = log.context("open the director's log")?;
        let child = Command::new("setsid")
            .arg(self.programs.join("tandem-director"))
            .args(["serve", "--config"])
            .arg(self.directory.join("director.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .context("start tandem-director")?;
        fs::write(self.directory.join("director.pid"), child.id().to_string()).context("write the director's pid")
    }

    /// The director's process.
    ///
    /// # Errors
    /// It was never started.
    pub fn pid(&self) -> Result<i32> {
        let text = fs::read_to_string(self.directory.join("director.pid")).context("read the director's pid")?;
        text.trim().parse().context("read the director's pid")
    }

    /// Wait until the director answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time.
    pub async fn wait(&self) -> Result<Director> {
        let ca_path = self.directory.join("state/tls/ca.pem");
        let url = format!("https://127.0.0.1:{}", self.port);
        let pid = self.pid()?;
        let ca_pem = eventually("the director answers", START_LIMIT, async || {
            let Ok(ca_pem) = fs::read_to_string(&ca_path) else {
                return Ok((!processes::is_alive(pid)).then(String::new));
            };
            let answer = client(&ca_pem)?.get(format!("{url}/info")).send().await;
            let answers = answer.is_ok_and(|answer| answer.status() == 200);
            Ok((answers || !processes::is_alive(pid)).then_some(ca_pem))
        })
        .await?;
        if !processes::is_alive(pid) {
            bail!("the director ended right after its start");
        }
        Ok(Director {
            url,
            client: USER.to_owned(),
            secret_path: self.directory.join("director-secret"),
            ca_path,
            ca_pem,
            state: self.directory.join("state"),
            program: self.programs.join("tandem-director"),
        })
    }
}

/// Write a file that only its owner may read.
///
/// # Errors
/// It cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("open {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// Every `jobs/JOB/config.json` below the director's state.
pub(super) fn job_configs(state: &Path, job: &str) -> Vec<Value> {
    let suffix = Path::new("jobs").join(job).join("config.json");
    let roots = children(state).into_iter().flat_map(|path| [vec![path.clone()], children(&path)].concat());
    roots
        .filter_map(|root| fs::read(root.join(&suffix)).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .collect()
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect()
}
