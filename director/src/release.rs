//! The release that this director knows (`release.yml`): which program each job runs, what it listens on, which links it
//! offers and needs. A real director learns the same from an uploaded release.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) jobs: Vec<Job>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) program: Option<String>,
    pub(crate) errand: Option<String>,
    /// What is run before the jobs of its VM are stopped: a program and its arguments. It reads the job's `config.json`.
    #[serde(default)]
    pub(crate) pre_stop: Vec<String>,
    #[serde(default)]
    pub(crate) ports: Vec<u16>,
    #[serde(default)]
    pub(crate) provides: Vec<Provided>,
    #[serde(default)]
    pub(crate) consumes: Vec<Consumed>,
}

/// A link that a job offers. With `port` and `health` its deployment gets a stable client address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provided {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) port: Option<u16>,
    pub(crate) health: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    pub(crate) port: u16,
    pub(crate) path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consumed {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) optional: bool,
}

impl Release {
    pub(crate) fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

pub(crate) fn read(path: &Path) -> Result<Release> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read the release {}", path.display()))?;
    parse(&text).with_context(|| format!("the release {} is not usable", path.display()))
}

fn parse(text: &str) -> Result<Release> {
    let release: Release = serde_yaml::from_str(text)?;
    for job in &release.jobs {
        let name = &job.name;
        ensure!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'), "'{name}' cannot be a job's name");
        ensure!(
            job.program.is_none() || job.errand.is_none(),
            "job '{name}' has a program and an errand; one is right"
        );
        for file in job.program.iter().chain(&job.errand).chain(job.pre_stop.first()) {
            ensure!(!file.contains('/'), "job '{name}': '{file}' must be a file name in the directory of the programs");
        }
    }
    Ok(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_release_is_refused_with_the_job_that_is_wrong() {
        let table = [
            ("{name: j, program: a, errand: b}", "job 'j' has a program and an errand"),
            ("{name: j, program: ../sh}", "'../sh' must be a file name"),
            ("{name: a/b, program: p}", "'a/b' cannot be a job's name"),
            ("{name: j, binary: p}", "unknown field `binary`"),
        ];
        for (job, expected) in table {
            let error = format!("{:#}", parse(&format!("{{name: r, version: '1', jobs: [{job}]}}")).unwrap_err());
            assert!(error.contains(expected), "{job}: {error}");
        }
    }
}
