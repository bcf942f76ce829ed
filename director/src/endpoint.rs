//! A deployment's stable client address, the stand-in for BOSH DNS: it forwards each connection to the one instance
//! whose health answers 200, and cuts connections when that changes.
//!
//! A new connection waits for a round of questions that began after it came, so it never goes where the health was some
//! time ago. All connections that wait share one round. Established ones are watched at a leisurely pace.

mod health;
mod verdict;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use health::Health;
use health::{Demand, Prober, View};

/// How long a client waits while no instance is healthy: longer than a planned failover, shorter than its patience.
const HOLD_LIMIT: Duration = Duration::from_secs(30);
/// A server on this machine takes a connection at once, or its queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// More clients wait in the listening socket's queue. A MySQL server has far fewer sessions.
const CONNECTIONS_LIMIT: usize = 2000;
const QUEUE_LENGTH: u32 = 4096;
/// Out of file descriptors: time for some connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening address.
pub(crate) struct Endpoint {
    listener: Arc<TcpListener>,
    tasks: JoinSet<()>,
}

impl Endpoint {
    /// Listen on `address:port`; connections go to the same port of the healthy one of `targets`.
    pub(crate) async fn start(
        address: Ipv4Addr,
        port: u16,
        health: Health,
        targets: watch::Receiver<Vec<Ipv4Addr>>,
    ) -> anyhow::Result<Endpoint> {
        let listener = listen(SocketAddrV4::new(address, port)).with_context(|| {
            format!("the client address {address}:{port} cannot be used, somebody may listen there")
        })?;
        let demand = Arc::new(Demand::default());
        let listener = Arc::new(listener);
        let (prober, view) = Prober::new(format!("{address}:{port}"), health, targets, demand.clone())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(prober.run());
        tasks.spawn(accept(listener.clone(), Forwarder { port, demand, view }));
        Ok(Endpoint { listener, tasks })
    }

    /// Cut its connections, and return when the address is free: whoever only drops it frees it some time later.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
        // To close it is not enough: a process that is being started has a copy until its program runs.
        if let Err(error) = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both) {
            tracing::warn!("cannot stop listening on a client address: {error}");
        }
    }
}

/// After a failover all clients come at once, and one that finds no place in the queue tries again only a second later.
fn listen(address: SocketAddrV4) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    socket.listen(QUEUE_LENGTH)
}

/// Allow this process as many open files as it may have: a forwarded connection needs two, and the usual limit of 1024
/// would be reached by the clients of a few deployments.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

async fn accept(listener: Arc<TcpListener>, forwarder: Forwarder) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = limit.clone().acquire_owned() => permit,
            Some(_) = connections.join_next() => continue,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let forwarder = forwarder.clone();
                    connections.spawn(async move {
                        forwarder.serve(client).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot take a client's connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

#[derive(Clone)]
struct Forwarder {
    port: u16,
    demand: Arc<Demand>,
    view: watch::Receiver<View>,
}

impl Forwarder {
    /// A connection's whole life.
    async fn serve(mut self, mut client: TcpStream) {
        let deadline = Instant::now() + HOLD_LIMIT;
        let Ok((leader, mut server)) = tokio::time::timeout_at(deadline, self.connect()).await else {
            tracing::info!("a client waited in vain for a healthy instance");
            return;
        };
        // Small packets of a conversation must not wait for each other. A socket that refuses is about to fail anyway.
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let _open = self.demand.open();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            _ = self.view.wait_for(|view| view.kept != Some(leader)) => {}
        }
    }

    /// Wait for a healthy instance that takes the connection.
    async fn connect(&mut self) -> (Ipv4Addr, TcpStream) {
        loop {
            let leader = self.leader().await;
            let connecting = TcpStream::connect((leader, self.port));
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(server)) => return (leader, server),
                Ok(Err(error)) => tracing::debug!(%leader, "the healthy instance refuses: {error}"),
                Err(_) => tracing::debug!(%leader, "the healthy instance does not take the connection"),
            }
            tokio::time::sleep(health::HELD_PAUSE).await;
        }
    }

    /// The healthy instance, by a round of questions that begins now or later.
    async fn leader(&mut self) -> Ipv4Addr {
        let (after, _held) = self.demand.hold();
        let is_fresh = |view: &View| view.round > after && view.leader.is_some();
        match self.view.wait_for(is_fresh).await.ok().and_then(|view| view.leader) {
            Some(leader) => leader,
            // The prober is gone: the endpoint is being dropped, and this task with it.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
