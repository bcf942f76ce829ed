//! `cloud-check`: what has become of the VMs of a deployment, and how it is mended. The `bosh` CLI asks for each problem; here
//! the answer for all of them is an option.

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::api::{Body, Director};
use super::arguments::CloudCheckOptions;
use super::table::{cell, table};
use super::{Outcome, Success, print, task};

/// Look, and mend what is found as the options say.
pub(super) async fn cloud_check(director: &Director, deployment: &str, options: &CloudCheckOptions) -> Outcome {
    print(&format!("Using {}\n\nUsing deployment '{deployment}'\n\n", director.describe()))?;
    let scan = director.submit(Method::POST, &["deployments", deployment, "scans"], &[], Body::Empty).await?;
    task::follow(director, scan).await?;
    let path = ["deployments", deployment, "problems"];
    let found = director.get(&path, &[]).await?;
    let problems = found.as_array().context("read the list of problems")?;
    let rows: Vec<Vec<String>> =
        problems.iter().map(|problem| ["id", "type", "description"].map(|key| cell(&problem[key])).into()).collect();
    print(&format!("\n{}", table(&["#", "Type", "Description"], &rows, rows.len(), "problems")))?;
    if problems.is_empty() {
        return Ok(Success::Told);
    }
    if options.report {
        bail!("{} problem(s) found", problems.len());
    }
    // None is `--auto`.
    let body = json!({"resolutions": chosen(problems, options.resolution.as_deref())?});
    print("\n")?;
    let id = director.submit(Method::PUT, &path, &[], Body::Json(&body)).await?;
    task::follow(director, id).await.map(|()| Success::Told)
}

/// By the id of the problem; nothing is what the director would choose. All of them, or an error: half of an answer is none.
fn chosen(problems: &[Value], resolution: Option<&str>) -> anyhow::Result<Map<String, Value>> {
    let choose = |problem: &Value| {
        let names: Vec<&str> = problem["resolutions"].as_array().into_iter().flatten().filter_map(name).collect();
        let id = cell(&problem["id"]);
        match resolution {
            Some(wanted) if !names.contains(&wanted) => {
                bail!("problem {id} cannot be resolved with '{wanted}', but with {}", names.join(", "))
            }
            wanted => Ok((id, wanted.map_or(Value::Null, Value::from))),
        }
    };
    problems.iter().map(choose).collect()
}

fn name(resolution: &Value) -> Option<&str> {
    resolution["name"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_resolution_is_for_all_problems_or_for_none() {
        let can = |id: u64, names: &[&str]| {
            let resolutions: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"id": id, "resolutions": resolutions})
        };
        let problems = [can(1, &["ignore", "recreate_vm"]), can(2, &["ignore", "recreate_vm", "delete_vm"])];

        assert_eq!(json!(chosen(&problems, None).unwrap()), json!({"1": null, "2": null}));
        let recreated = json!({"1": "recreate_vm", "2": "recreate_vm"});
        assert_eq!(json!(chosen(&problems, Some("recreate_vm")).unwrap()), recreated);
        let refused = chosen(&problems, Some("delete_vm")).unwrap_err().to_string();
        assert_eq!(refused, "problem 1 cannot be resolved with 'delete_vm', but with ignore, recreate_vm");
    }
}
