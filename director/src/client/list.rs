//! The subcommands that only look.

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use super::api::{Body, Director};
use super::table::{cell, record, table, text_cell};
use super::{Outcome, Success, print, task};

pub(super) async fn environment(director: &Director) -> Outcome {
    let info = director.get(&["info"], &[]).await?;
    let user = if info["user"].is_null() { "(not logged in)".to_owned() } else { cell(&info["user"]) };
    let pairs = [
        ("Name", cell(&info["name"])),
        ("UUID", cell(&info["uuid"])),
        ("Version", cell(&info["version"])),
        ("CPI", cell(&info["cpi"])),
        ("User", user),
    ];
    show(director, &record(&pairs))
}

pub(super) async fn deployments(director: &Director) -> Outcome {
    let deployments = director.get(&["deployments"], &[("exclude_configs", "true")]).await?;
    let versions = |list: &Value| {
        let version = |item: &Value| format!("{}/{}", cell(&item["name"]), cell(&item["version"]));
        text_cell(items(list).map(version).collect::<Vec<_>>().join(","))
    };
    let row = |deployment: &Value| {
        let of = |key: &str| versions(&deployment[key]);
        vec![cell(&deployment["name"]), of("releases"), of("stemcells"), cell(&deployment["teams"])]
    };
    let rows: Vec<_> = items(&deployments).map(row).collect();
    show(director, &table(&["Name", "Release(s)", "Stemcell(s)", "Team(s)"], &rows, rows.len(), "deployments"))
}

pub(super) async fn instances(director: &Director, deployment: Option<&str>, ps: bool, details: bool) -> Outcome {
    print(&format!("Using {}\n", director.describe()))?;
    for deployment in chosen(director, deployment).await? {
        let mut found = full(director, &deployment, "instances").await?;
        found.sort_by_key(slug);
        let mut headings = vec!["Instance"];
        headings.extend(ps.then_some("Process"));
        headings.extend(["Process State", "AZ", "IPs"]);
        if details {
            headings.extend(["State", "VM CID", "VM Type", "Disk CIDs", "Index", "Bootstrap"]);
        }
        let mut rows = Vec::new();
        for instance in &found {
            rows.push(instance_row(instance, ps, details));
            if ps {
                rows.extend(items(&instance["processes"]).map(|process| process_row(process, headings.len())));
            }
        }
        let text = table(&headings, &rows, found.len(), "instances");
        print(&format!("\nDeployment '{deployment}'\n\n{text}"))?;
    }
    Ok(Success::Told)
}

fn instance_row(instance: &Value, ps: bool, details: bool) -> Vec<String> {
    let mut row = vec![slug(instance)];
    row.extend(ps.then(|| "-".to_owned()));
    row.extend(["job_state", "az", "ips"].map(|key| cell(&instance[key])));
    if details {
        row.extend(["state", "vm_cid", "vm_type", "disk_cids", "index", "bootstrap"].map(|key| cell(&instance[key])));
    }
    row
}

fn process_row(process: &Value, width: usize) -> Vec<String> {
    let mut row = vec!["~".to_owned(), cell(&process["name"]), cell(&process["state"])];
    row.resize(width, "-".to_owned());
    row
}

pub(super) async fn vms(director: &Director, deployment: Option<&str>) -> Outcome {
    print(&format!("Using {}\n", director.describe()))?;
    for deployment in chosen(director, deployment).await? {
        let found = full(director, &deployment, "vms").await?;
        let row = |vm: &Value| {
            let keys = ["job_state", "az", "ips", "vm_cid", "vm_type", "active", "stemcell"];
            let mut row = vec![slug(vm)];
            row.extend(keys.iter().map(|key| match (*key, &vm[*key]) {
                ("stemcell", stemcell @ Value::Object(_)) => {
                    format!("{}/{}", cell(&stemcell["name"]), cell(&stemcell["version"]))
                }
                (_, value) => cell(value),
            }));
            row
        };
        let mut rows: Vec<_> = found.iter().map(row).collect();
        rows.sort();
        let headings = ["Instance", "Process State", "AZ", "IPs", "VM CID", "VM Type", "Active", "Stemcell"];
        print(&format!("\nDeployment '{deployment}'\n\n{}", table(&headings, &rows, rows.len(), "vms")))?;
    }
    Ok(Success::Told)
}

pub(super) async fn errands(director: &Director, deployment: &str) -> Outcome {
    let errands = director.get(&["deployments", deployment, "errands"], &[]).await?;
    let rows: Vec<_> = items(&errands).map(|errand| vec![cell(&errand["name"])]).collect();
    show(director, &table(&["Name"], &rows, rows.len(), "errands"))
}

pub(super) async fn variables(director: &Director, deployment: &str) -> Outcome {
    let variables = director.get(&["deployments", deployment, "variables"], &[]).await?;
    let rows: Vec<_> = items(&variables).map(|variable| vec![cell(&variable["id"]), cell(&variable["name"])]).collect();
    show(director, &table(&["ID", "Name"], &rows, rows.len(), "variables"))
}

