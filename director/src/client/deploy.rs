//! `deploy`: fill in the variables that are given here, pass the others on to the director, and follow the task.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use reqwest::Method;
use serde_yaml::Value;

use super::api::{Body, Director};
use super::arguments::DeployOptions;
use super::{Outcome, Success, print, task};
use crate::variables::interpolate::fill;

pub(super) async fn deploy(director: &Director, deployment: Option<&str>, options: &DeployOptions) -> Outcome {
    let manifest = read_manifest(options)?;
    let name = manifest.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Some(expected) = deployment {
        ensure!(
            name == expected,
            "Expected manifest to specify deployment name '{expected}' but was '{name}': give -d {name}, or change one"
        );
    }
    print(&format!("Using {}\n\nUsing deployment '{name}'\n\n", director.describe()))?;
    let mut query = Vec::new();
    query.extend(options.recreate.then_some(("recreate", "true")));
    query.extend(options.fix.then_some(("fix", "true")));
    let text = serde_yaml::to_string(&manifest).context("write the manifest")?;
    let id = director.submit(Method::POST, &["deployments"], &query, Body::Yaml(&text)).await?;
    task::follow(director, id).await.map(|()| Success::Told)
}

fn read_manifest(options: &DeployOptions) -> anyhow::Result<Value> {
    let path = &options.manifest;
    let text = std::fs::read_to_string(path).with_context(|| format!("read the manifest {}", path.display()))?;
    let manifest =
        serde_yaml::from_str(&text).with_context(|| format!("understand the manifest {}", path.display()))?;
    let given = variables(options)?;
    let filled = fill(&manifest, &|reference| {
        let value = given.get(reference.name)?;
        reference.part.map_or(Some(value), |part| value.get(part)).cloned()
    });
    ensure!(filled.unfit.is_empty(), "{}", filled.unfit.join("; "));
    Ok(filled.value)
}

/// `-v` values are YAML, as with the `bosh` CLI; the text of a file is a text.
fn variables(options: &DeployOptions) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut given = BTreeMap::new();
    for pair in &options.var {
        let (name, value) = split(pair, "-v NAME=VALUE")?;
        let value = serde_yaml::from_str(value).with_context(|| format!("the value of variable {name} is not YAML"))?;
        given.insert(name.to_owned(), value);
    }
    for pair in &options.var_file {
        let (name, path) = split(pair, "--var-file NAME=PATH")?;
        let text = std::fs::read_to_string(path).with_context(|| format!("read the file {path} of variable {name}"))?;
        given.insert(name.to_owned(), Value::String(text));
    }
    Ok(given)
}

fn split<'a>(pair: &'a str, form: &str) -> anyhow::Result<(&'a str, &'a str)> {
    match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        // The text is not shown: it may be a secret.
        Some(_) | None => bail!("a variable is given as {form}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(manifest: &str, var: &[&str], var_file: &[(&str, &str)]) -> (tempfile::TempDir, DeployOptions) {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let manifest = file("manifest.yml", manifest);
        let var_file = var_file.iter().map(|(name, text)| format!("{name}={}", file(name, text).display())).collect();
        let var = var.iter().map(|pair| (*pair).to_owned()).collect();
        (dir, DeployOptions { manifest, var, var_file, recreate: false, fix: false })
    }

    #[test]
    fn given_variables_are_filled_in_and_others_are_left_to_the_director() {
        let manifest = "{name: d, a: ((n)), b: 'x((n))', c: ((ca)), d: ((left)), e: ((tls.ca)), f: ((empty))}";
        let (_dir, options) = options(manifest, &["n=3", "tls={ca: C}", "empty="], &[("ca", "PEM\n")]);

        let filled = read_manifest(&options).unwrap();

        let expected = "{name: d, a: 3, b: x3, c: \"PEM\\n\", d: ((left)), e: C, f: null}";
        assert_eq!(filled, serde_yaml::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn what_is_wrong_is_named_without_showing_a_value() {
        let (_dir, wrong) = options("{}", &["secret"], &[]);
        assert_eq!(read_manifest(&wrong).unwrap_err().to_string(), "a variable is given as -v NAME=VALUE");
        let (_dir, mut missing) = options("{}", &[], &[]);
        missing.var_file = vec!["ca=/no/such/file".to_owned()];
        let error = read_manifest(&missing).unwrap_err().to_string();
        assert_eq!(error, "read the file /no/such/file of variable ca");
    }
}
