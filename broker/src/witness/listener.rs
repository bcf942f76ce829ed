//! The witness's listener: TLS 1.2 or later, only for clients with a certificate of the agents' authority, with limits on
//! connections and on waiting.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

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

use super::router::ClientName;

/// One for each leader, which asks all the time, and some for followers, which seldom do.
const CONNECTIONS: usize = 4096;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may take to send the head of a request, or keep an idle connection.
const HEADER_LIMIT: Duration = Duration::from_secs(30);

/// The witness's address, taken, and its keys.
pub(crate) struct Listener {
    socket: TcpListener,
    config: RustlsConfig,
}

impl Listener {
    /// Take the address.
    pub(crate) fn bind(address: SocketAddr, tls: &Tls) -> Result<Listener> {
        let config = server_config(tls).context("read property `agent_tls`")?;
        let socket = TcpListener::bind(address)
            .with_context(|| format!("listen as witness on {address} (property `witness_port`)"))?;
        socket.set_nonblocking(true).context("prepare the witness's listening socket")?;
        Ok(Listener { socket, config: RustlsConfig::from_config(Arc::new(config)) })
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }
}

/// Serve until the handle says stop.
pub(crate) async fn serve(router: Router, listener: Listener, handle: Handle<SocketAddr>) -> Result<()> {
    let Listener { socket, config } = listener;
    let tls = RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE_LIMIT).acceptor(NoDelayAcceptor::new());
    let acceptor = NameAcceptor { tls, connections: Arc::new(Semaphore::new(CONNECTIONS)) };
    let mut server = axum_server::from_tcp(socket).context("listen as witness")?.acceptor(acceptor).http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    server.handle(handle).serve(router.into_make_service()).await.context("serve as witness")
}

fn server_config(tls: &Tls) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.ca.as_bytes()) {
        roots.add(certificate.context("read ca")?).context("use ca")?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().context("use ca")?;
    let chain = CertificateDer::pem_slice_iter(tls.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(tls.private_key.as_bytes()).context("read private_key")?;
    // Both versions that this rustls has: 1.2 and 1.3.
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = builder.with_single_cert(chain.context("read certificate")?, key);
    let mut config = config.context("certificate and private_key do not fit")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes a connection, and remembers for its requests the name in the certificate that its client showed.
#[derive(Clone)]
struct NameAcceptor {
    tls: Tls12Or13,
    connections: Arc<Semaphore>,
}

/// One of the connections that may be open at once, kept with the connection's service.
#[derive(Clone)]
struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

type Tls12Or13 = RustlsAcceptor<NoDelayAcceptor>;
type Named<S> = AddExtension<AddExtension<S, Place>, ClientName>;

impl<S: Send + 'static> Accept<TcpStream, S> for NameAcceptor {
    type Stream = <Tls12Or13 as Accept<TcpStream, S>>::Stream;
    type Service = Named<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.connections).try_acquire_owned();
        let accepted = self.tls.accept(stream, service);
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other(format!("{CONNECTIONS} connections are open already")))?;
            let (stream, service) = accepted.await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let name = ClientName(shown.and_then(only_name));
            let service = Extension(Place(Arc::new(place))).layer(service);
            Ok((stream, Extension(name).layer(service)))
        })
    }
}

/// The name that a certificate is for. One with several could speak for several pairs.
fn only_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    let name = names.next()?.to_owned();
    names.next().is_none().then_some(name)
}
