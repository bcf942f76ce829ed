//! How the agent speaks to the guard of its server (`guard.rs`).

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::remove_file_if_there;
use crate::guard::{Message, message};

/// A guard that does not answer within this time is dead or frozen.
const LIMIT: Duration = Duration::from_secs(1);

/// The guard's socket; none where the server has no guard.
#[derive(Clone, Debug)]
pub(super) struct GuardSocket(Option<PathBuf>);

impl GuardSocket {
    /// Beside the server's own socket, whose path has its limit.
    pub(super) fn new(server_socket: &Path, is_used: bool) -> GuardSocket {
        GuardSocket(is_used.then(|| server_socket.with_file_name("guard.sock")))
    }

    pub(super) fn is_used(&self) -> bool {
        self.0.is_some()
    }

    /// The listening end, for a new guard; the earlier one has ended.
    pub(super) fn listen(&self) -> Result<Option<UnixListener>> {
        let Some(path) = &self.0 else { return Ok(None) };
        remove_file_if_there(path)?;
        UnixListener::bind(path).with_context(|| format!("listen on {}", path.display())).map(Some)
    }

    /// Tell the guard until when the server may be writable, or that it is read-only; it knows when this returns.
    pub(super) async fn tell(&self, deadline: Option<Duration>) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let told = timeout(LIMIT, async {
            let mut connection = UnixStream::connect(path).await?;
            let sent = message(deadline);
            connection.write_all(&sent).await?;
            let mut known = Message::default();
            connection.read_exact(&mut known).await?;
            ensure!(known == sent, "it knows another time");
            Ok(())
        });
        told.await.context("no answer").flatten().context("tell the guard until when the server may be writable")
    }
}
