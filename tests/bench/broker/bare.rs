//! What a request costs the kernel alone: a thread that reads what arrives and writes as many bytes as the broker does, and
//! nothing else. Whoever sleeps between two requests pays at least this for being woken.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::time::{ClockId, clock_gettime};

/// Longer than any request here.
const READ_SIZE: usize = 4096;

/// A server of one connection.
pub(super) struct Bare {
    pub(super) address: SocketAddr,
    thread: JoinHandle<Result<Duration>>,
}

impl Bare {
    /// Every answer has a body of so many bytes.
    pub(super) fn start(body: usize) -> Result<Bare> {
        let socket = TcpListener::bind("127.0.0.1:0").context("listen for one connection")?;
        let address = socket.local_addr().context("find the address")?;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {body}\r\n\r\n{}", "x".repeat(body));
        let thread = std::thread::spawn(move || {
            let (connection, _) = socket.accept().context("take the connection")?;
            serve(connection, answer.as_bytes())
        });
        Ok(Bare { address, thread })
    }

    /// The processor time of all that it did, when its client has gone.
    pub(super) fn cpu(self) -> Result<Duration> {
        self.thread.join().map_err(|_| anyhow!("the bare server panicked"))?
    }
}

fn serve(mut connection: TcpStream, answer: &[u8]) -> Result<Duration> {
    connection.set_nodelay(true).context("send at once")?;
    let mut request = [0; READ_SIZE];
    while connection.read(&mut request).context("read a request")? > 0 {
        connection.write_all(answer).context("write an answer")?;
    }
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(used.tv_sec.try_into()?, used.tv_nsec.try_into()?))
}
