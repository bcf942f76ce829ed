//! The subcommands that change instances, VMs, disks and settings.

use std::path::Path;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::json;

use super::api::{Body, Director};
use super::arguments::{InstanceCommand, InstanceOptions, Slug, Switch};
use super::{Outcome, Success, print, task};

/// `stop`, `start`, `restart` and `recreate`.
pub(super) async fn instance(
    director: &Director,
    deployment: &str,
    command: InstanceCommand,
    options: &InstanceOptions,
) -> Outcome {
    print(&format!("Using {}\n\nUsing deployment '{deployment}'\n\n", director.describe()))?;
    let id = if options.no_converge {
        isolated(director, deployment, command, options).await?
    } else {
        converging(director, deployment, command, options).await?
    };
    task::follow(director, id).await.map(|()| Success::Told)
}

/// The whole deployment comes to the state that its manifest says, this instance to the given one.
async fn converging(
    director: &Director,
    deployment: &str,
    command: InstanceCommand,
    options: &InstanceOptions,
) -> anyhow::Result<u64> {
    let state = match command {
        InstanceCommand::Stop if options.hard => "detached",
        InstanceCommand::Stop => "stopped",
        InstanceCommand::Start => "started",
        InstanceCommand::Restart => "restart",
        InstanceCommand::Recreate => "recreate",
    };
    let mut path = vec!["deployments", deployment, "jobs"];
    match &options.slug {
        Some(Slug { group, id }) => path.extend([Some(group), id.as_ref()].into_iter().flatten().map(String::as_str)),
        None => path.push("*"),
    }
    let mut query = vec![("state", state)];
    query.extend(options.fix.then_some(("fix", "true")));
    query.extend(options.skip_drain.then_some(("skip_drain", "true")));
    director.submit(Method::PUT, &path, &query, Body::Yaml("")).await
}

async fn isolated(
    director: &Director,
    deployment: &str,
    command: InstanceCommand,
    options: &InstanceOptions,
) -> anyhow::Result<u64> {
    let Some(Slug { group, id: Some(id) }) = &options.slug else {
        bail!("--no-converge needs one instance, written GROUP/ID or GROUP/INDEX");
    };
    let action = match command {
        InstanceCommand::Stop => "stop",
        InstanceCommand::Start => "start",
        InstanceCommand::Restart => "restart",
        InstanceCommand::Recreate => "recreate",
    };
    let path = ["deployments", deployment, "instance_groups", group, id, "actions", action];
    let mut query = Vec::new();
    query.extend(options.hard.then_some(("hard", "true")));
    query.extend(options.fix.then_some(("ignore_unresponsive_agent", "true")));
    query.extend(options.skip_drain.then_some(("skip_drain", "true")));
    director.submit(Method::POST, &path, &query, Body::Empty).await
}

/// A deployment that is not there is deleted.
pub(super) async fn delete_deployment(director: &Director, deployment: &str, force: bool) -> Outcome {
    print(&format!("Using {}\n\nUsing deployment '{deployment}'\n\n", director.describe()))?;
    let query: &[(&str, &str)] = if force { &[("force", "true")] } else { &[] };
    let deleted = async {
        let id = director.submit(Method::DELETE, &["deployments", deployment], query, Body::Empty).await?;
        task::follow(director, id).await
    };
    if let Err(error) = deleted.await {
        let deployments = director.get(&["deployments"], &[("exclude_configs", "true")]).await?;
        if deployments.as_array().into_iter().flatten().any(|listed| listed["name"] == deployment) {
            return Err(error.context(format!("delete deployment '{deployment}'")));
        }
    }
    Ok(Success::Told)
}

pub(super) async fn delete_vm(director: &Director, cid: &str) -> Outcome {
    delete(director, &["vms", cid], &[]).await
}

pub(super) async fn delete_disk(director: &Director, cid: &str) -> Outcome {
    delete(director, &["disks", cid], &[]).await
}

pub(super) async fn orphan_disk(director: &Director, cid: &str) -> Outcome {
    delete(director, &["disks", cid], &[("orphan", "true")]).await
}

/// `ignore` and `unignore`.
pub(super) async fn ignore(director: &Director, deployment: &str, slug: &Slug, is_ignored: bool) -> Outcome {
    let (group, id) = one(slug)?;
    let path = ["deployments", deployment, "instance_groups", group, id, "ignore"];
    director.change(Method::PUT, &path, &[], Body::Json(&json!({"ignore": is_ignored}))).await?;
    print(&format!("Using {}\n", director.describe()))?;
    Ok(Success::Told)
}

pub(super) async fn attach_disk(director: &Director, deployment: &str, slug: &Slug, cid: &str) -> Outcome {
    let (group, id) = one(slug)?;
    print(&format!("Using {}\n\n", director.describe()))?;
    let query = [("deployment", deployment), ("job", group), ("instance_id", id), ("disk_properties", "ignore")];
    let id = director.submit(Method::PUT, &["disks", cid, "attachments"], &query, Body::Empty).await?;
    task::follow(director, id).await.map(|()| Success::Told)
}

fn one(slug: &Slug) -> anyhow::Result<(&str, &str)> {
    let id = slug.id.as_deref().context("name one instance, written GROUP/ID")?;
    Ok((&slug.group, id))
}

async fn delete(director: &Director, path: &[&str], query: &[(&str, &str)]) -> Outcome {
    print(&format!("Using {}\n\n", director.describe()))?;
    let id = director.submit(Method::DELETE, path, query, Body::Empty).await?;
    task::follow(director, id).await.map(|()| Success::Told)
}

pub(super) async fn clean_up(director: &Director, all: bool) -> Outcome {
    print(&format!("Using {}\n\n", director.describe()))?;
    let body = json!({"config": {"remove_all": all, "keep_orphaned_disks": false}});
    let id = director.submit(Method::POST, &["cleanup"], &[], Body::Json(&body)).await?;
    task::follow(director, id).await.map(|()| Success::Told)
}

pub(super) async fn cloud_config(director: &Director, file: &Path) -> Outcome {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let body = json!({"type": "cloud", "name": "default", "content": text});
    director.change(Method::POST, &["configs"], &[], Body::Json(&body)).await?;
    print(&format!("Using {}\n", director.describe()))?;
    Ok(Success::Told)
}

pub(super) async fn resurrection(director: &Director, switch: Switch) -> Outcome {
    let body = json!({"resurrection_paused": matches!(switch, Switch::Off)});
    director.change(Method::PUT, &["resurrection"], &[], Body::Json(&body)).await?;
    print(&format!("Using {}\n", director.describe()))?;
    Ok(Success::Told)
}
