//! The director as an operator sees it: its HTTP API in raw JSON, and the client subcommands of its program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::wait::eventually;

mod host;
mod terminal;

pub use host::{Host, write_secret};
pub use terminal::Output;

/// Time for a task to end.
const TASK_LIMIT: Duration = Duration::from_secs(180);
/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A director and what one needs to talk to it.
#[derive(Clone, Debug)]
pub struct Director {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// The user.
    pub client: String,
    /// The file that holds the user's password.
    pub secret_path: PathBuf,
    /// The file that holds the director's CA.
    pub ca_path: PathBuf,
    /// The director's CA.
    pub ca_pem: String,
    state: PathBuf,
    program: PathBuf,
}

/// One instance of a deployment, as `GET /deployments/D/instances` tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// The instance group.
    pub job: String,
    /// Its id.
    pub id: String,
    /// Its index.
    pub index: u32,
    /// Its availability zone.
    pub az: String,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Its VM; none while it has none.
    pub cid: Option<String>,
}

impl Instance {
    /// `group/id`.
    #[must_use]
    pub fn slug(&self) -> String {
        format!("{}/{}", self.job, self.id)
    }

    /// Its first address.
    #[must_use]
    pub fn ip(&self) -> &str {
        self.ips.first().map_or("", String::as_str)
    }
}

/// What an errand did on one instance.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrandRun {
    /// Where.
    pub instance: ErrandInstance,
    /// 0 for success.
    pub exit_code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// The instance of an errand run.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrandInstance {
    /// The instance group.
    pub group: String,
    /// The instance's id.
    pub id: String,
}

/// An answer of the HTTP API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The path of `Location`.
    pub location: Option<String>,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The number of the task that the answer redirects to.
    ///
    /// # Errors
    /// It is another kind of answer.
    pub fn task(&self) -> Result<u64> {
        ensure!(
            self.status == StatusCode::FOUND,
            "the director answered {} instead of a task: {}",
            self.status,
            self.text
        );
        let location = self.location.as_deref().context("a redirect without a location")?;
        let number = location.rsplit('/').next().context("a location without a number")?;
        number.parse().with_context(|| format!("read the task number in {location}"))
    }
}

impl Director {
    /// Send a request as the user.
    ///
    /// # Errors
    /// No answer.
    pub async fn request(&self, method: Method, path: &str, body: Option<(&str, String)>) -> Result<Answer> {
        let http = client(&self.ca_pem)?;
        let secret = std::fs::read_to_string(&self.secret_path).context("read the director's password")?;
        let request = http.request(method, format!("{}{path}", self.url)).basic_auth(&self.client, Some(secret));
        let request = match body {
            Some((content_type, text)) => request.header("content-type", content_type).body(text),
            None => request,
        };
        let response = request.send().await.with_context(|| format!("ask the director for {path}"))?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status();
        Ok(Answer { status, location, text: response.text().await.context("read the director's answer")? })
    }

