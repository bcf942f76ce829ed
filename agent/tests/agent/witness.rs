//! The third voter of a test's pair, by the rules that the broker follows too, over real TLS on an address of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::api::WITNESS_PORT;
use agent::quorum::{Answer, Ballot, Record, Release, Renewal, Voter};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::authority::authority;

/// A witness; gone when it is dropped.
pub(crate) struct Witness {
    pub(crate) address: String,
    voting: Voting,
    running: Mutex<Option<tokio::runtime::Runtime>>,
}

#[derive(Clone)]
struct Voting {
    voter: Arc<Mutex<Voter>>,
    begun: Instant,
}

impl Witness {
    pub(crate) fn start(address: &str) -> Witness {
        let voter = Voter::started(Record::default(), Duration::ZERO);
        let voting = Voting { voter: Arc::new(Mutex::new(voter)), begun: Instant::now() };
        let witness = Witness { address: address.into(), voting, running: Mutex::new(None) };
        witness.answer();
        witness
    }

    /// From now on it answers nobody.
    pub(crate) fn fall_silent(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.shutdown_background();
        }
    }

    /// Answer, again.
    pub(crate) fn answer(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router = Router::new()
            .route("/v1/voter/renew", post(renew))
            .route("/v1/voter/vote", post(vote))
            .route("/v1/voter/release", post(release))
            .with_state(self.voting.clone());
        let place: SocketAddr = format!("{}:{WITNESS_PORT}", self.address).parse().unwrap();
        let listener = TcpListener::bind(place).unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(keys()))).unwrap();
            server.serve(router.into_make_service()).await.unwrap();
        });
        *self.running.lock().unwrap() = Some(runtime);
    }

    pub(crate) fn record(&self) -> Record {
        self.voting.voter.lock().unwrap().record().clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.fall_silent();
    }
}

fn keys() -> ServerConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = authority().issue("mysql-broker");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(tls.ca.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(tls.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(tls.private_key.as_bytes()).unwrap();
    ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key).unwrap()
}

async fn renew(State(voting): State<Voting>, Json(renewal): Json<Renewal>) -> Json<Answer> {
    Json(voting.voter.lock().unwrap().renew(&renewal, voting.begun.elapsed()))
}

async fn vote(State(voting): State<Voting>, Json(ballot): Json<Ballot>) -> Json<Answer> {
    Json(voting.voter.lock().unwrap().vote(&ballot, voting.begun.elapsed()))
}

async fn release(State(voting): State<Voting>, Json(release): Json<Release>) -> Json<serde_json::Value> {
    voting.voter.lock().unwrap().release(&release, voting.begun.elapsed());
    Json(serde_json::json!({}))
}
