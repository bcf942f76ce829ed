//! A director and its UAA as a test wants them: real HTTPS, answers by script, and a list of what was asked.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::Director;

pub(crate) const CLIENT: &str = "tandem";
pub(crate) const CLIENT_SECRET: &str = "s3cret-of-the-client";
/// Every token begins with it.
pub(crate) const TOKEN: &str = "t0ken";
const TASK: &str = "https://director/tasks/7";

/// A director, until it is dropped. It may be the UAA as well, of itself or of another one.
pub(crate) struct Foreign {
    pub(crate) url: String,
    pub(crate) ca: String,
    world: Shared,
    serving: tokio::task::JoinHandle<()>,
}

type Shared = Arc<Mutex<World>>;

/// What it is and what happened.
pub(crate) struct World {
    pub(crate) version: &'static str,
    /// Where its UAA is; it takes the client's secret itself where there is none.
    pub(crate) uaa_urls: Vec<String>,
    pub(crate) client_secret: &'static str,
    pub(crate) token_seconds: u64,
    /// How many tokens were granted; the newest is the good one.
    pub(crate) granted: usize,
    granted_at: Instant,
    pub(crate) is_revoked: bool,
    /// What the UAA answers first.
    pub(crate) uaa_answers: VecDeque<(u16, &'static str)>,
    /// What everybody is answered whom the director knows.
    pub(crate) denies: Option<(u16, &'static str)>,
    /// By path.
    pub(crate) documents: BTreeMap<&'static str, Value>,
    /// `GET /info`, in order.
    pub(crate) requests: Vec<String>,
    /// What came with a context, as `POST /deployments text/yaml CONTEXT`, in order.
    pub(crate) sent: Vec<String>,
    /// Those that the director did not know.
    pub(crate) unknown: usize,
}

impl Foreign {
    /// One that takes name and secret.
    pub(crate) async fn start() -> Foreign {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let ca = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap().pem();
        let tls = RustlsConfig::from_pem(ca.clone().into(), key.serialize_pem().into()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World::new()));
        let router = Router::new().fallback(handle).with_state(world.clone());
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Foreign { url, ca, world, serving }
    }

    /// One that has a UAA: itself.
    pub(crate) async fn with_uaa() -> Foreign {
        let foreign = Foreign::start().await;
        foreign.world().uaa_urls = vec![foreign.url.clone()];
        foreign
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Director {
        self.client_with(Value::Null)
    }

    /// A client with the property `uaa_ca`.
    pub(crate) fn client_with(&self, uaa_ca: Value) -> Director {
        let config = json!({
            "url": self.url, "ca": self.ca, "uaa_ca": uaa_ca, "client": CLIENT, "client_secret": CLIENT_SECRET,
        });
        Director::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    /// How often this was asked.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.world().requests.iter().filter(|asked| *asked == request).count()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl World {
    fn new() -> World {
        World {
            version: "282.1.0 (00000000)",
            uaa_urls: vec![],
            client_secret: CLIENT_SECRET,
            token_seconds: 3600,
            granted: 0,
            granted_at: Instant::now(),
            is_revoked: false,
            uaa_answers: VecDeque::new(),
            denies: None,
            documents: BTreeMap::from([("/tasks", json!([]))]),
            requests: vec![],
            sent: vec![],
            unknown: 0,
        }
    }

    fn is_known(&self, authorization: &str) -> bool {
        match self.uaa_urls.is_empty() {
            true => authorization == self.basic(),
            false => {
                let is_over = self.is_revoked || self.granted_at.elapsed() >= Duration::from_secs(self.token_seconds);
                authorization == format!("bearer {TOKEN}-{}", self.granted) && !is_over
            }
        }
    }

    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{}", self.client_secret)))
    }

    fn info(&self, authorization: &str) -> Value {
        let (kind, options) = match self.uaa_urls.first() {
            None => ("basic", json!({})),
            Some(first) => ("uaa", json!({"url": first, "urls": self.uaa_urls})),
        };
        let user = self.is_known(authorization).then_some(CLIENT);
        json!({
            "name": "foreign", "uuid": "deadbeef", "version": self.version, "user": user,
            "user_authentication": {"type": kind, "options": options},
        })
    }

    fn grant(&mut self, headers: &HeaderMap, body: &str) -> Response {
        if let Some((status, text)) = self.uaa_answers.pop_front() {
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        let is_form = headers[header::CONTENT_TYPE] == "application/x-www-form-urlencoded";
        let is_good = headers[header::AUTHORIZATION] == self.basic() && is_form;
        if !is_good || body != "grant_type=client_credentials" {
            let refusal = json!({"error": "unauthorized", "error_description": "Bad credentials"});
            return (StatusCode::UNAUTHORIZED, axum::Json(refusal)).into_response();
        }
        self.granted += 1;
        self.granted_at = Instant::now();
        self.is_revoked = false;
        let token = format!("{TOKEN}-{}", self.granted);
        let granted = json!({
            "access_token": token, "token_type": "bearer", "expires_in": self.token_seconds, "scope": "bosh.admin", "jti": "j",
        });
        axum::Json(granted).into_response()
    }

    fn answer(&mut self, method: &str, path: &str, authorization: &str) -> Response {
        if !self.is_known(authorization) {
            self.unknown += 1;
            return (StatusCode::UNAUTHORIZED, format!("Not authorized: '{path}'\n")).into_response();
        }
        if let Some((status, text)) = self.denies {
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        match (method, self.documents.get(path)) {
            ("POST", _) => (StatusCode::FOUND, [(header::LOCATION, TASK)]).into_response(),
            // As every director says.
            (_, Some(document)) => ([(header::CONTENT_TYPE, "text/html")], document.to_string()).into_response(),
            (_, None) => (StatusCode::NOT_FOUND, format!("Endpoint '{path}' not found.")).into_response(),
        }
    }
}

async fn handle(State(world): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let authorization = parts.headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
    let mut world = world.lock().unwrap();
    world.requests.push(format!("{method} {path}"));
    if let Some(context) = parts.headers.get("x-bosh-context-id") {
        let [kind, context] = [&parts.headers[header::CONTENT_TYPE], context].map(|value| value.to_str().unwrap());
        world.sent.push(format!("{method} {path} {kind} {context}"));
    }
    match (method, path) {
        ("GET", "/info") => world.info(authorization).to_string().into_response(),
        ("POST", "/oauth/token") => world.grant(&parts.headers, std::str::from_utf8(&body).unwrap()),
        _ => world.answer(method, path, authorization),
    }
}
