//! What a `fetch logs` task does: copy the ends of the log files of some instances and make a blob of them. The files
//! grow meanwhile, so they are copied first; and they may be large, so there are limits.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;

use crate::blob;
use crate::director::Director;
use crate::error::{Code, Error, Result};
use crate::fault::matches;
use crate::model::Instance;
use crate::task::Running;

const LIMITS: Limits = Limits { file: 32 << 20, instance: 128 << 20 };
/// The only log that is not of a job.
const AGENT_LOG: &str = "supervisor.log";

pub(crate) struct Order {
    pub(crate) deployment: String,
    /// By id.
    pub(crate) instances: Vec<String>,
    pub(crate) choice: Choice,
}

/// Which files are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) kinds: Vec<Kind>,
    /// Paths below the directory of the logs, in which `*` stands for any characters; none: every file.
    pub(crate) filters: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Job,
    /// The supervisor's.
    Agent,
    /// A VM here has no system of its own, and so no logs of it.
    System,
}

/// How many bytes are copied.
#[derive(Clone, Copy)]
struct Limits {
    /// Of each file, its end.
    file: u64,
    /// Of all files of an instance, the newest first.
    instance: u64,
}

struct LogFile {
    /// Below the directory of the logs.
    name: PathBuf,
    length: u64,
    modified: SystemTime,
}

impl Choice {
    fn admits(&self, name: &str) -> bool {
        let is_agent = name == AGENT_LOG;
        let is_kind = self.kinds.iter().any(|kind| match kind {
            Kind::Job => !is_agent,
            Kind::Agent => is_agent,
            Kind::System => false,
        });
        is_kind && (self.filters.is_empty() || self.filters.iter().any(|filter| matches(filter, name)))
    }
}

/// The id of the blob is the result of the task.
pub(crate) async fn fetch(director: Arc<Director>, task: Running, order: Order) -> Result<String> {
    let deployment = director.store.deployment(&order.deployment)?;
    let chosen = deployment.instances.iter().filter(|instance| order.instances.contains(&instance.id));
    let instances: Vec<&Instance> = chosen.collect();
    let all = director.blobs.scratch()?;
    for instance in &instances {
        task.check()?;
        let stage = task.stage(&format!("Fetching logs for {}", instance.title()), &[], Some(1));
        let work = collect(&director, &task, instance, &order.choice, all.path(), instances.len() > 1);
        stage.step("Finding and packing log files", work).await?;
    }
    let stage = task.stage("Fetching group of logs", &[], Some(1));
    let packing = async { Ok(director.blobs.store(&all).await?) };
    match instances.len() {
        1 => packing.await,
        _ => stage.step("Packing log files together", packing).await,
    }
}

/// Where there are several instances, each has an archive of its own in the whole one, as in BOSH.
async fn collect(
    director: &Director,
    task: &Running,
    instance: &Instance,
    choice: &Choice,
    target: &Path,
    is_one_of_many: bool,
) -> Result<()> {
    let Some(vm) = &instance.vm else {
        let message = format!("'{}' doesn't reference a VM", instance.slug());
        return Err(Error::new(Code::InstanceVmMissing, message));
    };
    let logs = director.cpi.root(&vm.cid).join("sys/log");
    if !is_one_of_many {
        return copy(task, logs, choice.clone(), target.to_owned()).await;
    }
    let own = director.blobs.scratch()?;
    copy(task, logs, choice.clone(), own.path().to_owned()).await?;
    let archive = target.join(format!("{}.{}.tgz", instance.group, instance.id));
    Ok(blob::pack(own.path(), &archive).await?)
}

async fn copy(task: &Running, logs: PathBuf, choice: Choice, target: PathBuf) -> Result<()> {
    let copying = tokio::task::spawn_blocking(move || copy_all(&logs, &choice, &target, LIMITS));
    let left_out = copying.await.context("copy log files")??;
    for name in left_out {
        task.warning(&format!("{} is left out: the logs are more than {} MB", name.display(), LIMITS.instance >> 20));
    }
    Ok(())
}

