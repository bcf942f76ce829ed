//! What the director and a supervisor say to each other: one line of JSON there, one back, on a unix socket.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::cpi::Process;

const SOCKET: &str = "supervisor.sock";
/// No request is longer, nor any reply of a VM with a sensible number of jobs.
const LINE_LIMIT: u64 = 256 * 1024;
/// A caller that connected says at once what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Status,
    Start,
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done; this is how the processes are now.
    Processes(Vec<Process>),
    Error(String),
}

/// The socket in a run directory, by a path that is short however deep the directory is: a socket's path must fit into
/// 108 bytes. The directory stays open as long as this value lives.
pub(crate) struct SocketPath {
    _dir: File,
    path: PathBuf,
}

impl SocketPath {
    pub(crate) fn open(run_dir: &Path) -> anyhow::Result<Self> {
        let dir = File::open(run_dir).with_context(|| format!("open {}", run_dir.display()))?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()).into();
        Ok(Self { _dir: dir, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Ask the supervisor behind `run_dir`.
pub(crate) async fn ask(run_dir: &Path, request: Request, timeout: Duration) -> anyhow::Result<Vec<Process>> {
    let exchange = async {
        let socket = SocketPath::open(run_dir)?;
        let mut stream = UnixStream::connect(socket.path()).await.context("call the supervisor")?;
        write_line(&mut stream, &request).await?;
        read_line(stream).await
    };
    let reply = tokio::time::timeout(timeout, exchange).await;
    match reply.with_context(|| format!("the supervisor does not answer within {} s", timeout.as_secs()))?? {
        Reply::Processes(processes) => Ok(processes),
        Reply::Error(text) => anyhow::bail!("{text}"),
    }
}

/// Answer one caller. A caller that went away gets no answer; what it asked for is done all the same.
pub(super) async fn answer(mut stream: UnixStream, obey: impl AsyncFnOnce(Request) -> Reply) {
    let request = tokio::time::timeout(REQUEST_TIMEOUT, read_line(&mut stream)).await;
    match request {
        Ok(Ok(request)) => {
            let reply = obey(request).await;
            if let Err(error) = write_line(&mut stream, &reply).await {
                tracing::info!("the caller did not wait for the answer: {error:#}");
            }
        }
        Ok(Err(error)) => tracing::warn!("a caller was not understood: {error:#}"),
        Err(_) => tracing::warn!("a caller said nothing"),
    }
}

async fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value).context("write a line")?;
    line.push(b'\n');
    stream.write_all(&line).await.context("send a line")
}

async fn read_line<T: serde::de::DeserializeOwned>(stream: impl tokio::io::AsyncRead + Unpin) -> anyhow::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_LIMIT)).read_until(b'\n', &mut line).await.context("receive a line")?;
    anyhow::ensure!(line.ends_with(b"\n"), "the other end hung up in the middle of a line");
    serde_json::from_slice(&line).context("understand a line")
}
