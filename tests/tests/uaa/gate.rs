//! A gate before a director: a UAA that grants tokens, and the director's own address, which takes nothing else. Whoever has
//! a good token is passed on as the director's own user. Tokens wear out, and everything goes wrong on demand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertificateParams, KeyPair};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tests::Stack;

pub(crate) const CLIENT: &str = "tandem";
pub(crate) const CLIENT_SECRET: &str = "s3cret-of-the-client";
/// Every token begins with it.
pub(crate) const TOKEN: &str = "t0ken";
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Headers that belong to one connection, or to whoever was before the gate.
const OWN_HEADERS: [header::HeaderName; 5] =
    [header::AUTHORIZATION, header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TRANSFER_ENCODING];

/// The gate, until it is dropped.
pub(crate) struct Gate {
    pub(crate) url: String,
    pub(crate) ca: String,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    http: reqwest::Client,
    director: String,
    user: String,
    password: String,
    world: Mutex<World>,
}

/// What it does, and what it did.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// A token is good for so many requests; for all where it is none.
    pub(crate) requests_per_token: Option<u64>,
    /// What the UAA answers instead of a token.
    pub(crate) uaa_status: Option<u16>,
    /// Good tokens are not enough.
    pub(crate) denies: bool,
    pub(crate) granted: u64,
    /// Requests with the newest token.
    used: u64,
    /// Requests without a good token.
    pub(crate) refused: u64,
    /// Requests that good tokens were not enough for.
    pub(crate) denied: u64,
}

impl Gate {
    pub(crate) async fn before(stack: &Stack) -> Result<Gate> {
        let key = KeyPair::generate()?;
        let ca = CertificateParams::new(vec!["127.0.0.1".into()])?.self_signed(&key)?.pem();
        let tls = RustlsConfig::from_pem(ca.clone().into(), key.serialize_pem().into()).await?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("https://{}", listener.local_addr()?);
        let authority = reqwest::Certificate::from_pem(stack.director.ca_pem.as_bytes())?;
        let http =
            reqwest::Client::builder().tls_certs_only([authority]).no_proxy().redirect(Policy::none()).build()?;
        let password = std::fs::read_to_string(&stack.director.secret_path).context("read the director's password")?;
        let shared = Arc::new(Shared {
            http,
            director: stack.director.url.clone(),
            user: stack.director.client.clone(),
            password: password.trim().to_owned(),
            world: Mutex::default(),
        });
        let router = Router::new().fallback(handle).with_state(shared.clone());
        let server = axum_server::from_tcp_rustls(listener, tls)?;
        let serving = tokio::spawn(async move {
            // It ends when the gate does.
            let _ = server.serve(router.into_make_service()).await;
        });
        Ok(Gate { url, ca, shared, serving })
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, parts: Parts, body: Bytes) -> Result<Response> {
        let url = format!("{}{}", self.director, parts.uri);
        let headers = without_own(&parts.headers);
        let request = self.http.request(parts.method, url).headers(headers).body(body);
        let answer = request.basic_auth(&self.user, Some(&self.password)).send().await.context("ask the director")?;
        let (status, headers) = (answer.status(), without_own(answer.headers()));
        let body = answer.bytes().await.context("read the director's answer")?;
        Ok((status, headers, Body::from(body)).into_response())
    }
}

impl World {
    fn grant(&mut self, is_good: bool) -> Response {
        if let Some(status) = self.uaa_status.and_then(|status| StatusCode::from_u16(status).ok()) {
            return (status, "<html>the UAA is away</html>").into_response();
        }
        if !is_good {
            let refusal = json!({"error": "unauthorized", "error_description": "Bad credentials"});
            return (StatusCode::UNAUTHORIZED, Json(refusal)).into_response();
        }
        (self.granted, self.used) = (self.granted + 1, 0);
        let token = format!("{TOKEN}-{}", self.granted);
        Json(json!({"access_token": token, "token_type": "bearer", "expires_in": 3600, "jti": "j"})).into_response()
    }

    fn is_good(&self, authorization: &str) -> bool {
        let is_worn_out = self.requests_per_token.is_some_and(|most| self.used >= most);
        authorization == format!("bearer {TOKEN}-{}", self.granted) && !is_worn_out
    }

    /// What somebody is answered who may not pass.
    fn check(&mut self, authorization: &str, path: &str) -> Option<Response> {
        if !self.is_good(authorization) {
            self.refused += 1;
            return Some((StatusCode::UNAUTHORIZED, format!("Not authorized: '{path}'\n")).into_response());
        }
        self.used += 1;
        self.denies.then(|| {
            self.denied += 1;
            let refusal = json!({"code": 600_000, "description": "Require one of the scopes: bosh.admin"});
            (StatusCode::UNAUTHORIZED, refusal.to_string()).into_response()
        })
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match answer(&shared, request).await {
        Ok(response) => response,
        Err(cause) => (StatusCode::BAD_GATEWAY, format!("{cause:#}")).into_response(),
    }
}

async fn answer(shared: &Shared, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_LIMIT).await.context("read the request")?;
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let authorization = authorization.unwrap_or_default().to_owned();
    match parts.uri.path() {
        "/oauth/token" => {
            let expected = shared.http.get(&shared.director).basic_auth(CLIENT, Some(CLIENT_SECRET)).build()?;
            let is_known = parts.headers.get(header::AUTHORIZATION) == expected.headers().get(header::AUTHORIZATION);
            Ok(shared.world().grant(is_known && body == "grant_type=client_credentials"))
        }
        "/info" => {
            let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).context("read the host")?;
            let is_known = shared.world().is_good(&authorization);
            Ok(Json(info(&format!("https://{host}"), is_known)).into_response())
        }
        path => {
            let refused = shared.world().check(&authorization, path);
            match refused {
                Some(refused) => Ok(refused),
                None => shared.pass(parts, body).await,
            }
        }
    }
}

fn info(url: &str, is_known: bool) -> Value {
    json!({
        "name": "gate", "uuid": "deadbeef", "version": "282.1.0 (00000000)", "user": is_known.then_some(CLIENT),
        "user_authentication": {"type": "uaa", "options": {"url": url, "urls": [url]}},
    })
}

fn without_own(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OWN_HEADERS {
        headers.remove(name);
    }
    headers
}
