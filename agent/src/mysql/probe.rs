//! Asking another server over the network, where its agent does not answer for it.

use std::net::IpAddr;
use std::time::Duration;

use agent::api::MYSQL_PORT;
use agent::config::Secret;
use sqlx::{ConnectOptions, Connection as _};

use super::{Family, REPLICATION, options, statements, within};
use crate::report::sentence;

const REMOTE_LIMIT: Duration = Duration::from_secs(3);

/// What a server says that is asked over the network.
pub(crate) enum Probe {
    /// Nobody takes a connection.
    Gone,
    /// Somebody does, and says nothing of use: no free connection, a frozen process, another password.
    Unclear(String),
    Says {
        is_writable: bool,
        executed: String,
    },
}

/// Ask another server, over the network and with the only account that it has for that, whether it is writable.
pub(crate) async fn probe(address: IpAddr, password: &Secret) -> Probe {
    let connected = tokio::time::timeout(REMOTE_LIMIT, tokio::net::TcpStream::connect((address, MYSQL_PORT))).await;
    if !matches!(connected, Ok(Ok(_))) {
        return Probe::Gone;
    }
    let options =
        options().host(&address.to_string()).port(MYSQL_PORT).username(REPLICATION).password(password.reveal());
    let asked = within(REMOTE_LIMIT, "ask the peer's server whether it is read-only", async {
        let mut connection = options.connect().await?;
        let family = Family::of(&statements::version(&mut connection).await?)?;
        let is_writable = !statements::is_read_only(&mut connection).await?;
        let executed = family.executed(&mut connection).await?;
        connection.close().await?;
        Ok(Probe::Says { is_writable, executed })
    });
    asked.await.unwrap_or_else(|error| Probe::Unclear(sentence(&error)))
}
