//! `tandem-director`: a BOSH director for one machine, its client subcommands, and the supervisor of one VM.

mod artifacts;
mod blob;
mod client;
mod client_address;
mod clock;
mod cloud_config;
mod config;
mod cpi;
mod delete;
mod deploy;
mod diff;
mod director;
mod endpoint;
mod errand;
mod error;
mod event;
mod fault;
mod file;
mod http;
mod instance_actions;
mod link;
mod listener;
mod lock;
mod logs;
mod manifest;
mod model;
mod place;
mod plan;
mod problem;
mod release;
mod render;
mod resurrect;
mod serve;
mod store;
mod task;
mod tls;
mod token;
mod variables;
mod vitals;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A BOSH director for one machine, and a client for any director
#[derive(Parser)]
#[command(name = "tandem-director", version)]
struct Cli {
    #[command(flatten)]
    connection: client::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Be the director
    Serve {
        /// The director's config file
        #[arg(long, value_name = "FILE", default_value = "director.yml")]
        config: PathBuf,
    },
    /// The supervisor of one VM; the director starts it
    #[command(hide = true)]
    Vm {
        #[arg(long)]
        dir: PathBuf,
    },
    #[command(flatten)]
    Client(client::Command),
}

fn main() -> ExitCode {
    let Cli { connection, command } = Cli::parse();
    match command {
        Command::Serve { config } => run(serve::run(&config)),
        Command::Vm { dir } => vm::run(&dir),
        Command::Client(command) => run(client::run(connection, command)),
    }
}

fn run(program: impl Future<Output = ExitCode>) -> ExitCode {
    // Both ends of TLS in this program use it; nothing else was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}
