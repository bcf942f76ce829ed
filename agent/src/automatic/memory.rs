//! When this server was promoted without being asked: a small file beside what the agent agreed to, in Unix seconds by the
//! wall clock. A human's command empties it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::decision::DAY;
use crate::mysqld::{remove_file_if_there, write_durably};

/// The file.
pub(crate) struct Memory {
    file: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    failovers: Vec<u64>,
    /// When a human last ran a command here.
    acknowledged: u64,
}

impl Memory {
    pub(crate) fn new(file: PathBuf) -> Result<Memory> {
        remove_file_if_there(&file.with_extension("new"))?;
        let kept = match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        Ok(Memory { file, kept: Mutex::new(kept) })
    }

    /// How long ago each failover was: of this server, and of `others`, which the history has.
    pub(crate) fn ages(&self, others: &[Duration]) -> Vec<Duration> {
        let kept = self.kept().clone();
        let ago = |then: u64| Duration::from_secs(seconds().saturating_sub(then));
        let own: Vec<_> = kept.failovers.iter().map(|then| ago(*then)).collect();
        // Those of this server are in the history too.
        let is_known = |other: &Duration| own.iter().any(|own| own.abs_diff(*other) < Duration::from_secs(60));
        let since = ago(kept.acknowledged);
        let others: Vec<_> = others.iter().filter(|other| **other < since && !is_known(other)).copied().collect();
        [own, others].concat()
    }

    /// A failover begins. It is on the disk when this returns.
    pub(crate) fn begin(&self) -> Result<()> {
        let now = seconds();
        self.change(|kept| {
            kept.failovers.retain(|then| now.saturating_sub(*then) < DAY.as_secs());
            kept.failovers.push(now);
        })
    }

    /// The one that began last has changed nothing.
    pub(crate) fn withdraw(&self) -> Result<()> {
        self.change(|kept| kept.failovers.truncate(kept.failovers.len().saturating_sub(1)))
    }

    /// A human looks after the pair.
    pub(crate) fn acknowledge(&self) -> Result<()> {
        self.change(|kept| *kept = Kept { failovers: Vec::new(), acknowledged: seconds() })
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) -> Result<()> {
        let mut kept = self.kept();
        let mut changed = kept.clone();
        change(&mut changed);
        let text = serde_json::to_string(&changed).context("write the time of a failover")?;
        write_durably(&self.file, &text)?;
        *kept = changed;
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failovers_are_remembered_until_a_human_comes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("automatic.json");
        let memory = Memory::new(file.clone()).unwrap();
        memory.begin().unwrap();
        memory.begin().unwrap();
        memory.withdraw().unwrap();

        let again = Memory::new(file).unwrap();
        let hour = Duration::from_secs(3_600);
        assert_eq!(again.ages(&[hour]).len(), 2);
        // Of this server's own one the history tells too.
        assert_eq!(again.ages(&[Duration::ZERO]).len(), 1);

        again.acknowledge().unwrap();
        assert_eq!(again.ages(&[hour]).len(), 0);
    }
}
