//! A platform that asks much and costs little: HTTP/1.1 by hand on kept connections, a fixed number of requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use tests::Broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::table::percentile;

/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const HEAD_LIMIT: usize = 16 * 1024;

/// Where to ask, and as whom.
pub(super) struct Platform {
    address: SocketAddr,
    authorization: String,
}

/// What a load came to.
pub(super) struct Load {
    statuses: Vec<u16>,
    times: Vec<Duration>,
    elapsed: Duration,
    /// Of the broker.
    pub(super) cpu: Duration,
}

impl Platform {
    pub(super) fn of(broker: &Broker) -> Result<Platform> {
        let address = broker.url.trim_start_matches("http://").parse().context("read the broker's address")?;
        // The only thing that reqwest is asked for here: the header.
        let request = broker.request(reqwest::Method::GET, "/")?.basic_auth(&broker.username, Some(&broker.password));
        let request = request.build().context("make a request")?;
        let header = request.headers().get("authorization").context("find the credentials")?;
        Ok(Platform { address, authorization: header.to_str().context("read the credentials")?.to_owned() })
    }

    /// Another server, with the same requests.
    pub(super) fn at(&self, address: SocketAddr) -> Platform {
        Platform { address, authorization: self.authorization.clone() }
    }

    /// The bytes of a request.
    pub(super) fn request(&self, method: &str, path: &str, body: Option<&str>) -> Vec<u8> {
        let (address, authorization, body) = (self.address, &self.authorization, body.unwrap_or_default());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\n\
             x-broker-api-version: 2.17\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }

    /// Send a request on a connection of its own; the status of the answer.
    pub(super) async fn send_once(&self, request: &[u8]) -> Result<u16> {
        Connection::open(self.address).await?.call(request).await
    }
}

/// Send requests, each as soon as a connection is free for it.
pub(super) async fn load(
    platform: &Platform,
    connections: usize,
    times: usize,
    request: impl Fn(usize) -> Vec<u8>,
) -> Result<Load> {
    let next = AtomicUsize::new(0);
    let opened = try_join_all((0..connections).map(|_| Connection::open(platform.address))).await?;
    let started = Instant::now();
    let work = opened.into_iter().map(async |mut connection| {
        let mut answers = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= times {
                return anyhow::Ok(answers);
            }
            let (bytes, begun) = (request(at), Instant::now());
            answers.push((connection.call(&bytes).await?, begun.elapsed()));
        }
    });
    let answers = try_join_all(work).await?.concat();
    let elapsed = started.elapsed();
    let (statuses, times) = answers.into_iter().unzip();
    Ok(Load { statuses, times, elapsed, cpu: Duration::ZERO })
}

impl Load {
    pub(super) fn all_are(&self, status: u16) -> Result<()> {
        let other = self.statuses.iter().find(|one| **one != status);
        ensure!(other.is_none(), "an answer was {other:?} and not {status}");
        Ok(())
    }

    pub(super) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(super) fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.times, percent)
    }

    /// Of the broker, for one request.
    pub(super) fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1000.0 / self.times.len() as f64
    }

    pub(super) fn pace(&self) -> String {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        format!("{:.0}/s, p50 {:.2} ms, p99 {:.2} ms", self.per_second(), ms(50), ms(99))
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = timeout(ANSWER_LIMIT, TcpStream::connect(address)).await.context("connect in time")?;
        let stream = stream.context("connect to the broker")?;
        stream.set_nodelay(true).context("send at once")?;
        Ok(Connection { stream, buffer: Vec::new() })
    }

    async fn call(&mut self, request: &[u8]) -> Result<u16> {
        timeout(ANSWER_LIMIT, self.exchange(request)).await.context("wait for an answer")?
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await.context("send a request")?;
        self.buffer.clear();
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.buffer.len() < HEAD_LIMIT, "the head of an answer is too long");
            self.read().await?;
        };
        let head = str::from_utf8(&self.buffer[..end]).context("read the head of an answer")?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("find the status")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize =
            length.context("find the length of an answer")?.trim().parse().context("read the length")?;
        while self.buffer.len() < end + length {
            self.read().await?;
        }
        Ok(status)
    }

    async fn read(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await.context("read an answer")? {
            0 => bail!("the broker closed the connection"),
            _ => Ok(()),
        }
    }
}
