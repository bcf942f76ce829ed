//! The release as it lies in its folder, read whole and checked: what `bosh create-release` would refuse is refused here, with
//! the name of the file. Jobs, packages and files are in the order of their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::archive::Entry;

/// A release.
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) jobs: Vec<Part>,
    pub(crate) packages: Vec<Part>,
}

/// A job or a package.
pub(crate) struct Part {
    pub(crate) name: String,
    /// What a job needs.
    pub(crate) packages: Option<Vec<String>>,
    /// What a package needs.
    pub(crate) dependencies: Option<Vec<String>>,
    pub(crate) entries: Vec<Entry>,
}

/// Where the files of packages are that are not in the folder.
pub(crate) struct Places<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) server: Option<&'a Path>,
}

#[derive(Deserialize)]
struct Final {
    name: String,
}

#[derive(Deserialize)]
struct JobSpec {
    name: String,
    templates: BTreeMap<String, String>,
    packages: Vec<String>,
}

#[derive(Deserialize)]
struct PackageSpec {
    name: String,
    dependencies: Vec<String>,
    files: Vec<String>,
}

/// Read the release.
pub(crate) fn read(folder: &Path, places: &Places<'_>) -> Result<Release> {
    let Final { name } = parse(&folder.join("config/final.yml"))?;
    let package = |path: &PathBuf| read_package(path, places);
    let packages = folders(&folder.join("packages"))?.iter().map(package).collect::<Result<Vec<_>>>()?;
    let known: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let jobs = folders(&folder.join("jobs"))?;
    let jobs = jobs.iter().map(|path| read_job(path, &known)).collect::<Result<Vec<_>>>()?;
    Ok(Release { name, jobs, packages })
}

fn read_job(folder: &Path, packages: &BTreeSet<&str>) -> Result<Part> {
    let spec = folder.join("spec");
    let JobSpec { name, templates, packages: needed } = parse(&spec)?;
    check_name(&name, folder)?;
    for package in &needed {
        ensure!(
            packages.contains(package.as_str()),
            "{} needs the package {package}, which is not there",
            spec.display()
        );
    }
    check_templates(&folder.join("templates"), &templates, &spec)?;
    let mut entries = vec![entry("job.MF", &spec, false)?, entry("monit", &folder.join("monit"), false)?];
    for template in templates.keys() {
        entries.push(entry(&format!("templates/{template}"), &folder.join("templates").join(template), false)?);
    }
    Ok(Part { name, packages: Some(needed), dependencies: None, entries })
}

/// A template that the spec forgets would never reach a VM.
fn check_templates(folder: &Path, templates: &BTreeMap<String, String>, spec: &Path) -> Result<()> {
    for path in files_below(folder)? {
        let name = path.strip_prefix(folder).context("a file is below its folder")?;
        let is_known = name.to_str().is_some_and(|name| templates.contains_key(name));
        ensure!(is_known, "{} is not among the templates of {}", path.display(), spec.display());
    }
    Ok(())
}

fn read_package(folder: &Path, places: &Places<'_>) -> Result<Part> {
    let PackageSpec { name, dependencies, files } = parse(&folder.join("spec"))?;
    check_name(&name, folder)?;
    let mut entries = vec![entry("packaging", &folder.join("packaging"), false)?];
    for file in &files {
        entries.extend(package_file(file, places).with_context(|| format!("the package {name} needs {file}"))?);
    }
    entries[1..].sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Part { name, packages: None, dependencies: Some(dependencies), entries })
}

/// A file of a package: a program, or the archive of the server.
fn package_file(file: &str, places: &Places<'_>) -> Result<Option<Entry>> {
    if let Some(program) = file.strip_prefix("tandem/bin/") {
        return entry(file, &places.programs.join(program), true).map(Some);
    }
    match (file, places.server) {
        ("mysql/*", Some(archive)) => {
            let name = archive.file_name().and_then(|name| name.to_str()).context("read the name of the archive")?;
            entry(&format!("mysql/{name}"), archive, false).map(Some)
        }
        ("mysql/*", None) => {
            eprintln!(
                "no server is in the package mysql: the VMs must have one (manifests/release/packages/mysql/README.md)"
            );
            Ok(None)
        }
        _ => bail!("it is neither tandem/bin/PROGRAM nor mysql/*"),
    }
}

fn check_name(name: &str, folder: &Path) -> Result<()> {
    ensure!(folder.file_name().is_some_and(|own| own == name), "{} has a spec with the name {name}", folder.display());
    Ok(())
}

/// Links are followed: several jobs share a template.
fn entry(name: &str, path: &Path, is_program: bool) -> Result<Entry> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Entry { name: name.to_owned(), is_program, bytes })
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is not usable", path.display()))
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(list(path)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in list(folder)? {
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<BTreeSet<_>, _>>();
    Ok(paths.with_context(|| format!("list {}", folder.display()))?.into_iter().collect())
}
