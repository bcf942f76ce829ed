//! The client subcommands of the director's program, run as an operator runs them: environment, arguments, text.

use std::ffi::OsStr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::Director;

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, as one would type it.
    pub line: String,
    /// Its exit code; none when it was ended by a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// The output of a command that succeeded.
    ///
    /// # Errors
    /// It failed; everything that it printed is in the text.
    pub fn succeeded(self) -> Result<String> {
        ensure!(self.code == Some(0), "{} ended with {:?}:\n{}{}", self.line, self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

pub(super) async fn run<A: AsRef<OsStr>>(director: &Director, arguments: &[A]) -> Result<Output> {
    let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let line = format!("tandem-director {}", words.join(" "));
    let secret = std::fs::read_to_string(&director.secret_path).context("read the director's password")?;
    let output = Command::new(&director.program)
        .args(arguments)
        .env("BOSH_ENVIRONMENT", &director.url)
        .env("BOSH_CLIENT", &director.client)
        .env("BOSH_CLIENT_SECRET", secret)
        .env("BOSH_CA_CERT", &director.ca_path)
        .env_remove("BOSH_DEPLOYMENT")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("run {line}"))?;
    Ok(Output {
        line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
