//! `tandem-director serve`: open the state, clear away what a crash left, listen, and end gracefully. VMs stay when the
//! director goes, and the next one finds them again.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum_server::Handle;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config};
use crate::director::Director;
use crate::store::Model;
use crate::{endpoint, http, listener, resurrect, tls};

/// How long requests and tasks may take to their end after SIGTERM. A task that is still running is an error then, and
/// its half-made VMs are removed at the next start.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(config: &Path) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    log.with_env_filter(filter).init();
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-director: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(path: &Path) -> Result<()> {
    let config = config::read(path)?;
    endpoint::raise_file_limit();
    let listener = listen(&config)?;
    let address = listener.local_addr().context("read the address of the listener")?;
    let director = Arc::new(Director::open(config)?);
    director.store.write(name_director).await?;
    director.cpi.end_errands().await?;
    resurrect::clear_half_made_vms(&director).await.context("remove VMs that no instance owns")?;
    for (deployment, error) in director.client_addresses.follow(&director.store).await {
        tracing::warn!(deployment, error = format!("{error:#}"), "cannot serve a client address yet");
    }

    let tls = tls::server_config(&director.config.state, address.ip(), OffsetDateTime::now_utc()).await?;
    let (stop, loops) = (CancellationToken::new(), TaskTracker::new());
    loops.spawn(resurrect::watch(director.clone(), stop.clone()));
    let handle: Handle<SocketAddr> = Handle::new();
    loops.spawn(end_on_signal(handle.clone(), stop.clone()));
    println!("tandem-director listens on https://{address}");
    let served = listener::serve(http::router(director.clone()), listener, tls, handle).await;

    stop.cancel();
    loops.close();
    if timeout(GRACE, end_work(&director, &loops)).await.is_err() {
        tracing::warn!("tasks are still running; they are errors at the next start");
    }
    served
}

/// In this order: the loops and the requests may still begin tasks.
async fn end_work(director: &Director, loops: &TaskTracker) {
    loops.wait().await;
    director.requests.running.close();
    director.requests.running.wait().await;
    director.tasks.close().await;
}

/// Bound before anything is made, so that a taken port leaves nothing behind.
fn listen(config: &Config) -> Result<TcpListener> {
    let listener = TcpListener::bind(config.listen).with_context(|| {
        format!("listen on {}; if something else has this port, choose another one with `listen`", config.listen)
    })?;
    listener.set_nonblocking(true).context("make the listener non-blocking")?;
    Ok(listener)
}

fn name_director(model: &mut Model) -> crate::error::Result<()> {
    if model.shared.uuid.is_empty() {
        model.shared_mut().uuid = uuid::Uuid::new_v4().to_string();
    }
    Ok(())
}

async fn end_on_signal(handle: Handle<SocketAddr>, stop: CancellationToken) {
    let ended = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::select! {
        ended = ended => match ended {
            Ok(()) => handle.graceful_shutdown(Some(GRACE)),
            Err(error) => tracing::error!(%error, "cannot wait for signals"),
        },
        () = stop.cancelled() => {}
    }
}
