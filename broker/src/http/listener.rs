//! The listener of the Open Service Broker API: in the clear, or with the keys of the properties, which can be replaced while
//! it serves.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::worded::Worded;
use crate::config::{Clients, Keys, Properties};
use crate::listener::{self, Limited};

/// The address, taken, and the keys.
pub(crate) struct Listener {
    socket: TcpListener,
    keys: Option<RustlsConfig>,
    clients: Clients,
}

impl Listener {
    /// Take the address.
    pub(crate) fn bind(address: SocketAddr, properties: &Properties) -> Result<Listener> {
        let keys = properties.tls.as_ref().map(server_config).transpose()?.map(RustlsConfig::from_config);
        let socket = listener::bind(address).with_context(|| format!("listen on {address}"))?;
        Ok(Listener { socket, keys, clients: properties.clients.clone() })
    }

    /// The address, also where the system chose the port.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().context("read the address of the listening socket")
    }

    /// Where to put other keys.
    pub(crate) fn keys(&self) -> Option<RustlsConfig> {
        self.keys.clone()
    }

    /// Serve until the handle says stop.
    pub(crate) async fn serve(self, router: Router, handle: Handle<SocketAddr>) -> Result<()> {
        let Listener { socket, keys, clients } = self;
        let (places, time) = (clients.max_connections, clients.timeout());
        let served = match keys {
            Some(keys) => {
                let acceptor = Worded(listener::tls_acceptor(keys, places));
                listener::server(socket, acceptor, time)?.handle(handle).serve(router.into_make_service()).await
            }
            None => {
                let acceptor = Worded(Limited::new(NoDelayAcceptor::new(), places));
                listener::server(socket, acceptor, time)?.handle(handle).serve(router.into_make_service()).await
            }
        };
        served.context("serve the Open Service Broker API")
    }
}

/// The keys, ready to use.
pub(crate) fn server_config(keys: &Keys) -> Result<Arc<ServerConfig>> {
    let everybody = WebPkiClientVerifier::no_client_auth();
    let config = listener::server_config(&keys.certificate, keys.private_key.reveal(), everybody);
    config.context("read property `tls`")
}
