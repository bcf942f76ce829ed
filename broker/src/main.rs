//! `mysql-broker`: serves the Open Service Broker API and makes true what was asked of it.

mod admission;
mod agents;
mod app;
mod binding;
mod bosh;
mod catalog;
mod checkup;
mod clock;
mod config;
mod documents;
mod http;
mod ids;
mod lifecycle;
mod listener;
mod manifest;
mod reconciler;
mod reload;
mod rotation;
mod seal;
mod serve;
mod store;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// The service broker of Tandem.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The document that says who this instance is and what it was told.
    #[arg(long, default_value = "/var/vcap/jobs/mysql-broker/config.json")]
    config: PathBuf,
}

// Two threads: the work is waiting.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    start_log();
    match serve::run(&Arguments::parse().config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("mysql-broker cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `LOG_FORMAT=json` for machines, `RUST_LOG` for more or less of it.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => log.json().init(),
        _ => log.with_ansi(false).init(),
    }
}
