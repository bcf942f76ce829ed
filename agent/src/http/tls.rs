//! The listener: TLS 1.2 or later, a client certificate where the client has one, limits on connections and on waiting.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent::api::PORT;
use agent::config::Tls;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Extension;
use axum::middleware::AddExtension;
use axum_server::Handle;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

use super::access::ClientCertificate;

const CONNECTIONS: usize = 256;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Also how long an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(90);

/// The agent's address, taken, and its keys.
pub(crate) struct Listener {
    socket: TcpListener,
    config: RustlsConfig,
}

/// Take the address, before anything is started that would be in somebody's way.
pub(crate) fn listen(address: SocketAddr, tls: &Tls) -> Result<Listener> {
    let config = RustlsConfig::from_config(Arc::new(server_config(tls).context("property tls is not usable")?));
    let socket = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}: the VM's address must be on this machine and its port {PORT} free")
    })?;
    socket.set_nonblocking(true).context("listen without blocking")?;
    Ok(Listener { socket, config })
}

/// Serve until the handle says stop.
pub(crate) async fn serve(router: Router, listener: Listener, handle: Handle<SocketAddr>) -> Result<()> {
    let Listener { socket, config } = listener;
    let tls = RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE_LIMIT).acceptor(NoDelayAcceptor::new());
    let acceptor = CertificateAcceptor { tls, connections: Arc::new(Semaphore::new(CONNECTIONS)) };
    let mut server = axum_server::from_tcp(socket).context("listen")?.acceptor(acceptor).http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    server.handle(handle).serve(router.into_make_service()).await.context("serve the API")
}

fn server_config(tls: &Tls) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.ca.as_bytes()) {
        roots.add(certificate.context("read tls.ca")?).context("use tls.ca")?;
    }
    let verifier =
        WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().context("use tls.ca")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(tls.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .context("read tls.certificate")?;
    let key = PrivateKeyDer::from_pem_slice(tls.private_key.as_bytes()).context("read tls.private_key")?;
    // Both versions that this rustls has: 1.2 and 1.3.
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(chain, key).context("tls.certificate and tls.private_key do not fit")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes a connection, and remembers the certificate that its client showed for its requests.
#[derive(Clone)]
struct CertificateAcceptor {
    tls: Tls12Or13,
    connections: Arc<Semaphore>,
}

/// One of the connections that may be open at once, kept with the connection's service.
#[derive(Clone)]
struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

type Tls12Or13 = RustlsAcceptor<NoDelayAcceptor>;
type Certified<S> = AddExtension<AddExtension<S, Place>, ClientCertificate>;

impl<S: Send + 'static> Accept<TcpStream, S> for CertificateAcceptor {
    type Stream = <Tls12Or13 as Accept<TcpStream, S>>::Stream;
    type Service = Certified<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.connections).try_acquire_owned();
        let accepted = self.tls.accept(stream, service);
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other(format!("{CONNECTIONS} connections are open already")))?;
            let (stream, service) = accepted.await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = ClientCertificate(shown.map(|certificate| certificate.clone().into_owned()));
            let service = Extension(Place(Arc::new(place))).layer(service);
            Ok((stream, Extension(certificate).layer(service)))
        })
    }
}
