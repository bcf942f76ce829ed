//! What an agent must not forget, on the disk: one file with two places that are written in turns, so that a power failure in
//! the middle of one leaves the other. They are overwritten where they lie. That costs a single flush, and no room: an agent
//! can vote although its disk is full.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use agent::quorum::Record;
use anyhow::{Context, Result, ensure};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Promise;
use crate::mysqld::{remove_file_if_there, write_durably};

/// The size of a place, one block of the usual file systems.
const PLACE: usize = 4096;
const PLACES: u64 = 2;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) record: Record,
    /// The last epoch in which this server may have been writable, and has not followed since.
    pub(super) led: u64,
    /// The last epoch that this server laid down for the other one; 0 for none.
    #[serde(default)]
    pub(super) yielded: u64,
    #[serde(default)]
    pub(super) promise: Promise,
}

/// Where it is kept.
pub(super) struct Keeper {
    path: PathBuf,
    /// None before the first time.
    file: Option<File>,
    /// How often something was kept; says which place is the newer one.
    turn: u64,
}

impl Keeper {
    /// A file that is there and cannot be read is an error: a vote that is forgotten could be given twice.
    pub(super) fn open(path: PathBuf) -> Result<(Keeper, Kept)> {
        // What a crash left half written was seen by nobody.
        remove_file_if_there(&path.with_extension("new"))?;
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok((Keeper { path, file: None, turn: 0 }, Kept::default()));
            }
            read => read.with_context(|| format!("read {}", path.display()))?,
        };
        let (turn, kept) = newest(&bytes).with_context(|| {
            format!(
                "{} holds what this agent agreed to and cannot be read; put it back from the other server's status",
                path.display()
            )
        })?;
        let file = open(&path)?;
        settle(&file, &path, &bytes, turn).with_context(|| format!("write {} to the disk", path.display()))?;
        Ok((Keeper { file: Some(file), path, turn }, kept))
    }

    /// It is on the disk when this returns. Where this fails it may be there all the same, and is overwritten the next time.
    pub(super) fn keep(&mut self, kept: &Kept) -> Result<()> {
        let turn = self.turn + 1;
        let text = write(turn, kept)?;
        match &self.file {
            None => {
                write_durably(&self.path, &places(turn, text))?;
                self.file = Some(open(&self.path)?);
            }
            Some(file) => {
                let written = file.write_all_at(text.as_bytes(), position(turn) as u64).and_then(|()| file.sync_data());
                written.with_context(|| format!("write {} to the disk", self.path.display()))?;
            }
        }
        self.turn = turn;
        Ok(())
    }
}

/// What was read may be in the kernel's memory only: an agent that ended in the middle of a write, or whose disk refused it.
/// The same bytes again, which damage nothing where they are torn, and then they are on the disk.
fn settle(file: &File, path: &Path, bytes: &[u8], turn: u64) -> Result<()> {
    let at = position(turn);
    file.write_all_at(bytes.chunks(PLACE).nth(at / PLACE).unwrap_or_default(), at as u64)?;
    file.sync_all()?;
    File::open(path.parent().context("it is in a directory")?)?.sync_all().context("write its directory")
}

fn open(path: &Path) -> Result<File> {
    File::options().write(true).open(path).with_context(|| format!("open {}", path.display()))
}

fn position(turn: u64) -> usize {
    if turn.is_multiple_of(PLACES) { 0 } else { PLACE }
}

/// A file in which only the place of this turn was written.
fn places(turn: u64, text: String) -> String {
    let blank = " ".repeat(PLACE);
    if position(turn) == 0 { text + &blank } else { blank + &text }
}

/// A line that fills a place.
fn write(turn: u64, kept: &Kept) -> Result<String> {
    let text = format!("{turn} {}", serde_json::to_string(kept).context("write what this agent agrees to")?);
    let mut line = format!("{} {text}", seal(&text));
    ensure!(line.len() < PLACE, "what this agent agrees to is longer than {PLACE} bytes");
    line.push_str(&" ".repeat(PLACE - 1 - line.len()));
    line.push('\n');
    Ok(line)
}

fn newest(bytes: &[u8]) -> Result<(u64, Kept)> {
    let places: Vec<_> = bytes.chunks(PLACE).filter_map(read).collect::<Result<_>>()?;
    places.into_iter().max_by_key(|(turn, _)| *turn).context("no place in it is whole")
}

/// None for a place that was never written, or not to its end. One that is whole and not understood is another release's: to
/// pass over it would be to forget.
fn read(place: &[u8]) -> Option<Result<(u64, Kept)>> {
    let (sealed, text) = std::str::from_utf8(place).ok()?.trim_end().split_once(' ')?;
    (seal(text) == sealed).then(|| {
        let (turn, kept) = text.split_once(' ').context("there is no turn")?;
        Ok((turn.parse().context("read the turn")?, serde_json::from_str(kept).context("read what was kept")?))
    })
}

fn seal(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(epoch: u64) -> Kept {
        Kept { led: epoch, ..Kept::default() }
    }

    fn kept(path: &Path) -> Kept {
        Keeper::open(path.to_owned()).unwrap().1
    }

    #[test]
    fn what_was_kept_last_is_read_and_the_file_does_not_grow() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadership");
        let (mut keeper, nothing) = Keeper::open(path.clone()).unwrap();
        assert_eq!(nothing, Kept::default());

        for epoch in 1..=3 {
            keeper.keep(&led(epoch)).unwrap();
            assert_eq!(kept(&path), led(epoch));
        }
        let (mut keeper, _) = Keeper::open(path.clone()).unwrap();
        keeper.keep(&led(4)).unwrap();

        assert_eq!(kept(&path), led(4));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * PLACE as u64);
    }

    #[test]
    fn a_place_that_was_not_written_to_its_end_leaves_the_other_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadership");
        let (mut keeper, _) = Keeper::open(path.clone()).unwrap();
        for epoch in 1..=4 {
            keeper.keep(&led(epoch)).unwrap();
        }
        let file = open(&path).unwrap();
        let next = write(5, &led(5)).unwrap();

        // Behind the last byte in which it differs from what was there it is whole.
        let before = std::fs::read(&path).unwrap();
        let differs = |at: &usize| next.as_bytes()[*at] != before[position(5) + at];
        for torn in 0..=(0..PLACE).rfind(differs).unwrap() {
            file.write_all_at(&next.as_bytes()[..torn], position(5) as u64).unwrap();
            assert_eq!(kept(&path), led(4), "{torn} bytes");
        }
        file.write_all_at(next.as_bytes(), position(5) as u64).unwrap();
        assert_eq!(kept(&path), led(5));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadership");
        for text in ["", "{}", &" ".repeat(2 * PLACE)] {
            std::fs::write(&path, text).unwrap();
            let error = Keeper::open(path.clone()).err().unwrap().to_string();
            assert!(error.contains("cannot be read"), "{error}");
        }
    }

    #[test]
    fn a_whole_place_of_another_release_is_an_error_and_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadership");
        let (mut keeper, _) = Keeper::open(path.clone()).unwrap();
        keeper.keep(&led(1)).unwrap();
        let text = r#"2 {"record":{"epoch":2,"unheard_of":true},"led":2}"#;
        let line = format!("{} {text}", seal(text));
        open(&path).unwrap().write_all_at(format!("{line:PLACE$}").as_bytes(), position(2) as u64).unwrap();

        let error = format!("{:#}", Keeper::open(path).err().unwrap());

        assert!(error.contains("cannot be read") && error.contains("unheard_of"), "{error}");
    }
}
