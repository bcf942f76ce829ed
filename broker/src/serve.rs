//! From the configuration file to a listening server, and to an end in which no request is cut.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::Timestamp;
use crate::config::Properties;
use crate::{checkup, http, reconciler, reload, rotation, witness};

/// How long requests may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the witness may take to end.
const WITNESS_DRAIN: Duration = Duration::from_secs(1);
/// How often old tombstones are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Serve until SIGTERM or SIGINT.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    // The provider is process-wide; nobody else has chosen yet.
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_file_limit();
    let config = agent::config::read::<Properties>(path)?;
    let address = SocketAddr::new(config.spec.ip, config.properties.port);
    // Before anything is started: a SIGHUP that nobody listens for ends the process.
    let mut signals = Signals::listen()?;
    // First of all: whoever has the port is the only one who works with our id.
    let listener = http::Listener::bind(address, &config.properties)?;
    let witness = SocketAddr::new(config.spec.ip, config.properties.witness_port);
    let witness = witness::Listener::bind(witness, &config.properties.agent_tls)?;
    let app = Arc::new(App::prepare(config).await?);
    reconciler::take_over(&app).await?;

    let stop = CancellationToken::new();
    let (checking, forgetting) = (tokio::spawn(checkup::run(app.clone())), tokio::spawn(forget(app.clone())));
    let rotating = tokio::spawn(change_keys(app.clone()));
    let reconciling = tokio::spawn(reconciler::run(app.clone(), stop.clone()));
    let handle = Handle::new();
    let (address, keys) = (listener.address()?, listener.keys());
    let serving = tokio::spawn(listener.serve(http::router(app.clone()), handle.clone()));
    let witness_handle = Handle::new();
    let witnessing = tokio::spawn(be_witness(app.clone(), witness, witness_handle.clone()));
    tracing::info!(%address, "mysql-broker listens");

    signals.wait_for_end(|| reload::reload(path, &app, keys.as_ref())).await;
    tracing::info!("mysql-broker drains");
    handle.graceful_shutdown(Some(DRAIN));
    stop.cancel();
    app.requests.close();
    let drained = async { (serving.await, reconciling.await, app.requests.wait().await) };
    if tokio::time::timeout(DRAIN + Duration::from_secs(1), drained).await.is_err() {
        tracing::warn!("requests were cut; what they did is finished at the next start");
    }
    // Last, so that the pairs have their witness for as long as can be.
    witness_handle.shutdown();
    if tokio::time::timeout(WITNESS_DRAIN, witnessing).await.is_err() {
        tracing::warn!("the witness's last questions were cut");
    }
    checking.abort();
    forgetting.abort();
    rotating.abort();
    app.store.close().await;
    Ok(())
}

async fn be_witness(app: Arc<App>, listener: witness::Listener, handle: Handle<SocketAddr>) {
    if let Err(error) = witness::serve(witness::router(app), listener, handle).await {
        tracing::error!(cause = format!("{error:#}"), "the pairs have no witness until mysql-broker is started again");
    }
}

/// Every pair keeps a connection to its witness, and the soft limit of a process is often 1024 files.
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(cause = %error, "cannot raise the limit of open files");
    }
}

async fn change_keys(app: Arc<App>) {
    if let Err(error) = rotation::run(&app).await {
        tracing::error!(cause = format!("{error:#}"), "keep the old encryption keys: cannot seal all credentials anew");
    }
}

async fn forget(app: Arc<App>) {
    let mut ticks = tokio::time::interval(FORGET_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = reconciler::forget_deleted(&app, Timestamp::now()).await {
            tracing::warn!(cause = format!("{error:#}"), "cannot forget old tombstones");
        }
    }
}

/// What the outside may say to the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("listen for SIGHUP")?,
        })
    }

    /// Until SIGTERM or SIGINT; SIGHUP on the way.
    async fn wait_for_end(&mut self, on_hangup: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}
