//! `run-errand`, and how its results are shown. A task that is done says nothing about the errand: every instance has
//! its own exit code.

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Body, Director};
use super::arguments::Slug;
use super::table::{record, text_cell};
use super::{Outcome, Success, print, task};

pub(super) async fn run(director: &Director, deployment: &str, name: &str, instances: &[Slug]) -> Outcome {
    print(&format!("Using {}\n\nUsing deployment '{deployment}'\n\n", director.describe()))?;
    let body = json!({"instances": filters(instances), "keep-alive": false, "when-changed": false});
    let path = ["deployments", deployment, "errands", name, "runs"];
    let id = director.submit(Method::POST, &path, &[], Body::Json(&body)).await?;
    let followed = task::follow(director, id).await;
    // A cancelled task has results too.
    let results = task::result(director, id).await.unwrap_or_default();
    if followed.is_ok() || !results.is_empty() {
        print(&format!("\n{}", shown(&results)))?;
    }
    followed?;
    match results.iter().find_map(|result| result["exit_code"].as_i64().filter(|code| *code != 0)) {
        Some(code) if code > 128 => bail!("Errand '{name}' was canceled (exit code {code})"),
        Some(code) => bail!("Errand '{name}' completed with error (exit code {code})"),
        None => Ok(Success::Told),
    }
}

fn filters(instances: &[Slug]) -> Vec<Value> {
    let filter = |slug: &Slug| match &slug.id {
        Some(id) => json!({"group": slug.group, "id": id}),
        None => json!({"group": slug.group}),
    };
    instances.iter().map(filter).collect()
}

fn shown(results: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().trim_end().to_owned();
    let shown = |result: &Value| {
        let instance = &result["instance"];
        record(&[
            ("Instance", format!("{}/{}", text(&instance["group"]), text(&instance["id"]))),
            ("Exit Code", result["exit_code"].to_string()),
            ("Stdout", text_cell(text(&result["stdout"]))),
            ("Stderr", text_cell(text(&result["stderr"]))),
        ]) + "\n"
    };
    results.iter().map(shown).collect::<String>() + &format!("{} errand(s)\n", results.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_shown_as_the_bosh_cli_does() {
        let result =
            json!({"instance": {"group": "mysql", "id": "0e9a"}, "exit_code": 0, "stdout": "a\nb\n", "stderr": ""});
        let expected = "Instance   mysql/0e9a\nExit Code  0\nStdout     a\n           b\nStderr     -\n\n1 errand(s)\n";
        assert_eq!(shown(&[result]), expected);
    }

    #[test]
    fn an_instance_is_named_by_group_and_id() {
        let slugs = ["mysql/1".parse().unwrap(), "mysql".parse().unwrap()];
        assert_eq!(filters(&slugs), [json!({"group": "mysql", "id": "1"}), json!({"group": "mysql"})]);
    }
}
