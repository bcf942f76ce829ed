//! The rules of the house that a compiler does not know: who may import whom, what a pure file may touch, how a file
//! begins and how long it may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The longest file.
const LINE_LIMIT: usize = 350;
/// Our own packages that a package may depend on.
const MAY_IMPORT: [(&str, &[&str]); 5] = [
    ("agent", &[]),
    ("director", &[]),
    ("broker", &["agent"]),
    ("errands", &["agent", "broker"]),
    ("tests", &["agent", "broker"]),
];
/// Files, with the folder of the same name, that decide and do nothing else.
const PURE: [&str; 11] = [
    "agent/src/quorum.rs",
    "agent/src/topology.rs",
    "agent/src/gtid.rs",
    "agent/src/sync/decision.rs",
    "agent/src/verdict.rs",
    "agent/src/automatic/decision.rs",
    "broker/src/admission.rs",
    "broker/src/lifecycle.rs",
    "director/src/plan.rs",
    "tests/src/history.rs",
    "tests/src/judge.rs",
];
/// What a pure file has no business with.
const IMPURE: [&str; 12] = [
    "async ",
    "axum",
    "reqwest",
    "sqlx",
    "tokio",
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "rand::",
];

#[test]
fn packages_import_only_whom_they_may() -> Result<()> {
    let ours: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let mut broken = Vec::new();
    for (package, allowed) in MAY_IMPORT {
        let manifest = read(&root().join(package).join("Cargo.toml"))?;
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let imported = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let forbidden = imported.filter(|name| ours.contains(name) && !allowed.contains(name));
        broken.extend(forbidden.map(|name| format!("{package} imports {name}")));
    }

    assert_eq!(broken, Vec::<String>::new());
    Ok(())
}

#[test]
fn deciding_files_do_nothing_but_decide() -> Result<()> {
    let mut broken = Vec::new();
    for file in PURE {
        let path = root().join(file);
        let mut files = sources_below(&path.with_extension(""));
        files.push(path);
        for path in files.iter().filter(|path| !is_test(path)) {
            let text = read(path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let touched = IMPURE.iter().filter(|word| code.iter().any(|line| line.contains(**word)));
            broken.extend(touched.map(|word| format!("{} touches {word}", path.display())));
        }
    }

    assert_eq!(broken, Vec::<String>::new());
    Ok(())
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() -> Result<()> {
    let mut broken = BTreeMap::new();
    for path in MAY_IMPORT.iter().flat_map(|(package, _)| sources_below(&root().join(package))) {
        let text = read(&path)?;
        let lines = text.lines().count();
        if !text.starts_with("//!") {
            broken.insert(path.clone(), "does not begin with //!".to_owned());
        }
        if lines > LINE_LIMIT {
            broken.insert(path.clone(), format!("has {lines} lines, more than {LINE_LIMIT}"));
        }
        if path.ends_with("mod.rs") {
            broken.insert(path, "is a mod.rs; call it by its module's name".to_owned());
        }
    }

    assert_eq!(broken, BTreeMap::new());
    Ok(())
}

fn is_test(path: &Path) -> bool {
    let names = path.strip_prefix(root()).unwrap_or(path).iter().filter_map(|name| name.to_str());
    names.map(|name| name.trim_end_matches(".rs")).any(|name| matches!(name, "tests" | "simulation"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn sources_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let found = entries.flat_map(|path| if path.is_dir() { sources_below(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}
