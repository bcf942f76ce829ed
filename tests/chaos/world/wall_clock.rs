//! A wall clock that can jump, for the processes of one VM: Debian's `libfaketime` stands before the C library's calls and
//! adds what a file says, which it reads again each second. Monotonic clocks are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cell::Jump;

const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const HOUR: &str = "3600";

/// The wall clock of a VM.
pub(crate) struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

/// The library, where the machine has it.
pub(crate) fn library() -> Option<PathBuf> {
    let directories = fs::read_dir(LIBRARIES).into_iter().flatten().flatten();
    directories.map(|directory| directory.path().join(LIBRARY)).find(|library| library.exists())
}

impl WallClock {
    /// One that is right.
    pub(crate) fn make(root: &Path) -> Result<WallClock> {
        let library = library().context("find libfaketime")?;
        let clock = WallClock { file: root.join("wall-clock"), library };
        clock.set(None)?;
        Ok(clock)
    }

    /// What a process needs to have this clock.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_CACHE_DURATION", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            // The times of files are what they are.
            ("NO_FAKE_STAT", Path::new("1")),
        ]
    }

    /// Jump by an hour, or come back.
    pub(crate) fn set(&self, jump: Option<Jump>) -> Result<()> {
        let offset = match jump {
            None => "+0".to_owned(),
            Some(Jump::Ahead) => format!("+{HOUR}"),
            Some(Jump::Back) => format!("-{HOUR}"),
        };
        // Never half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, offset).and_then(|()| fs::rename(&new, &self.file)).context("set a wall clock")
    }
}
