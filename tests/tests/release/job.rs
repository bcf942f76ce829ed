//! A job of the release, rendered.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::stack;

/// The jobs of the release that are errands.
pub(crate) const ERRANDS: [&str; 9] = [
    "configure-leader-follower",
    "degrade-sync",
    "failover",
    "force-make-leader",
    "inspect",
    "make-leader",
    "make-read-only",
    "restore-sync",
    "switchover",
];

/// Where the release lies.
pub(crate) fn release() -> PathBuf {
    stack::documents().join("release")
}

/// What a director knows of one instance.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) spec: Value,
    pub(crate) links: Value,
}

impl Instance {
    /// The instance with this index among those of a deployment at these addresses.
    pub(crate) fn new(deployment: &str, addresses: &[String], index: usize) -> Instance {
        let linked = |(index, address): (usize, &String)| {
            json!({"name": "mysql", "id": format!("id-{index}"), "index": index, "az": "z1", "address": address,
                "bootstrap": index == 0})
        };
        let instances: Vec<Value> = addresses.iter().enumerate().map(linked).collect();
        let spec = json!({"deployment": deployment, "name": "mysql", "id": format!("id-{index}"), "index": index, "az": "z1",
            "ip": addresses[index], "address": addresses[index], "bootstrap": index == 0});
        Instance { spec, links: json!({"mysql": instances}) }
    }
}

/// The files of a job by their paths below its folder on the VM.
pub(crate) fn render(job: &str, instance: &Instance, properties: &Value) -> Result<BTreeMap<String, String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/release/render.rb");
    let mut ruby = Command::new("ruby")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ruby, which `make ruby` installs")?;
    let folder = release().join("jobs").join(job);
    let document = json!({"job": folder, "spec": instance.spec, "links": instance.links, "properties": properties});
    ruby.stdin.take().context("ruby has an input")?.write_all(document.to_string().as_bytes()).context("ask ruby")?;
    let output = ruby.wait_with_output().context("wait for ruby")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the job {job} cannot be rendered: {complaint}");
    serde_json::from_slice(&output.stdout).context("read what ruby rendered")
}

/// A document of `manifests/`.
pub(crate) fn document(path: &str) -> Result<Value> {
    let path = stack::documents().join(path);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let value: serde_yaml::Value = serde_yaml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    serde_json::to_value(value).with_context(|| format!("read {}", path.display()))
}

/// The jobs of the first instance group of a manifest, with their properties.
pub(crate) fn jobs(manifest: &Value) -> Result<BTreeMap<String, Value>> {
    let jobs = manifest["instance_groups"][0]["jobs"].as_array().context("the manifest has jobs")?;
    let named = |job: &Value| Some((job["name"].as_str()?.to_owned(), job["properties"].clone()));
    jobs.iter().map(|job| named(job).context("every job has a name")).collect()
}
