//! How the agent speaks to the guard of its server (`guard.rs` beside `main.rs`), and how it does itself what the guard does.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::process::Process;
use super::{Mysqld, State, remove_file_if_there};
use crate::guard::{Message, message};

/// A guard that does not answer within this time is dead or frozen.
const LIMIT: Duration = Duration::from_secs(1);

/// A killed server that is not gone by then waits for its disk.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// The guard, known by its socket; none where the server has no guard.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    socket: Option<PathBuf>,
    /// The guard listens to one at a time, the last one that came.
    turn: Arc<Mutex<()>>,
}

impl Guard {
    /// Beside the server's own socket, whose path has its limit.
    pub(super) fn new(server_socket: &Path, is_used: bool) -> Guard {
        Guard { socket: is_used.then(|| server_socket.with_file_name("guard.sock")), turn: Arc::default() }
    }

    pub(super) fn is_used(&self) -> bool {
        self.socket.is_some()
    }

    /// The listening end, for a new guard; the earlier one has ended.
    pub(super) fn listen(&self) -> Result<Option<UnixListener>> {
        let Some(path) = &self.socket else { return Ok(None) };
        remove_file_if_there(path)?;
        UnixListener::bind(path).with_context(|| format!("listen on {}", path.display())).map(Some)
    }

    /// Tell the guard until when the server may be writable, or that it is read-only; it knows when this returns.
    pub(super) async fn tell(&self, deadline: Option<Duration>) -> Result<()> {
        let Some(path) = &self.socket else { return Ok(()) };
        let _turn = self.turn.lock().await;
        let told = timeout(LIMIT, async {
            let mut connection = UnixStream::connect(path).await?;
            let sent = message(deadline);
            connection.write_all(&sent).await?;
            let mut known = Message::default();
            connection.read_exact(&mut known).await?;
            ensure!(known == sent, "it knows another time");
            Ok(())
        });
        told.await.context("no answer").flatten().context(
            "the server's guard does not know until when the server may be writable, probably because the server has just ended; \
             run this again",
        )
    }
}

impl Mysqld {
    /// The server of a pair is killed when this time of [`crate::clock`] comes and was not put off again. Known to the
    /// guard when this returns, so it comes before the server is opened (`OwnSession::open_as_leader`).
    pub(crate) async fn allow_writes_until(&self, deadline: Duration) -> Result<()> {
        self.guard.tell(Some(deadline)).await
    }

    /// The server is read-only: it may live as long as it likes.
    pub(crate) async fn forbid_writes(&self) -> Result<()> {
        self.guard.tell(None).await
    }

    /// Kill the server and wait until it is gone; the loop starts it again, read-only.
    pub(crate) async fn kill(&self) -> Result<()> {
        let mut state = self.state.clone();
        let before = state.borrow_and_update().clone();
        let killed = timeout(KILL_LIMIT, async {
            if let Some(process) = Process::find(&self.my_cnf).await? {
                process.kill().await;
            }
            if matches!(before, State::Up(_)) {
                // The loop that does not say so is over, and then there is no server.
                let _ = state.wait_for(|state| *state != before).await;
            }
            anyhow::Ok(())
        });
        killed
            .await
            .with_context(|| format!("the killed server is not gone after {} s", KILL_LIMIT.as_secs()))
            .flatten()
    }
}
