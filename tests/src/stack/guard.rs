//! The guard: a process of its own that holds a stack's block, waits until its parent lets go of a pipe, and then removes
//! whatever the stack left. The pipe closes however the parent ends (return, panic, Ctrl-C, `kill -9`), so there is one
//! way to clean up and it always runs.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::block::Block;
use crate::processes;

/// Time for files to go.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// The parent's end.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    /// The claimed block.
    pub block: u8,
}

impl Guard {
    /// Start the guard of `directory`.
    ///
    /// # Errors
    /// It does not start, or no block is free.
    pub fn start(programs: &Path, directory: &Path) -> Result<Guard> {
        // A session of its own: Ctrl-C in the terminal must not reach it.
        let mut child = Command::new("setsid")
            .arg(programs.join("stack"))
            .args(["guard", "--dir"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the guard of the stack")?;
        let mut line = String::new();
        let output = child.stdout.take().context("take the guard's output")?;
        BufReader::new(output).read_line(&mut line).context("read the guard's block")?;
        let block = line.trim().parse().context("the guard claimed no block of addresses")?;
        Ok(Guard { child, block })
    }

    /// Let go and wait until everything is removed.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn finish(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("wait for the guard")?;
        ensure!(status.success(), "the guard could not remove everything: {status}");
        Ok(())
    }
}

/// The guard's own main: claim, wait for the end of the input, clean up.
///
/// # Errors
/// No block is free, or something cannot be removed.
pub fn run(directory: &Path) -> Result<()> {
    let block = Block::claim()?;
    println!("{}", block.number);
    std::io::stdout().flush().context("tell the block")?;
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    remove(directory)
}

/// End every process that works below `directory`, and remove it. `TANDEM_TEST_KEEP=1` keeps the files for a look.
///
/// # Errors
/// A process or a file cannot be removed.
pub fn remove(directory: &Path) -> Result<()> {
    processes::kill_stack(directory)?;
    if std::env::var_os("TANDEM_TEST_KEEP").is_some() {
        eprintln!("the files of the stack are kept in {}", directory.display());
        return Ok(());
    }
    // A second remover, or the last writes of a process that ends, may be in the way for a moment.
    let started = Instant::now();
    loop {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(cause) if cause.kind() == ErrorKind::NotFound && !directory.exists() => return Ok(()),
            Err(_) if started.elapsed() < REMOVE_LIMIT => std::thread::sleep(Duration::from_millis(20)),
            Err(cause) => return Err(cause).with_context(|| format!("remove {}", directory.display())),
        }
    }
}