    /// `GET` something that is JSON.
    ///
    /// # Errors
    /// No answer, or not 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.request(Method::GET, path, None).await?;
        ensure!(answer.status == StatusCode::OK, "the director answered {} to {path}: {}", answer.status, answer.text);
        Ok(answer.json())
    }

    /// Wait for the end of a task and return it.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn finished(&self, task: u64) -> Result<Value> {
        eventually(format!("task {task} ends"), TASK_LIMIT, async || {
            let now = self.get(&format!("/tasks/{task}")).await?;
            let running = matches!(now["state"].as_str(), Some("queued" | "processing" | "cancelling"));
            Ok((!running).then_some(now))
        })
        .await
    }

    /// Send a request that starts a task, and wait for the task to be done.
    ///
    /// # Errors
    /// No task, or one that fails; the text has the task's error.
    pub async fn run(&self, method: Method, path: &str, body: Option<(&str, String)>) -> Result<Value> {
        let task = self.request(method, path, body).await?.task()?;
        let end = self.finished(task).await?;
        if end["state"] != "done" {
            let events = self.request(Method::GET, &format!("/tasks/{task}/output?type=event"), None).await?;
            bail!("task {task} ended as {}: {}", end["state"], events.text);
        }
        Ok(end)
    }

    /// The instances of a deployment, by index.
    ///
    /// # Errors
    /// No answer, or no such deployment.
    pub async fn instances(&self, deployment: &str) -> Result<Vec<Instance>> {
        let list = self.get(&format!("/deployments/{deployment}/instances")).await?;
        let mut list: Vec<Instance> = serde_json::from_value(list).context("read the instances")?;
        list.sort_by_key(|instance| instance.index);
        Ok(list)
    }

    /// What `instances?format=full` says, one object for each instance.
    ///
    /// # Errors
    /// The task fails.
    pub async fn full_instances(&self, deployment: &str) -> Result<Vec<Value>> {
        let end = self.run(Method::GET, &format!("/deployments/{deployment}/instances?format=full"), None).await?;
        self.result_lines(&end).await
    }

    /// The names of all deployments.
    ///
    /// # Errors
    /// No answer.
    pub async fn deployments(&self) -> Result<Vec<String>> {
        let list = self.get("/deployments").await?;
        let names = list.as_array().context("read the deployments")?.iter();
        Ok(names.filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect())
    }

    /// Run an errand on one instance, or on all.
    ///
    /// # Errors
    /// The task fails. An errand that exits with another code than 0 is not an error here.
    pub async fn errand(&self, deployment: &str, name: &str, on: Option<&Instance>) -> Result<Vec<ErrandRun>> {
        let instances: Vec<Value> = on.iter().map(|one| json!({"group": one.job, "id": one.id})).collect();
        let body = json!({"keep-alive": false, "when-changed": false, "instances": instances}).to_string();
        let path = format!("/deployments/{deployment}/errands/{name}/runs");
        let end = self.run(Method::POST, &path, Some(("application/json", body))).await?;
        self.result_lines(&end).await
    }

    /// The result of a task, one JSON object for each line.
    async fn result_lines<T: DeserializeOwned>(&self, task: &Value) -> Result<Vec<T>> {
        let output = self.request(Method::GET, &format!("/tasks/{}/output?type=result", task["id"]), None).await?;
        let lines = output.text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("read the result {line}"))).collect()
    }

    /// Run an errand on one instance and return what it did there.
    ///
    /// # Errors
    /// The task fails or has not exactly one result.
    pub async fn errand_on(&self, deployment: &str, name: &str, on: &Instance) -> Result<ErrandRun> {
        let mut runs = self.errand(deployment, name, Some(on)).await?;
        ensure!(runs.len() == 1, "{name} ran on {} instances instead of one", runs.len());
        runs.pop().context("read the errand's result")
    }

    /// `stop`, `start`, `restart` or `recreate` one instance and leave the others alone.
    ///
    /// # Errors
    /// The task fails.
    pub async fn act(&self, deployment: &str, action: &str, on: &Instance) -> Result<()> {
        let path = format!("/deployments/{deployment}/instance_groups/{}/{}/actions/{action}", on.job, on.id);
        self.run(Method::POST, &path, None).await.map(drop)
    }

    /// Switch resurrection on or off.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn set_resurrection(&self, on: bool) -> Result<()> {
        let body = json!({"resurrection_paused": !on}).to_string();
        let answer = self.request(Method::PUT, "/resurrection", Some(("application/json", body))).await?;
        ensure!(answer.status == StatusCode::OK, "the director answered {}: {}", answer.status, answer.text);
        Ok(())
    }

    /// Run a client subcommand of the director's program.
    ///
    /// # Errors
    /// It cannot be started. Its own failure is in [`Output`].
    pub async fn cli<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Output> {
        terminal::run(self, arguments).await
    }

    /// The program with the client subcommands.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The `config.json` of a job of a deployment's first VM, read where the director wrote it.
    ///
    /// # Errors
    /// No VM of the deployment has the job.
    pub fn job_config(&self, deployment: &str, job: &str) -> Result<Value> {
        host::job_configs(&self.state, job)
            .into_iter()
            .find(|config| config["spec"]["deployment"] == deployment)
            .with_context(|| format!("find the configuration of {job} in deployment {deployment}"))
    }

    /// The `config.json` of a job on one instance.
    ///
    /// # Errors
    /// The instance has no VM with the job.
    pub fn instance_config(&self, instance: &Instance, job: &str) -> Result<Value> {
        host::job_configs(&self.state, job)
            .into_iter()
            .find(|config| config["spec"]["id"] == instance.id.as_str())
            .with_context(|| format!("find the configuration of {job} on {}", instance.slug()))
    }

    /// The directory of an instance's VM.
    ///
    /// # Errors
    /// The instance has no VM.
    pub fn vm_root(&self, instance: &Instance) -> Result<PathBuf> {
        let config = self.instance_config(instance, "mysql-agent")?;
        config["spec"]["root"].as_str().map(PathBuf::from).context("read the VM's root")
    }
}

/// An HTTPS client that trusts one CA and follows nothing.
pub(crate) fn client(ca_pem: &str) -> Result<reqwest::Client> {
    // The provider is process-wide; whoever came first chose the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = Certificate::from_pem_bundle(ca_pem.as_bytes()).context("read the director's CA")?;
    reqwest::Client::builder()
        .tls_certs_only(ca)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_LIMIT)
        .build()
        .context("make the HTTP client")
}
