//! The agent of a simulated VM: the part of its API that a broker uses, on the VM's own address and port, over mutual TLS
//! with the deployment's keys. Only whoever has a certificate of the agents' authority is heard; the name in it is not
//! looked at. `agent/src/api.rs` is the contract.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::server::Role;
use super::{Kept, Machine, Owner, World};
use crate::http::play;

/// Where agents listen.
const PORT: u16 = 8008;

/// A listening agent.
pub(super) struct Agent {
    handle: Handle<SocketAddr>,
    serving: JoinHandle<()>,
}

/// Which VM it is on.
#[derive(Clone)]
struct Place {
    world: World,
    cid: String,
}

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

impl Agent {
    /// Listen from now on.
    pub(super) fn start(world: World, cid: String, vm: &Kept) -> Result<Self> {
        let address = SocketAddr::from((vm.address, PORT));
        let config = server_config(&vm.config()["properties"]["tls"]).context("property tls is not usable")?;
        let listener = TcpListener::bind(address)
            .with_context(|| format!("port {PORT} of {} cannot be used: end who listens there", vm.address))?;
        listener.set_nonblocking(true).context("listen without blocking")?;
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener).context("listen")?.handle(handle.clone());
        let server = server.acceptor(RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config)))).http1_only();
        let router = router(Place { world, cid });
        let serving = tokio::spawn(async move {
            if let Err(error) = server.serve(router.into_make_service()).await {
                tracing::warn!(%error, "a simulated agent stopped listening");
            }
        });
        Ok(Self { handle, serving })
    }

    /// Cut its connections, and return when its address is free.
    pub(super) async fn stop(self) {
        self.handle.shutdown();
        if let Err(error) = self.serving.await {
            tracing::warn!(%error, "a simulated agent broke off");
        }
    }
}

fn router(place: Place) -> Router {
    Router::new()
        .route("/v1/leader", get(leader))
        .route("/v1/status", get(status))
        .route("/v1/users/{name}", put(put_user).delete(delete_user))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "NotFound", "a simulated agent has no such path") })
        .layer(from_fn_with_state(place.clone(), disturb))
        .with_state(place)
}

/// Play the faults of the act `agent`.
async fn disturb(State(place): State<Place>, request: Request, next: Next) -> Response {
    let owner = place.with(|machine| Owner::of(&machine.kept.jobs));
    let Some(owner) = owner else { return gone().into_response() };
    let Some(fault) = place.world.faults.take(owner.point("agent")) else { return next.run(request).await };
    play(&fault, request, next).await
}

async fn leader(State(place): State<Place>) -> Answer {
    let leads = place.with(|machine| machine.server.role == Role::Leader).ok_or_else(gone)?;
    match leads {
        true => Ok(Json(json!({}))),
        false => Err(problem(StatusCode::SERVICE_UNAVAILABLE, "NotLeader", "this server is not the writable leader")),
    }
}

async fn status(State(place): State<Place>) -> Answer {
    place.with(|machine| Json(machine.server.status(&machine.kept))).ok_or_else(gone)
}

async fn put_user(State(place): State<Place>, Path(name): Path<String>, Json(_): Json<Value>) -> Answer {
    place.on_leader(|machine| json!({"created": machine.server.users.insert(name)}))
}

async fn delete_user(State(place): State<Place>, Path(name): Path<String>) -> Answer {
    place.on_leader(|machine| {
        machine.server.users.remove(&name);
        json!({})
    })
}

impl Place {
    /// None where the VM does not run any more.
    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.world.lock().get_mut(&self.cid).filter(|machine| machine.kept.is_running).map(act)
    }

    fn on_leader(&self, act: impl FnOnce(&mut Machine) -> Value) -> Answer {
        let done = self.with(|machine| {
            if machine.server.role != Role::Leader {
                let why = "this server is not the writable leader; ask the other one";
                return Err(problem(StatusCode::CONFLICT, "NotLeader", why));
            }
            let answer = act(machine);
            machine.save_server().map_err(|error| {
                problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal", &format!("keep the server: {error:#}"))
            })?;
            Ok(Json(answer))
        });
        done.ok_or_else(gone)?
    }
}

fn gone() -> (StatusCode, Json<Value>) {
    problem(StatusCode::SERVICE_UNAVAILABLE, "ServerUnavailable", "the server does not run")
}

fn problem(status: StatusCode, error: &str, description: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({"error": error, "description": description})))
}

fn server_config(tls: &Value) -> Result<ServerConfig> {
    let pem = |name: &str| tls[name].as_str().unwrap_or_default().as_bytes();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem("ca")) {
        roots.add(certificate.context("read tls.ca")?).context("use tls.ca")?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().context("use tls.ca")?;
    let chain = CertificateDer::pem_slice_iter(pem("certificate")).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(pem("private_key")).context("read tls.private_key")?;
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = builder.with_single_cert(chain.context("read tls.certificate")?, key);
    config.context("tls.certificate and tls.private_key do not fit")
}
