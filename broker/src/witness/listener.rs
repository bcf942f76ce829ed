//! The witness's listener: only for clients with a certificate of the agents' authority, whose name their requests have.

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
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tower::Layer;

use super::router::ClientName;
use crate::listener::{self, TlsAcceptor};

/// One for each leader, which asks all the time, and some for followers, which seldom do.
const CONNECTIONS: usize = 4096;
/// How long a client may take to send the head of a request, or keep an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The witness's address, taken, and its keys.
pub(crate) struct Listener {
    socket: TcpListener,
    config: RustlsConfig,
}

impl Listener {
    /// Take the address.
    pub(crate) fn bind(address: SocketAddr, tls: &Tls) -> Result<Listener> {
        let config = RustlsConfig::from_config(server_config(tls).context("read property `agent_tls`")?);
        let socket = listener::bind(address)
            .with_context(|| format!("listen as witness on {address} (property `witness_port`)"))?;
        Ok(Listener { socket, config })
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }
}

/// Serve until the handle says stop.
pub(crate) async fn serve(router: Router, listener: Listener, handle: Handle<SocketAddr>) -> Result<()> {
    let acceptor = NameAcceptor(listener::tls_acceptor(listener.config, CONNECTIONS));
    let server = listener::server(listener.socket, acceptor, HEAD_TIME).context("listen as witness")?;
    server.handle(handle).serve(router.into_make_service()).await.context("serve as witness")
}

fn server_config(tls: &Tls) -> Result<Arc<rustls::ServerConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.ca.as_bytes()) {
        roots.add(certificate.context("read ca")?).context("use ca")?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().context("use ca")?;
    listener::server_config(&tls.certificate, &tls.private_key, verifier)
}

/// Remembers for the requests of a connection the name in the certificate that its client showed.
#[derive(Clone)]
struct NameAcceptor(TlsAcceptor);

impl<S: Send + 'static> Accept<TcpStream, S> for NameAcceptor {
    type Stream = <TlsAcceptor as Accept<TcpStream, S>>::Stream;
    type Service = AddExtension<<TlsAcceptor as Accept<TcpStream, S>>::Service, ClientName>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let name = ClientName(shown.and_then(only_name));
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
