//! What the broker's two listeners, for platforms and for pairs, share: TLS 1.2 or later where there are keys, limits on
//! connections and on waiting.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::Extension;
use axum::middleware::AddExtension;
use axum_server::Server;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may leave unread what was sent to it.
const UNREAD_LIMIT_MS: u32 = 30_000;
/// The longest head of a request.
const HEAD_LIMIT: usize = 64 * 1024;

/// Takes TLS connections, as long as there are places.
pub(crate) type TlsAcceptor = Limited<RustlsAcceptor<NoDelayAcceptor>>;

/// Take an address; connections wait until they are served.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A server that cuts clients that take longer than `head_time` for the head of a request, or to begin the next one.
pub(crate) fn server<A>(socket: TcpListener, acceptor: A, head_time: Duration) -> io::Result<Server<SocketAddr, A>> {
    let mut server = axum_server::from_tcp(socket)?.acceptor(acceptor).http1_only();
    let mut http = server.http_builder().http1();
    // Without a timer there is no time-out for slow heads.
    http.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_LIMIT);
    // A client that has said all may close its half of the connection and wait for the answer.
    http.half_close(true);
    Ok(server)
}

/// TLS with these keys.
pub(crate) fn tls_acceptor(config: RustlsConfig, places: usize) -> TlsAcceptor {
    let tls = RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE_LIMIT);
    Limited::new(tls.acceptor(NoDelayAcceptor::new()), places)
}

/// The keys of a listener, and which clients it believes.
pub(crate) fn server_config(
    certificate: &str,
    private_key: &str,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).context("read private_key")?;
    // Both versions that this rustls has: 1.2 and 1.3.
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = builder.with_single_cert(chain.context("read certificate")?, key);
    let mut config = config.context("certificate and private_key do not fit")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes connections as long as there are places, and closes the others at once.
#[derive(Clone)]
pub(crate) struct Limited<A> {
    inner: A,
    places: Arc<Semaphore>,
}

/// One of the connections that may be open at once, kept with the connection's service.
#[derive(Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl<A> Limited<A> {
    pub(crate) fn new(inner: A, places: usize) -> Limited<A> {
        Limited { inner, places: Arc::new(Semaphore::new(places)) }
    }
}

impl<A, S> Accept<TcpStream, S> for Limited<A>
where
    A: Accept<TcpStream, S> + 'static,
    A::Future: Send,
    S: 'static,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, Place>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let bounded = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD_LIMIT_MS);
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other("there are too many connections already"))?;
            bounded?;
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(Place(Arc::new(place))).layer(service)))
        })
    }
}
