//! The data directory before the server starts on it: put back where a copy was cut off between its two renames, made from
//! the template where there is none, and freed of what a crash has left beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::files::{Files, make_private_directory, remove_file_if_there, remove_if_there};
use super::program::Program;
use super::template::{self, Template};

/// A run of a copy unpacks into a directory of its own, whose name begins so: a program of a run that was cut off may still
/// write into that run's.
const INCOMING: &str = "incoming";

/// Make every directory that the server needs; returns the template where its data directory has to be made from one.
/// Dropping it ends what it waits for.
pub(super) async fn prepare(files: &Files, program: &Program) -> Result<Option<PathBuf>> {
    for directory in [store(files)?, &files.run, &files.log, &files.temporary] {
        make_private_directory(directory)?;
    }
    restore(files)?;
    if files.data.is_dir() {
        return Ok(None);
    }
    Template { cache: &files.cache, vm: &files.vm }.find_or_make(program).await.map(Some)
}

/// Make the data directory from the template, and write it to the disk while the server starts.
pub(super) async fn make(files: &Files, template: PathBuf) -> Result<tokio::task::JoinHandle<()>> {
    let data = files.data.clone();
    // Not to be cut off: a second copy would go to the same place.
    let copied = tokio::task::spawn_blocking(move || template::copy(&template, &data));
    copied.await.context("make the data directory")??;
    let data = files.data.clone();
    Ok(tokio::task::spawn_blocking(move || write_to_disk(&data)))
}

/// A directory for one run of a copy, with a number that no other run has; what earlier runs have left is removed.
pub(crate) fn make_incoming(files: &Files, run: u64) -> Result<PathBuf> {
    remove_incoming(files)?;
    let incoming = store(files)?.join(format!("{INCOMING}-{run:016x}"));
    make_private_directory(&incoming)?;
    Ok(incoming)
}

/// Where the old data are between the two renames that put a copy in their place.
pub(crate) fn replaced(files: &Files) -> PathBuf {
    files.data.with_extension("replaced")
}

/// Remove what an agent that was killed has left. Only at an agent's start: later a copy may be going on.
pub(super) fn remove_leftovers(files: &Files) -> Result<()> {
    for login in [files.backup_login(), files.backup_login().with_extension("new")] {
        remove_file_if_there(&login)?;
    }
    // First, or the only data would be removed; if it fails nothing is.
    restore(files)?;
    remove_if_there(&replaced(files))?;
    remove_if_there(&files.data.with_extension("new"))?;
    remove_incoming(files)
}

/// The old data, where a copy was cut off before the new ones had their name. They are whole, and the copy is made again.
fn restore(files: &Files) -> Result<()> {
    let replaced = replaced(files);
    if files.data.exists() || !replaced.is_dir() {
        return Ok(());
    }
    tracing::warn!("a copy was cut off before it was in its place: the old data are put back");
    fs::rename(&replaced, &files.data)
        .with_context(|| format!("rename {} back to {}", replaced.display(), files.data.display()))
}

fn remove_incoming(files: &Files) -> Result<()> {
    let store = store(files)?;
    if !store.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(store).with_context(|| format!("look through {}", store.display()))? {
        let entry = entry.with_context(|| format!("look through {}", store.display()))?;
        if entry.file_name().to_string_lossy().starts_with(INCOMING) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn store(files: &Files) -> Result<&Path> {
    files.data.parent().context("the data directory has a parent")
}

/// Have a new data directory on the disk before the writes that depend on it are old; the server starts meanwhile.
fn write_to_disk(data: &Path) {
    let synced = fs::File::open(data).map(rustix::fs::syncfs);
    if !matches!(synced, Ok(Ok(()))) {
        tracing::warn!(
            "the new data directory may not survive a crash of the machine within the next seconds: {synced:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::settings::Vm;
    use crate::mysqld::socket::Socket;

    fn files(root: &Path) -> Files {
        let store = root.join("store");
        fs::create_dir_all(store.join("run")).unwrap();
        Files {
            data: store.join("data"),
            run: store.join("run"),
            log: root.join("log"),
            temporary: root.join("temporary"),
            socket: Socket::new(root, &store.join("run"), &store).unwrap(),
            cache: root.join("cache"),
            packages: root.join("packages"),
            vm: Vm {
                data: store.join("data"),
                temporary: root.join("temporary"),
                run: store.join("run"),
                log: root.join("log"),
                socket: store.join("run/mysqld.sock"),
                address: "127.83.0.1".parse().unwrap(),
                index: 0,
                ram_mb: 64,
                ack_timeout_ms: None,
                is_pair: false,
                is_root: false,
                parameters: crate::instance::Parameters::default(),
            },
        }
    }

    fn names(files: &Files) -> Vec<String> {
        let entries = fs::read_dir(store(files).unwrap()).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_data_are_put_back_before_anything_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        fs::create_dir(replaced(&files)).unwrap();
        fs::write(replaced(&files).join("ibdata1"), "old").unwrap();
        make_incoming(&files, 1).unwrap();

        remove_leftovers(&files).unwrap();

        assert_eq!(names(&files), ["data", "run"]);
        assert_eq!(fs::read_to_string(files.data.join("ibdata1")).unwrap(), "old");
    }

    #[test]
    fn what_a_killed_agent_has_left_is_removed_but_never_the_data() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        fs::create_dir(&files.data).unwrap();
        fs::write(files.data.join("ibdata1"), "new").unwrap();
        for left in ["data.replaced", "data.new", "incoming", "incoming-7"] {
            fs::create_dir(store(&files).unwrap().join(left)).unwrap();
        }
        fs::write(files.backup_login(), "password").unwrap();

        remove_leftovers(&files).unwrap();

        assert_eq!(names(&files), ["data", "run"]);
        assert_eq!(fs::read_to_string(files.data.join("ibdata1")).unwrap(), "new");
        assert!(!files.backup_login().exists());
    }

    #[test]
    fn a_run_of_a_copy_has_its_own_directory_and_removes_that_of_another() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());

        let first = make_incoming(&files, 1).unwrap();
        let second = make_incoming(&files, 2).unwrap();

        assert_ne!(first, second);
        assert!(!first.exists() && second.is_dir());
    }
}
