//! What every errand is: a client of the agent on its own VM that prints what happens and ends with 0, or with 1 where it
//! could not do it. The lines are those that operators know from the reference product; they go to standard output, only
//! errors to standard error.

mod journal;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::Client;
use agent::api::Command;
use agent::config::{self, Tls};
use anyhow::Context;
use clap::{Args, FromArgMatches, Parser};
use serde::Deserialize;

pub use journal::Journal;

/// The command line of every errand. BOSH calls an errand without arguments.
#[derive(Args)]
pub struct Arguments {
    /// The errand's configuration file [default: /var/vcap/jobs/ERRAND/config.json]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties {
    tls: Tls,
}

/// What an errand works with.
pub struct Errand {
    /// The agent on this VM.
    pub agent: Client,
    /// Where its lines go.
    pub journal: Journal,
    /// The address of this VM.
    pub host: std::net::IpAddr,
}

/// Run an errand that has read its command line and has exit codes of its own.
pub fn perform<F>(name: &str, arguments: Arguments, journal: Journal, errand: impl FnOnce(Errand) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    block_on(name, arguments, journal, errand).unwrap_or_else(|error| {
        journal.error(&sentence(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// The command line of an errand that is one command of the agent.
#[derive(Parser)]
struct CommandArguments {
    #[command(flatten)]
    common: Arguments,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Run an errand that is one command of the agent. The agent says every line: it knows what it did. `failed` stands before the
/// reason of a failure, where the product has a word for it.
pub fn run_command(command: Command, about: &'static str, failed: Option<&'static str>) -> ExitCode {
    let line = clap::Command::new(command.name()).about(about).version(env!("CARGO_PKG_VERSION"));
    let matches = CommandArguments::augment_args(line).get_matches();
    let arguments = CommandArguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let dry_run = arguments.dry_run;
    perform(command.name(), arguments.common, Journal::Spoken, async move |errand: Errand| {
        let say = |line: &str| errand.journal.line(line);
        let done = match dry_run {
            true => errand.agent.rehearse(command, say).await,
            false => errand.agent.command(command, say).await,
        };
        match (done, failed) {
            (Ok(()), _) => Ok(ExitCode::SUCCESS),
            (Err(error), Some(failed)) => Err(anyhow::Error::new(error).context(failed)),
            (Err(error), None) => Err(error.into()),
        }
    })
}

fn block_on<F>(
    name: &str,
    arguments: Arguments,
    journal: Journal,
    errand: impl FnOnce(Errand) -> F,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    let path = arguments.config.unwrap_or_else(|| format!("/var/vcap/jobs/{name}/config.json").into());
    let config = config::read::<Properties>(&path)?;
    let agent = Client::new(config.spec.ip, &config.spec.deployment, &config.properties.tls)
        .context("prepare the connection to the agent on this VM")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    journal.line(&format!("Started executing command: {name}"));
    let code = runtime.block_on(errand(Errand { agent, journal, host: config.spec.ip }))?;
    journal.line(&format!("Successfully executed command: {name}"));
    Ok(code)
}

/// An error and its causes in one line: the operator of an errand is the one who must know them all.
fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some libraries repeat their cause in their own text.
        if !text.contains(&error.to_string()) {
            text = format!("{text}: {error}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_each_cause_once() {
        let error = anyhow::anyhow!("connection refused").context("ask: connection refused").context("get the status");
        assert_eq!(sentence(error.as_ref()), "get the status: ask: connection refused");
    }

    #[test]
    fn an_unknown_property_is_named() {
        let error = serde_error(r#"{"tls":{"ca":"","certificate":"","private_key":""},"peer":1}"#);
        assert!(error.contains("unknown field `peer`"), "{error}");
    }

    fn serde_error(properties: &str) -> String {
        let directory = std::env::temp_dir().join(format!("errand-config-{}", std::process::id()));
        let spec = r#"{"deployment":"d","name":"mysql","id":"i","index":0,"az":"z1","ip":"127.0.0.1"}"#;
        std::fs::write(&directory, format!(r#"{{"spec":{spec},"properties":{properties}}}"#)).unwrap();
        let error = config::read::<Properties>(&directory).err().expect("the property is unknown");
        std::fs::remove_file(&directory).unwrap();
        sentence(&error)
    }
}