/// The text alone, so that it can go into a file.
pub(super) async fn manifest(director: &Director, deployment: &str) -> Outcome {
    let answer = director.get(&["deployments", deployment], &[]).await?;
    let manifest = answer["manifest"].as_str();
    let text = manifest.with_context(|| format!("deployment '{deployment}' was never deployed successfully"))?;
    print(text)?;
    Ok(Success::Silent)
}

pub(super) async fn cloud_config(director: &Director) -> Outcome {
    let query = [("latest", "true"), ("limit", "1"), ("name", "default"), ("type", "cloud")];
    let configs = director.get(&["configs"], &query).await?;
    let text =
        configs[0]["content"].as_str().context("the director has no cloud config: `update-cloud-config FILE`")?;
    print(text)?;
    Ok(Success::Silent)
}

pub(super) async fn events(director: &Director, deployment: Option<&str>) -> Outcome {
    let query: Vec<(&str, &str)> = deployment.map(|deployment| ("deployment", deployment)).into_iter().collect();
    let events = director.get(&["events"], &query).await?;
    let id = |event: &Value| match event["parent_id"].as_str() {
        Some(parent) => format!("{} <- {parent}", cell(&event["id"])),
        None => cell(&event["id"]),
    };
    let row = |event: &Value| {
        let of = ["user", "action", "object_type", "object_name", "task", "deployment", "instance", "error"];
        let rest = of.map(|key| cell(&event[key]));
        [id(event), timestamp(event["timestamp"].as_i64())].into_iter().chain(rest).collect::<Vec<_>>()
    };
    let headings =
        ["ID", "Time", "User", "Action", "Object Type", "Object Name", "Task ID", "Deployment", "Instance", "Error"];
    let rows: Vec<_> = items(&events).map(row).collect();
    show(director, &table(&headings, &rows, rows.len(), "events"))
}

pub(super) async fn locks(director: &Director) -> Outcome {
    let locks = director.get(&["locks"], &[]).await?;
    let expires = |lock: &Value| {
        let seconds = lock["timeout"].as_str().and_then(|text| text.split('.').next()?.parse().ok());
        timestamp(seconds)
    };
    let row = |lock: &Value| vec![cell(&lock["type"]), cell(&lock["resource"]), cell(&lock["task_id"]), expires(lock)];
    let rows: Vec<_> = items(&locks).map(row).collect();
    show(director, &table(&["Type", "Resource", "Task ID", "Expires at"], &rows, rows.len(), "locks"))
}

pub(super) async fn orphaned_disks(director: &Director) -> Outcome {
    let disks = director.get(&["disks"], &[]).await?;
    let keys = ["disk_cid", "size", "deployment_name", "instance_name", "az", "orphaned_at"];
    let rows: Vec<Vec<String>> = items(&disks).map(|disk| keys.iter().map(|key| cell(&disk[*key])).collect()).collect();
    let headings = ["Disk CID", "Size", "Deployment", "Instance", "AZ", "Orphaned At"];
    show(director, &table(&headings, &rows, rows.len(), "disks"))
}

pub(super) async fn tasks(director: &Director, deployment: Option<&str>, recent: Option<u32>) -> Outcome {
    let limit = recent.map(|count| count.to_string());
    let mut query = match &limit {
        Some(limit) => vec![("limit", limit.as_str()), ("verbose", "1")],
        None => vec![("state", "processing,cancelling,queued"), ("verbose", "2")],
    };
    query.extend(deployment.map(|deployment| ("deployment", deployment)));
    let tasks = director.get(&["tasks"], &query).await?;
    let row = |task: &Value| {
        let times = ["started_at", "timestamp"].map(|key| timestamp(task[key].as_i64()));
        let mut row = vec![cell(&task["id"]), cell(&task["state"])];
        row.extend(times);
        row.extend(["user", "deployment", "description", "result"].map(|key| cell(&task[key])));
        row
    };
    let rows: Vec<_> = items(&tasks).map(row).collect();
    let headings = ["ID", "State", "Started At", "Finished At", "User", "Deployment", "Description", "Result"];
    show(director, &table(&headings, &rows, rows.len(), "tasks"))
}

fn show(director: &Director, text: &str) -> Outcome {
    print(&format!("Using {}\n\n{text}", director.describe()))?;
    Ok(Success::Told)
}

/// The named deployment, or all.
async fn chosen(director: &Director, deployment: Option<&str>) -> anyhow::Result<Vec<String>> {
    if let Some(deployment) = deployment {
        return Ok(vec![deployment.to_owned()]);
    }
    let deployments = director.get(&["deployments"], &[("exclude_configs", "true")]).await?;
    Ok(items(&deployments).map(|deployment| cell(&deployment["name"])).collect())
}

/// The full list is made by a task.
async fn full(director: &Director, deployment: &str, what: &str) -> anyhow::Result<Vec<Value>> {
    let path = ["deployments", deployment, what];
    let id = director.submit(Method::GET, &path, &[("format", "full")], Body::Empty).await?;
    task::gather(director, id).await
}

fn slug(instance: &Value) -> String {
    format!("{}/{}", cell(&instance["job_name"]), cell(&instance["id"]))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn timestamp(seconds: Option<i64>) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    text_cell(time.and_then(|time| time.format(format).ok()).unwrap_or_default())
}
