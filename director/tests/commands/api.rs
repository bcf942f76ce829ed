//! Requests as the `bosh` CLI sends them: one TLS connection each, no redirect followed, and the loop in which it waits for
//! a task.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::lab::Lab;

const TASK_LIMIT: Duration = Duration::from_secs(60);
/// What BOSH writes on almost every answer.
pub(crate) const HTML: &str = "text/html;charset=utf-8";

/// A director and how we show who we are.
pub(crate) struct Api {
    http: Client,
    url: String,
    authorization: Option<String>,
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
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = std::fs::read(lab.directory().join("state/tls/ca.pem")).unwrap();
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(TASK_LIMIT)
            .tls_certs_only([Certificate::from_pem(&ca).unwrap()]);
        Self { http: http.build().unwrap(), url: lab.url.clone(), authorization: None }
    }

    pub(crate) fn of(lab: &Lab) -> Self {
        Self::anonymous(lab).with("Basic YWRtaW46c2VjcmV0")
    }

    pub(crate) fn with(self, authorization: &str) -> Self {
        Self { authorization: Some(authorization.to_owned()), ..self }
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
        answer(match body {
            Body::Empty => request,
            Body::Yaml(text) => request.header(CONTENT_TYPE, "text/yaml").body(text.to_owned()),
            Body::Json(value) => request.header(CONTENT_TYPE, "application/json").body(value.to_string()),
        })
        .await
    }

    /// A deploy that names this context.
    pub(crate) async fn with_context(&self, id: &str) -> Answer {
        let request = self.request(Method::POST, "/deployments").header(CONTENT_TYPE, "text/yaml");
        answer(request.header("x-bosh-context-id", id).body("name: never")).await
    }

    /// A form, as it is sent to a UAA.
    pub(crate) async fn form(&self, path: &str, form: &str) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        answer(request.body(form.to_owned())).await
    }

    /// WAIT: follow the redirect, then ask for the state and for the events that are new, until it has ended.
    pub(crate) async fn wait(&self, redirect: Answer) -> Ended {
        assert_eq!(redirect.status, 302, "{}", redirect.text());
        let location = redirect.header(LOCATION);
        let path = location.strip_prefix(&self.url).expect("an absolute address");
        let id: u64 = path.strip_prefix("/tasks/").unwrap().parse().unwrap();
        let (mut events, deadline) = (String::new(), Instant::now() + TASK_LIMIT);
        loop {
            let record = self.get(path).await.json(200);
            events += &self.more_of(path, events.len()).await;
            if !["queued", "processing", "cancelling"].contains(&record["state"].as_str().unwrap()) {
                let result = self.get(&format!("{path}/output?type=result")).await.text().to_owned();
                let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                return Ended { id, record, events, result };
            }
            assert!(Instant::now() < deadline, "{record} {events}");
        }
    }

    /// The events from this byte on.
    async fn more_of(&self, path: &str, from: usize) -> String {
        let request = self.request(Method::GET, &format!("{path}/output?type=event"));
        let more = answer(request.header(RANGE, format!("bytes={from}-"))).await;
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
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }
}

async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
}

/// The names of an object's fields, sorted.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// One field of every row.
pub(crate) fn column<'a>(rows: &'a Value, field: &str) -> Vec<&'a str> {
    rows.as_array().expect("a list").iter().map(|row| row[field].as_str().unwrap_or_default()).collect()
}
