//! The client address in front of small instances: an HTTPS server for the health, and a server that says its name.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const HEALTH_PORT: u16 = 28210;
const PORT: u16 = 28211;
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many rounds of questions would have let a connection through that had to be let through.
const ROUNDS: u64 = 5;

/// A VM with an agent and a server.
struct Instance {
    address: Ipv4Addr,
    /// 0: it does not answer.
    status: watch::Sender<u16>,
    asked: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Instance {
    async fn start(address: [u8; 4], status: u16) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = Ipv4Addr::from(address);
        let (status, shown) = watch::channel(status);
        let asked = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let certificate = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
        let key = certificate.signing_key.serialize_pem().into_bytes();
        let tls = RustlsConfig::from_pem(certificate.cert.pem().into_bytes(), key).await.unwrap();
        let count = asked.clone();
        let answer = async move || {
            count.fetch_add(1, Ordering::SeqCst);
            let status = *shown.clone().wait_for(|status| *status != 0).await.unwrap();
            (StatusCode::from_u16(status).unwrap(), "words")
        };
        let router = Router::new().route("/v1/leader", get(answer));
        let health = std::net::TcpListener::bind((address, HEALTH_PORT)).unwrap();
        health.set_nonblocking(true).unwrap();
        let server = axum_server::from_tcp_rustls(health, tls).unwrap();
        tasks.spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        let listener = listen(SocketAddrV4::new(address, PORT)).unwrap();
        tasks.spawn(echo(listener, address));
        Self { address, status, asked, _tasks: tasks }
    }

    fn answers(&self, status: u16) {
        self.status.send_replace(status);
    }

    /// So many more rounds of questions have come by.
    async fn until_asked(&self, rounds: u64) {
        let wanted = self.asked.load(Ordering::SeqCst) + rounds;
        let deadline = Instant::now() + PATIENCE;
        while self.asked.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < deadline, "nobody asks");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// An address of this run of the tests: another run at the same time has others.
fn local(last: u8) -> [u8; 4] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 32 | high & 0x1f, low, last]
}

/// Say the name, then everything that is said.
async fn echo(listener: TcpListener, name: Ipv4Addr) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let (mut read, mut write) = stream.split();
            let _ = write.write_all(&name.octets()).await;
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

async fn endpoint(address: [u8; 4], instances: &[&Instance]) -> (Endpoint, watch::Sender<Vec<Ipv4Addr>>) {
    let (targets, seen) = watch::channel(instances.iter().map(|instance| instance.address).collect());
    let health = Health { port: HEALTH_PORT, path: "/v1/leader".to_owned() };
    (Endpoint::start(address.into(), PORT, health, seen).await.unwrap(), targets)
}

/// The name that the server behind the address says, and the connection.
async fn connect(address: [u8; 4]) -> (Ipv4Addr, TcpStream) {
    let mut stream = TcpStream::connect((Ipv4Addr::from(address), PORT)).await.unwrap();
    let mut name = [0; 4];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut name)).await.unwrap().unwrap();
    (name.into(), stream)
}

async fn assert_open(stream: &mut TcpStream) {
    let mut echo = [0; 4];
    stream.write_all(b"ping").await.unwrap();
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(&echo, b"ping");
}

/// Neither forwarded nor cut, although rounds of questions came by since it was made.
fn assert_held(stream: &TcpStream) {
    let silence = stream.try_read(&mut [0]);
    assert_eq!(silence.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

async fn assert_cut(stream: &mut TcpStream) {
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn connections_follow_the_healthy_instance_and_are_cut_when_it_changes() {
    let (a, b) = (Instance::start(local(1), 200).await, Instance::start(local(2), 503).await);
    let (_endpoint, _targets) = endpoint(local(100), &[&a, &b]).await;
    let (name, mut first) = connect(local(100)).await;
    assert_eq!(name, a.address);
    assert_open(&mut first).await;

    a.answers(503);
    assert_cut(&mut first).await;
    b.answers(200);

    let (name, mut second) = connect(local(100)).await;
    assert_eq!(name, b.address);
    assert_open(&mut second).await;
}

#[tokio::test]
async fn a_connection_waits_until_somebody_is_healthy() {
    let a = Instance::start(local(3), 503).await;
    let (_endpoint, targets) = endpoint(local(101), &[]).await;

    let (connected, ()) = tokio::join!(connect(local(101)), async {
        targets.send_replace(vec![a.address]);
        let early = TcpStream::connect((Ipv4Addr::from(local(101)), PORT)).await.unwrap();
        a.until_asked(ROUNDS).await;
        assert_held(&early);
        a.answers(200);
    });

    assert_eq!(connected.0, a.address);
}

#[tokio::test]
async fn two_healthy_instances_get_nobody() {
    let (a, b) = (Instance::start(local(4), 200).await, Instance::start(local(5), 503).await);
    let (_endpoint, _targets) = endpoint(local(102), &[&a, &b]).await;
    let (_, mut established) = connect(local(102)).await;

    b.answers(200);

    assert_cut(&mut established).await;
    let waiting = TcpStream::connect((Ipv4Addr::from(local(102)), PORT)).await.unwrap();
    a.until_asked(ROUNDS).await;
    assert_held(&waiting);
    a.answers(503);
    assert_eq!(connect(local(102)).await.0, b.address);
}

#[tokio::test]
async fn a_hanging_follower_delays_nobody_and_a_short_silence_of_the_leader_cuts_nobody() {
    let (a, b) = (Instance::start(local(6), 200).await, Instance::start(local(7), 0).await);
    let (_endpoint, _targets) = endpoint(local(103), &[&a, &b]).await;
    let (_, mut established) = connect(local(103)).await;
    let before = Instant::now();
    for _ in 0..10 {
        connect(local(103)).await;
    }
    assert!(before.elapsed() < 10 * health::ANSWER_TIMEOUT, "each of them waited for the follower");

    a.answers(0);
    let new = TcpStream::connect((Ipv4Addr::from(local(103)), PORT)).await.unwrap();
    // When the second question is asked, a whole round was unanswered.
    a.until_asked(2).await;
    assert_held(&new);
    assert_open(&mut established).await;
    a.answers(200);

    assert_eq!(connect(local(103)).await.0, a.address);
    assert_open(&mut established).await;
}

#[tokio::test]
async fn a_taken_address_is_named_and_a_stopped_endpoint_cuts_its_connections() {
    let a = Instance::start(local(8), 200).await;
    let (running, _targets) = endpoint(local(104), &[&a]).await;
    let (_, mut established) = connect(local(104)).await;
    let health = Health { port: HEALTH_PORT, path: "/v1/leader".to_owned() };
    let (_sender, targets) = watch::channel(Vec::new());
    let second = Endpoint::start(Ipv4Addr::from(local(104)), PORT, health, targets).await;
    assert!(format!("{:#}", second.err().unwrap()).contains("cannot be used, somebody may listen there"));

    running.stop().await;

    assert_cut(&mut established).await;
}

#[tokio::test]
async fn many_clients_that_come_at_once_are_served_at_once() {
    let a = Instance::start(local(9), 200).await;
    let (_endpoint, _targets) = endpoint(local(105), &[&a]).await;
    let before = Instant::now();

    let mut clients: JoinSet<_> = (0..400).map(|_| connect(local(105))).collect();

    while let Some(client) = clients.join_next().await {
        assert_eq!(client.unwrap().0, a.address);
    }
    assert!(before.elapsed() < PATIENCE / 2, "{:?}", before.elapsed());
}
