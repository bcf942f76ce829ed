//! The control endpoint of a director of simulated VMs: faults on demand, and which requests have come.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::director::{Director, Instance};
use crate::stack::Stack;

/// Have exactly these faults.
///
/// # Errors
/// The director refuses one.
pub async fn set_faults(director: &Director, faults: &Value) -> Result<()> {
    let body = Some(("application/json", faults.to_string()));
    let answer = director.request(Method::PUT, "/simulation/faults", body).await?;
    ensure!(answer.status == StatusCode::OK, "the faults were answered with {}: {}", answer.status, answer.text);
    Ok(())
}

/// One fault more.
///
/// # Errors
/// The director refuses it.
pub async fn add_fault(director: &Director, fault: &Value) -> Result<()> {
    let body = Some(("application/json", fault.to_string()));
    let answer = director.request(Method::POST, "/simulation/faults", body).await?;
    ensure!(answer.status == StatusCode::OK, "the fault was answered with {}: {}", answer.status, answer.text);
    Ok(())
}

/// No faults, and nothing counted.
///
/// # Errors
/// The director does not answer.
pub async fn clear(director: &Director) -> Result<()> {
    let answer = director.request(Method::DELETE, "/simulation", None).await?;
    ensure!(answer.status == StatusCode::NO_CONTENT, "clear was answered with {}", answer.status);
    Ok(())
}

/// The requests about a deployment, or all, by kind: `{"GET /tasks": 3}`.
///
/// # Errors
/// The director does not answer.
pub async fn requests(director: &Director, deployment: Option<&str>) -> Result<Value> {
    let query = deployment.map_or_else(String::new, |name| format!("?deployment={name}"));
    let answer = director.request(Method::GET, &format!("/simulation{query}"), None).await?;
    ensure!(answer.status == StatusCode::OK, "the counts were answered with {}: {}", answer.status, answer.text);
    Ok(answer.json()["requests"].clone())
}

/// How many acts have fitted each of the faults.
///
/// # Errors
/// The director does not answer.
pub async fn seen(director: &Director) -> Result<Vec<u64>> {
    let answer = director.request(Method::GET, "/simulation", None).await?;
    let faults = answer.json()["faults"].take();
    Ok(faults.as_array().into_iter().flatten().filter_map(|fault| fault["seen"].as_u64()).collect())
}

/// How often a kind of request has come.
#[must_use]
pub fn count(requests: &Value, act: &str) -> u64 {
    requests[act].as_u64().unwrap_or(0)
}

/// A simulated VM: what it is, with its jobs and their configurations.
///
/// # Errors
/// The instance has no VM.
pub fn vm(stack: &Stack, instance: &Instance) -> Result<Value> {
    let cid = instance.cid.as_deref().with_context(|| format!("{} has no VM", instance.slug()))?;
    read(&stack.state().join("vms").join(cid))
}

/// The users of bindings on an instance's server: a simulated disk remembers them.
///
/// # Errors
/// The instance has no VM or no disk.
pub fn users(stack: &Stack, instance: &Instance) -> Result<Vec<String>> {
    let vm = vm(stack, instance)?;
    let disk = vm["disk"].as_str().with_context(|| format!("{} has no disk", instance.slug()))?;
    let server = read(&stack.state().join("disks").join(disk))?;
    let users = server["users"].as_array().context("find the users on a simulated disk")?;
    Ok(users.iter().filter_map(|user| user.as_str().map(str::to_owned)).collect())
}

fn read(directory: &Path) -> Result<Value> {
    let text = std::fs::read(directory.join("simulated.json")).context("read what is simulated")?;
    serde_json::from_slice(&text).context("understand what is simulated")
}

/// All of them.
#[must_use]
pub fn sum(requests: &Value) -> u64 {
    requests.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// A fault of one act on one deployment.
#[must_use]
pub fn fault(deployment: &str, act: &str, fault: &str, more: Value) -> Value {
    let mut all = json!({"deployment": deployment, "act": act, "fault": fault});
    if let (Some(fields), Value::Object(more)) = (all.as_object_mut(), more) {
        fields.extend(more);
    }
    all
}
