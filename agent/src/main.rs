//! `mysql-agent`: runs on every database VM, owns its MySQL server, and keeps the pair of servers right.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `instance.rs` | what this agent was told (`config.json`) |
//! | `mysqld.rs` | the server's process and data directory |
//! | `guard.rs`, `clock.rs` | the process that kills a server which may not be writable any more; by which clock |
//! | `mysql.rs`, `gtid.rs` | the statements; the histories of transactions |
//! | `topology.rs` | PURE: what a command does next |
//! | `fence.rs`, `busy.rs` | may this server be writable; one thing at a time |
//! | `command.rs`, `seed.rs`, `recovery.rs` | doing it: commands, copies of data, what follows a start |
//! | `automatic.rs` | is the leader gone, and what follows without an operator |
//! | `sync.rs` | commits that wait for the follower, and what the other voters are told of it |
//! | `salvage.rs` | what only a replaced leader has goes to a file before its data are replaced |
//! | `heartbeat.rs`, `inspection.rs`, `metrics.rs` | the leader's sign of life; what monitoring reads |
//! | `verdict.rs` | PURE: is the pair well, and what to do next |
//! | `agent.rs` | the parts together, and how they see both servers |
//! | `http.rs`, `users.rs`, `report.rs` | the API |

mod agent;
mod automatic;
mod busy;
mod clock;
mod command;
mod fence;
mod gtid;
mod guard;
mod heartbeat;
mod http;
mod inspection;
mod instance;
mod journal;
mod leadership;
mod metrics;
mod mysql;
mod mysqld;
mod recovery;
mod report;
mod salvage;
mod seed;
mod sync;
mod topology;
mod users;
mod verdict;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::agent::{api, config};
use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use report::sentence;

/// How long a command may go on after the agent was told to end.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Owns the MySQL server of a VM and keeps its replication right.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The job's configuration.
    #[arg(long, default_value = "/var/vcap/jobs/mysql-agent/config.json")]
    config: PathBuf,
    #[command(subcommand)]
    stage: Option<guard::Stage>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(stage) = arguments.stage {
        return guard::run(stage);
    }
    start_log();
    match block_on(run(&arguments.config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// One thread: the agent waits nearly all the time, and should not be felt on the VM of a database.
fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(work)
}

fn start_log() {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stdout().is_terminal())
        .with_target(false)
        .init();
}

async fn run(config_file: &Path) -> Result<()> {
    let config = config::read(config_file)?;
    let instance = instance::Instance::new(config)
        .with_context(|| format!("the configuration file {} is not usable", config_file.display()))?;
    let (agent, supervisor) = agent::Agent::new(instance)?;
    let agent = Arc::new(agent);
    let mut terminated = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("listen for SIGINT")?;

    let handle = axum_server::Handle::new();
    let address = SocketAddr::new(agent.instance.spec.ip, api::PORT);
    let listener = http::listen(address, &agent.instance.tls)?;
    let served = http::serve(http::router(agent.clone()), listener, handle.clone());
    let supervised = tokio::spawn(supervisor.supervise());
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn(recovery::look_after(agent.clone()));
    loops.spawn(leadership::keep_lease(agent.clone()));
    loops.spawn(leadership::watch_lease(agent.clone()));
    loops.spawn(automatic::watch_leader(agent.clone()));
    loops.spawn(sync::keep_in_sync(agent.clone()));
    loops.spawn(automatic::watch_own_server(agent.clone()));
    loops.spawn(heartbeat::beat_while_leading(agent.clone()));
    tokio::select! {
        // Only when it could not begin to listen.
        served = served => return served,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("ending: the server is stopped first");
    loops.abort_all();
    agent.tasks.close();
    if tokio::time::timeout(COMMAND_LIMIT, agent.tasks.wait()).await.is_err() {
        tracing::warn!("a command is cut off; run it again when the agent is back");
    }
    heartbeat::settle(&agent).await;
    agent.mysqld.end().await;
    supervised.await.context("stop the server")?;
    handle.graceful_shutdown(Some(ANSWER_LIMIT));
    Ok(())
}
