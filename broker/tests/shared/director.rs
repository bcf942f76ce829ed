//! A director by script: it takes deployments, works on each for a while, and remembers who sent what. A creation fails
//! in the end, so that no server is asked for; a deletion succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

/// How long it works on a task.
const WORK: Duration = Duration::from_millis(1500);

/// The director, until it is dropped.
pub(crate) struct Director {
    pub(crate) url: String,
    pub(crate) ca: String,
    state: Shared,
    serving: tokio::task::JoinHandle<()>,
}

type Shared = Arc<Mutex<World>>;

#[derive(Default)]
struct World {
    tasks: Vec<Task>,
    deployments: BTreeSet<String>,
}

/// A task, and who asked for it.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) context: String,
    pub(crate) client: String,
    pub(crate) description: String,
    deployment: String,
    started: Instant,
    is_cancelled: bool,
}

impl Task {
    fn state(&self) -> &'static str {
        match self.started.elapsed() < WORK {
            _ if self.is_cancelled => "cancelled",
            true => "processing",
            false if self.description == "create deployment" => "error",
            false => "done",
        }
    }

    fn listed(&self, id: usize) -> Value {
        json!({"id": id, "state": self.state(), "description": self.description, "context_id": self.context})
    }
}

impl Director {
    pub(crate) async fn start() -> Director {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let ca = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap().pem();
        let tls = RustlsConfig::from_pem(ca.clone().into(), key.serialize_pem().into()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let state = Shared::default();
        let router = Router::new()
            .route("/info", get(async || Json(json!({"name": "script", "version": "1", "user": "us"}))))
            .route("/deployments", post(deploy))
            .route("/deployments/{name}", get(look).delete(remove))
            .route("/tasks", get(list))
            .route("/tasks/{id}/output", get(async || "{\"error\":{\"code\":450002,\"message\":\"Timed out\"}}\n"))
            .route("/task/{id}", delete(cancel))
            .with_state(state.clone());
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Director { url: format!("https://{address}"), ca, state, serving }
    }

    /// Every task that was ever asked for.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        world(&self.state).tasks.clone()
    }

    pub(crate) fn deployments(&self) -> usize {
        world(&self.state).deployments.len()
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn world(state: &Shared) -> MutexGuard<'_, World> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn deploy(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let manifest: Value = serde_yaml::from_slice(&body).unwrap();
    let name = manifest["name"].as_str().unwrap().to_owned();
    world(&state).deployments.insert(name.clone());
    begin(&state, &headers, "create deployment".into(), name)
}

async fn remove(State(state): State<Shared>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    if !world(&state).deployments.contains(&name) {
        return absent();
    }
    begin(&state, &headers, format!("delete deployment {name}"), name)
}

fn begin(state: &Shared, headers: &HeaderMap, description: String, deployment: String) -> Response {
    let context = headers["x-bosh-context-id"].to_str().unwrap().to_owned();
    let encoded = headers["authorization"].to_str().unwrap().trim_start_matches("Basic ");
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    let client = String::from_utf8(decoded).unwrap().split(':').next().unwrap().to_owned();
    let mut world = world(state);
    let started = Instant::now();
    world.tasks.push(Task { context, client, description, deployment, started, is_cancelled: false });
    (StatusCode::FOUND, [(header::LOCATION, format!("/tasks/{}", world.tasks.len()))]).into_response()
}

async fn look(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    let mut world = world(&state);
    let is_removed = |task: &Task| task.deployment == name && task.description != "create deployment";
    if world.tasks.iter().any(|task| is_removed(task) && task.state() == "done") {
        world.deployments.remove(&name);
    }
    if world.deployments.contains(&name) { Json(json!({"manifest": ""})).into_response() } else { absent() }
}

async fn list(State(state): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Json<Vec<Value>> {
    let world = world(&state);
    let is_wanted = |task: &Task| match (query.get("context_id"), query.get("deployment")) {
        (Some(context), _) => task.context == *context,
        (None, Some(name)) => task.deployment == *name && task.state() == "processing",
        (None, None) => true,
    };
    Json(
        world
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| is_wanted(task))
            .map(|(at, task)| task.listed(at + 1))
            .collect(),
    )
}

async fn cancel(State(state): State<Shared>, Path(id): Path<usize>) -> StatusCode {
    world(&state).tasks[id - 1].is_cancelled = true;
    StatusCode::NO_CONTENT
}

fn absent() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"code": 70000, "description": "Deployment doesn't exist"}))).into_response()
}
