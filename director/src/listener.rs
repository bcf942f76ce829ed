//! The director's HTTPS listener: HTTP/1.1 over TLS, with limits on connections and on waiting for a client.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Extension;
use axum::middleware::AddExtension;
use axum_server::Handle;
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

/// Far more than a broker and some operators have.
const CONNECTIONS: usize = 512;
/// For the handshake; a client on this machine needs milliseconds.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// For the head of a request; also how long an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(90);

/// Serve until the handle says stop.
pub(crate) async fn serve(
    router: Router,
    listener: TcpListener,
    tls: RustlsConfig,
    handle: Handle<SocketAddr>,
) -> Result<()> {
    let acceptor = LimitedAcceptor {
        tls: RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_LIMIT),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let mut server = axum_server::from_tcp(listener).context("use the listener")?.acceptor(acceptor).http1_only();
    // Without a timer there is no time-out for slow heads.
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    server.handle(handle).serve(router.into_make_service()).await.context("serve the director API")
}

/// Takes a connection while there is a place for one more.
#[derive(Clone)]
struct LimitedAcceptor {
    tls: RustlsAcceptor<DefaultAcceptor>,
    connections: Arc<Semaphore>,
}

/// One of the connections that may be open at once, kept with the connection's service.
#[derive(Clone)]
struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl<S: Send + 'static> Accept<TcpStream, S> for LimitedAcceptor {
    type Stream = <RustlsAcceptor<DefaultAcceptor> as Accept<TcpStream, S>>::Stream;
    type Service = AddExtension<S, Place>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = self.connections.clone().try_acquire_owned();
        let accepted = self.tls.accept(stream, service);
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other(format!("{CONNECTIONS} connections are open already")))?;
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(Place(Arc::new(place))).layer(service)))
        })
    }
}
