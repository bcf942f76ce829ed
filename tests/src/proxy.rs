//! A proxy between the broker and the director that can stop time: it holds a request before the director sees it, or
//! its answer before the broker sees it, until it is let go. So a broker can be killed at an exact point, and a director
//! can be made to hang on one deployment, without a hook in the product.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::watch;

use crate::director::{Director, client};
use crate::wait::until;

/// The largest body in either direction.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Headers that belong to one connection and are not passed on.
const HOP_HEADERS: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];

/// A request that went by.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The body.
    pub body: String,
}

impl Seen {
    /// The request without its ids, numbers and query: two requests of one shape are the same step.
    #[must_use]
    pub fn shape(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let words = path.split('/').map(|word| if word.chars().any(|c| c.is_ascii_digit()) { "*" } else { word });
        format!("{} {}", self.method, words.collect::<Vec<_>>().join("/"))
    }

    /// Does the request concern the deployment?
    #[must_use]
    pub fn concerns(&self, deployment: &str) -> bool {
        self.path.contains(deployment) || self.body.contains(deployment)
    }
}

/// On which side of the director a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The director does not see the request.
    Before,
    /// The director has answered, and the broker does not see it.
    After,
}

/// Which of the matching requests are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first one.
    First,
    /// All.
    All,
}

struct Rule {
    matches: Box<dyn Fn(&Seen) -> bool + Send + Sync>,
    side: Side,
    which: Which,
    claimed: AtomicBool,
    reached: AtomicBool,
    released: watch::Sender<bool>,
}

/// A hold on requests; it lasts until it is released or dropped.
pub struct Hold(Arc<Rule>);

impl Hold {
    /// Wait until a request is held.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn reached(&self, limit: Duration) -> Result<()> {
        until("a request is held", limit, || self.is_reached()).await
    }

    /// Has a request been held?
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.0.reached.load(Ordering::SeqCst)
    }

    /// Let everything go on.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.released.send_replace(true);
    }
}

struct Shared {
    target: String,
    http: reqwest::Client,
    rules: Mutex<Vec<Arc<Rule>>>,
    seen: Mutex<Vec<Seen>>,
}

/// The running proxy.
pub struct Proxy {
    /// Where it listens.
    pub url: String,
    /// The CA of its certificate.
    pub ca_pem: String,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Start a proxy in front of the director, on a thread of its own: tests come and go with their own runtimes.
    ///
    /// # Errors
    /// It cannot listen, or the keys cannot be made.
    pub async fn start(director: &Director) -> Result<Proxy> {
        let http = client(&director.ca_pem)?;
        let keys = Keys::make()?;
        let tls = RustlsConfig::from_pem(keys.certificate.into_bytes(), keys.private_key.into_bytes());
        let tls = tls.await.context("make the proxy's TLS configuration")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("bind the proxy")?;
        let url = format!("https://{}", listener.local_addr().context("read the proxy's address")?);
        listener.set_nonblocking(true).context("make the proxy's listener asynchronous")?;
        let shared = Shared { target: director.url.clone(), http, rules: Mutex::default(), seen: Mutex::default() };
        let shared = Arc::new(shared);
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
        let router = axum::Router::new().fallback(forward).with_state(shared.clone());
        std::thread::spawn(move || runtime.block_on(serve(listener, tls, router, stopped)));
        Ok(Proxy { url, ca_pem: keys.ca, shared, stop })
    }

    /// Hold requests that match.
    pub fn hold(&self, side: Side, which: Which, matches: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Hold {
        let matches = Box::new(matches);
        let released = watch::Sender::new(false);
        let rule =
            Rule { matches, side, which, claimed: AtomicBool::new(false), reached: AtomicBool::new(false), released };
        let rule = Arc::new(rule);
        lock(&self.shared.rules).push(rule.clone());
        Hold(rule)
    }

    /// Every request since the start.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn serve(
    listener: std::net::TcpListener,
    tls: RustlsConfig,
    router: axum::Router,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(server) = axum_server::from_tcp_rustls(listener, tls) else { return };
    tokio::select! {
        _ = server.serve(router.into_make_service()) => {}
        _ = stopped.changed() => {}
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match pass(&shared, request).await {
        Ok(response) => response,
        Err(cause) => {
            let mut response = Response::new(Body::from(format!("{cause:#}")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn pass(shared: &Shared, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_LIMIT).await.context("read the request")?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let seen = Seen { method: parts.method.to_string(), path, body: String::from_utf8_lossy(&body).into_owned() };
    lock(&shared.seen).push(seen.clone());
    let rule = shared.rule_for(&seen);
    wait_at(rule.as_deref(), Side::Before).await;
    let headers = without_hop_headers(&parts.headers);
    let url = format!("{}{}", shared.target, seen.path);
    let answer =
        shared.http.request(parts.method, url).headers(headers).body(body).send().await.context("ask the director")?;
    let status = answer.status();
    let headers = without_hop_headers(answer.headers());
    let bytes: Bytes = answer.bytes().await.context("read the director's answer")?;
    wait_at(rule.as_deref(), Side::After).await;
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

impl Shared {
    fn rule_for(&self, seen: &Seen) -> Option<Arc<Rule>> {
        let mut rules = lock(&self.rules);
        rules.retain(|rule| !*rule.released.borrow());
        rules.iter().find(|rule| (rule.matches)(seen) && rule.claim()).cloned()
    }
}

impl Rule {
    /// Is the request one that the rule holds?
    fn claim(&self) -> bool {
        let is_first = !self.claimed.swap(true, Ordering::SeqCst);
        is_first || self.which == Which::All
    }
}

async fn wait_at(rule: Option<&Rule>, side: Side) {
    let Some(rule) = rule.filter(|rule| rule.side == side) else { return };
    rule.reached.store(true, Ordering::SeqCst);
    let mut released = rule.released.subscribe();
    // The sender lives in the rule, so the only end is the release.
    let _ = released.wait_for(|released| *released).await;
}

fn without_hop_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_HEADERS {
        headers.remove(name);
    }
    headers
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keys {
    ca: String,
    certificate: String,
    private_key: String,
}

impl Keys {
    fn make() -> Result<Keys> {
        let mut authority = CertificateParams::new(Vec::new()).context("describe the proxy's CA")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().context("make the CA's key")?;
        let authority = CertifiedIssuer::self_signed(authority, key).context("sign the proxy's CA")?;
        let key = KeyPair::generate().context("make the proxy's key")?;
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).context("describe the proxy's certificate")?;
        let leaf = leaf.signed_by(&key, &authority).context("sign the proxy's certificate")?;
        Ok(Keys { ca: authority.pem(), certificate: leaf.pem(), private_key: key.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_step_have_one_shape() {
        let seen = |path: &str| Seen { method: "GET".into(), path: path.into(), body: String::new() };

        assert_eq!(seen("/tasks/17/output?type=event").shape(), "GET /tasks/*/output");
        assert_eq!(seen("/deployments/service-instance_0a-1/errands").shape(), "GET /deployments/*/errands");
    }
}
