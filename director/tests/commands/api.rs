//! Requests as the `bosh` CLI sends them: one TLS connection each, no redirect followed, and the loop in which it waits for
//! a task.

mod credentials;
mod fields;

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Certificate, Client, Method, RequestBuilder, Url};
use serde_json::{Value, json};

use crate::lab::Lab;
use credentials::Credentials;
pub(crate) use fields::{FULL, column, has_keys, keys};

const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const NEAR: Pace = Pace { pause: Duration::from_millis(20), task_limit: Duration::from_secs(60) };
/// The CLI's pause, and a patience that is enough to compile packages.
const FAR: Pace = Pace { pause: Duration::from_millis(500), task_limit: Duration::from_hours(2) };
/// What BOSH writes on almost every answer.
pub(crate) const HTML: &str = "text/html;charset=utf-8";

/// A director and how we show who we are.
pub(crate) struct Api {
    http: Client,
    url: String,
    credentials: Credentials,
    pace: Pace,
}

/// How a task is waited for.
#[derive(Clone, Copy)]
struct Pace {
    pause: Duration,
    task_limit: Duration,
}

pub(crate) enum Body<'a> {
    Empty,
    /// Also an empty one has its type.
    Yaml(&'a str),
    Json(Value),
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// A task that has ended.
pub(crate) struct Ended {
    pub(crate) id: u64,
    /// What `GET /tasks/N` says.
    pub(crate) record: Value,
    pub(crate) events: Vec<Value>,
    /// The result output.
    pub(crate) result: String,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: impl reqwest::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of an answer with this status, which says of itself what BOSH says.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!((self.status, self.header(CONTENT_TYPE)), (status, HTML), "{}", self.text());
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// A refusal with this status and code.
    pub(crate) fn refusal(&self, status: u16, code: u32) -> String {
        let refusal = self.json(status);
        assert_eq!((keys(&refusal), &refusal["code"]), (vec!["code", "description"], &json!(code)), "{refusal}");
        refusal["description"].as_str().unwrap().to_owned()
    }

    /// The JSON of any director: BOSH says of some answers that they are JSON, and of most that they are HTML.
    pub(crate) fn shown(&self) -> Value {
        let kind = self.header(CONTENT_TYPE);
        assert!(
            self.status == 200 && [HTML, "application/json"].contains(&kind),
            "{} {kind} {}",
            self.status,
            self.text()
        );
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// 401 also means that somebody is known and may not do it; that is JSON.
    fn is_for_strangers(&self) -> bool {
        self.status == 401 && self.bytes.starts_with(b"Not authorized")
    }

    pub(crate) fn is_empty_with(&self, status: u16) {
        assert_eq!((self.status, self.text()), (status, ""));
    }
}

impl Ended {
    pub(crate) fn state(&self) -> &str {
        self.record["state"].as_str().unwrap()
    }

    pub(crate) fn done(self) -> Self {
        assert_eq!(self.state(), "done", "{} {:?}", self.record, self.events);
        self
    }

    /// The code and the sentence of its last event.
    pub(crate) fn error(&self) -> (u64, &str) {
        assert_eq!(self.state(), "error", "{}", self.record);
        let error = &self.events.last().unwrap()["error"];
        (error["code"].as_u64().unwrap(), error["message"].as_str().unwrap())
    }

    /// `STAGE: TASK` of everything that was finished.
    pub(crate) fn finished(&self) -> Vec<String> {
        let finished = self.events.iter().filter(|event| event["state"] == "finished");
        finished.map(|event| format!("{}: {}", event["stage"], event["task"]).replace('"', "")).collect()
    }
}

impl Api {
    pub(crate) fn anonymous(lab: &Lab) -> Self {
        let ca = std::fs::read(lab.directory().join("state/tls/ca.pem")).unwrap();
        Self::at(&lab.url, &ca).near()
    }

    pub(crate) fn of(lab: &Lab) -> Self {
        Self::anonymous(lab).with("Basic YWRtaW46c2VjcmV0")
    }

    /// Any director: without credentials, and with patience. The authority signs its certificate, and its UAA's.
    pub(crate) fn at(url: &str, ca: &[u8]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(REQUEST_LIMIT)
            .tls_certs_only(Certificate::from_pem_bundle(ca).expect("certificates in PEM"));
        let http = http.build().unwrap();
        Self { http, url: url.to_owned(), credentials: Credentials::Nobody, pace: FAR }
    }

    /// It is on this machine: it answers at once.
    pub(crate) fn near(self) -> Self {
        Self { pace: NEAR, ..self }
    }

    pub(crate) fn with(self, authorization: &str) -> Self {
        Self { credentials: Credentials::Fixed(authorization.to_owned()), ..self }
    }

    /// As a client of this UAA. `basic` is its name and secret.
    pub(crate) fn with_client(self, uaa: &str, basic: &str) -> Self {
        Self { credentials: Credentials::client(uaa, basic), ..self }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Body::Empty).await
    }

    pub(crate) async fn put(&self, path: &str, body: Body<'_>) -> Answer {
        self.send(Method::PUT, path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Body<'_>) -> Answer {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::Empty).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Body<'_>) -> Answer {
        let request = self.request(method, path);
        self.exchange(match body {
            Body::Empty => request,
            Body::Yaml(text) => request.header(CONTENT_TYPE, "text/yaml").body(text.to_owned()),
            Body::Json(value) => request.header(CONTENT_TYPE, "application/json").body(value.to_string()),
        })
        .await
    }

    /// A deploy that names this context.
    pub(crate) async fn deploy(&self, path: &str, context_id: &str, manifest: &str) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "text/yaml");
        self.exchange(request.header("x-bosh-context-id", context_id).body(manifest.to_owned())).await
    }

    /// A form, as it is sent to a UAA.
    pub(crate) async fn form(&self, path: &str, form: &str) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.exchange(request.body(form.to_owned())).await
    }

    /// The part of an output from this byte on.
    pub(crate) async fn output_from(&self, task: u64, kind: &str, from: usize) -> Answer {
        let request = self.request(Method::GET, &format!("/tasks/{task}/output?type={kind}"));
        self.exchange(request.header(RANGE, format!("bytes={from}-"))).await
    }

    /// WAIT: follow the redirect, then ask for the state and for the events that are new, until it has ended.
    pub(crate) async fn wait(&self, redirect: Answer) -> Ended {
        self.follow(task_of(&redirect)).await
    }

    pub(crate) async fn follow(&self, id: u64) -> Ended {
        let (mut states, mut events, deadline) = (Vec::new(), String::new(), Instant::now() + self.pace.task_limit);
        loop {
            let record = self.record(id).await;
            events += &self.more_events(id, events.len()).await;
            states.push(record["state"].as_str().unwrap().to_owned());
            states.dedup();
            if !["queued", "processing", "cancelling"].contains(&states.last().unwrap().as_str()) {
                assert!(is_course(&states), "{states:?}");
                let result = self.get(&format!("/tasks/{id}/output?type=result")).await.text().to_owned();
                let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                return Ended { id, record, events, result };
            }
            assert!(Instant::now() < deadline, "{record} {events}");
            self.pause().await;
        }
    }

    /// What `GET /tasks/N` says.
    pub(crate) async fn record(&self, id: u64) -> Value {
        self.get(&format!("/tasks/{id}")).await.shown()
    }

    /// Between two questions.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(self.pace.pause).await;
    }

    /// The events from this byte on.
    async fn more_events(&self, id: u64, from: usize) -> String {
        let more = self.output_from(id, "event", from).await;
        match more.status {
            206 => {
                let start = format!("bytes {from}-{}/", from + more.bytes.len() - 1);
                assert!(more.header(CONTENT_RANGE).starts_with(&start), "{}", more.header(CONTENT_RANGE));
                more.text().to_owned()
            }
            // Nothing new.
            416 => {
                assert_eq!(more.header(CONTENT_RANGE), format!("bytes */{from}"));
                String::new()
            }
            // Nothing at all.
            200 | 204 => {
                assert_eq!((from, more.text()), (0, ""));
                String::new()
            }
            other => panic!("{other}: {}", more.text()),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// With our credentials. A client whose token is good no more asks for another one, once.
    async fn exchange(&self, request: RequestBuilder) -> Answer {
        let again = request.try_clone().expect("no body is a stream");
        let first = send(self.shown_to(request).await).await;
        if !first.is_for_strangers() || !self.credentials.forget() {
            return first;
        }
        send(self.shown_to(again).await).await
    }

    async fn shown_to(&self, request: RequestBuilder) -> RequestBuilder {
        match self.credentials.authorization(&self.http).await {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }
}

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
}

/// The number of the task that a redirect leads to. Its address is absolute; the CLI keeps to the host that it knows.
pub(crate) fn task_of(redirect: &Answer) -> u64 {
    assert_eq!(redirect.status, 302, "{}", redirect.text());
    let location = Url::parse(redirect.header(LOCATION)).expect("an absolute address");
    assert_eq!(location.scheme(), "https", "{location}");
    location.path().strip_prefix("/tasks/").expect("a task").parse().unwrap()
}

/// Whether a task can have these states one after the other.
fn is_course(states: &[String]) -> bool {
    let rank = |state: &String| match state.as_str() {
        "queued" => Some(0),
        "processing" => Some(1),
        "cancelling" => Some(2),
        "done" | "error" | "cancelled" | "timeout" => Some(3),
        _ => None,
    };
    states.iter().all(|state| rank(state).is_some())
        && states.is_sorted_by(|earlier, later| rank(earlier) < rank(later))
}