/// Returns what had no room.
fn copy_all(logs: &Path, choice: &Choice, target: &Path, limits: Limits) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    find(logs, Path::new(""), &mut files).with_context(|| format!("list the log files in {}", logs.display()))?;
    files.retain(|file| file.name.to_str().is_some_and(|name| choice.admits(name)));
    files.sort_by_key(|file| std::cmp::Reverse(file.modified));
    let (mut room, mut left_out) = (limits.instance, Vec::new());
    for file in files {
        match room.checked_sub(file.length.min(limits.file)) {
            Some(rest) => {
                copy_end(&logs.join(&file.name), &target.join(&file.name), limits.file)
                    .with_context(|| format!("copy {}", file.name.display()))?;
                room = rest;
            }
            None => left_out.push(file.name),
        }
    }
    Ok(left_out)
}

/// Links are not followed. What is gone when we come to it was never there.
fn find(logs: &Path, below: &Path, files: &mut Vec<LogFile>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(logs.join(below)) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    for entry in entries {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let about = match entry.metadata() {
            Ok(about) => about,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(cause),
        };
        if about.is_dir() {
            find(logs, &name, files)?;
        } else if about.is_file() {
            files.push(LogFile { name, length: about.len(), modified: about.modified()? });
        }
    }
    Ok(())
}

fn copy_end(from: &Path, to: &Path, limit: u64) -> std::io::Result<()> {
    let mut from = match File::open(from) {
        Ok(from) => from,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    let length = from.metadata()?.len();
    from.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    std::fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
    std::io::copy(&mut from.take(limit), &mut File::create(to)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(kinds: &[Kind], filters: &[&str]) -> Choice {
        Choice { kinds: kinds.to_vec(), filters: filters.iter().map(|filter| (*filter).to_owned()).collect() }
    }

    #[test]
    fn files_are_chosen_by_kind_and_filter() {
        let table: [(Choice, &[&str]); 5] = [
            (choice(&[Kind::Job], &[]), &["mysql/mysqld.log", "mysql/deep/agent.log"]),
            (choice(&[Kind::Agent], &[]), &["supervisor.log"]),
            (
                choice(&[Kind::Job, Kind::Agent], &["*.log"]),
                &["mysql/mysqld.log", "mysql/deep/agent.log", "supervisor.log"],
            ),
            (choice(&[Kind::Job], &["mysql/mysqld*", "other"]), &["mysql/mysqld.log"]),
            (choice(&[Kind::System], &[]), &[]),
        ];
        for (choice, expected) in table {
            let names = ["mysql/mysqld.log", "mysql/deep/agent.log", "supervisor.log"];
            let admitted: Vec<&str> = names.into_iter().filter(|name| choice.admits(name)).collect();
            assert_eq!(admitted, expected, "{choice:?}");
        }
    }

    #[test]
    fn the_end_of_a_large_file_is_copied_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, target) = (directory.path().join("log"), directory.path().join("target"));
        std::fs::create_dir_all(logs.join("job")).unwrap();
        std::fs::write(logs.join("job/a.log"), "first line\nlast line\n").unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), logs.join("job/link.log")).unwrap();
        let limits = Limits { file: 10, instance: 100 };

        let left_out = copy_all(&logs, &choice(&[Kind::Job], &[]), &target, limits).unwrap();
        let of_nothing = copy_all(&directory.path().join("nothing"), &choice(&[Kind::Job], &[]), &target, limits);

        assert_eq!(std::fs::read_to_string(target.join("job/a.log")).unwrap(), "last line\n");
        assert!(!target.join("job/link.log").exists());
        assert_eq!((left_out, of_nothing.unwrap()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_oldest_files_have_no_room_where_the_logs_are_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, target) = (directory.path().join("log"), directory.path().join("target"));
        std::fs::create_dir(&logs).unwrap();
        for age in 0..3 {
            let mut file = File::create(logs.join(format!("{age}.log"))).unwrap();
            std::io::Write::write_all(&mut file, b"0123456789").unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age)).unwrap();
        }

        let limits = Limits { file: 10, instance: 25 };
        let left_out = copy_all(&logs, &choice(&[Kind::Job], &[]), &target, limits).unwrap();

        assert_eq!(left_out, [PathBuf::from("2.log")]);
    }
}
