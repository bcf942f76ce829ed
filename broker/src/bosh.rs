//! A thin client of the BOSH director: one method for each request, no decisions. What a lost answer means is in
//! [`Error`]: only `Lost` leaves it open whether the director carried the request out.
//!
//! Redirects are never followed: a director answers a `POST` with a 302 to its task, and a client that follows it may
//! send the `POST` again. Only `GET`s are repeated, and what the director refused because of its authorization.

mod access;
mod deployments;
#[cfg(test)]
pub(crate) mod fixture;
mod inventory;
mod links;
mod tasks;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Context;
use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config;
use access::Access;

pub(crate) use access::Denied;
pub(crate) use deployments::{Instance, Target};
pub(crate) use inventory::Resource;
pub(crate) use tasks::{ErrandResult, Task};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A director behind nginx answers or gives up within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a `GET` is tried, and the first pause; the pause doubles.
const GET_TRIES: u32 = 4;
const GET_PAUSE: Duration = Duration::from_millis(100);
/// The longest document that is read; of a task's output, the last part of this length.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// Joins the director's tasks with an operation of ours. At most 64 characters.
const CONTEXT_HEADER: &str = "x-bosh-context-id";

/// The number of a task of the director. It grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(crate) struct TaskId(pub(crate) u64);

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A client of one director.
#[derive(Debug)]
pub(crate) struct Director {
    http: reqwest::Client,
    url: String,
    access: Access,
}

/// Why the director did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection was never made: nothing was carried out.
    #[error("cannot {act}: the director cannot be reached")]
    Unreachable {
        act: &'static str,
        #[source]
        cause: reqwest::Error,
    },
    /// There is nothing to authorize the request with, so it was not sent: nothing was carried out.
    #[error("cannot {act}: there is no authorization for it")]
    Denied {
        act: &'static str,
        #[source]
        cause: Denied,
    },
    /// The request may have been carried out.
    #[error("cannot {act}: the director's answer was lost")]
    Lost {
        act: &'static str,
        #[source]
        cause: reqwest::Error,
    },
    /// The director says no: nothing was carried out.
    #[error("cannot {act}: the director answers {status}: {description} (code {code})")]
    Refused { act: &'static str, status: StatusCode, code: u64, description: String },
    /// The answer is not one of a director; it may have carried the request out.
    #[error("cannot {act}: the director's answer is not understood: {why}")]
    Garbled { act: &'static str, why: String },
}

impl Error {
    /// Nothing was carried out, for certain.
    pub(crate) fn is_certain(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Denied { .. } => true,
            // 5xx comes from a proxy or a crash half-way; 4xx from a director that looked and declined.
            Error::Refused { status, .. } => status.is_client_error(),
            Error::Lost { .. } | Error::Garbled { .. } => false,
        }
    }

    /// The same request would get the same answer. Wrong credentials are not of this kind: an operator mends them.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Error::Refused { status, .. } => {
                status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 429)
            }
            Error::Unreachable { .. } | Error::Denied { .. } | Error::Lost { .. } | Error::Garbled { .. } => false,
        }
    }

    /// The director does not take the authorization. A refusal of an act to somebody whom it knows has the status of this one,
    /// and a code.
    fn is_of_authorization(&self) -> bool {
        matches!(self, Error::Refused { status: StatusCode::UNAUTHORIZED, code: 0, .. })
    }
}

/// The body of a director's error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: u64,
    description: String,
}

/// What a task has written.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// Its beginning is missing.
    is_cut: bool,
}

/// Who the director is, and who it thinks that we are.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) user: Option<String>,
}

impl Director {
    /// A client of the director of the configuration.
    pub(crate) fn new(config: &config::Director) -> anyhow::Result<Director> {
        let http = client(&config.ca, "director.ca")?;
        let uaa = match &config.uaa_ca {
            Some(ca) => client(ca, "director.uaa_ca")?,
            None => http.clone(),
        };
        let url = config.url.trim_end_matches('/').to_owned();
        let access = Access::new(http.clone(), uaa, &url, config);
        Ok(Director { http, url, access })
    }

    /// Who is there?
    pub(crate) async fn info(&self) -> Result<Info, Error> {
        self.get("ask who the director is", "/info", &[]).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// One document.
    async fn get<T: DeserializeOwned>(
        &self,
        act: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        document(act, self.get_response(act, path, query).await?).await
    }

    async fn get_response(&self, act: &'static str, path: &str, query: &[(&str, &str)]) -> Result<Response, Error> {
        let mut pause = GET_PAUSE;
        for _ in 1..GET_TRIES {
            match self.get_once(act, path, query).await {
                Err(error) if is_worth_another_try(&error) => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            pause *= 2;
        }
        self.get_once(act, path, query).await
    }

    async fn get_once(&self, act: &'static str, path: &str, query: &[(&str, &str)]) -> Result<Response, Error> {
        let response = self.send(act, self.request(Method::GET, path).query(query)).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(act, response).await) }
    }

    /// Send once what makes a task; the answer is the task's number.
    async fn submit(&self, act: &'static str, context: &str, request: RequestBuilder) -> Result<TaskId, Error> {
        let response = self.send(act, request.header(CONTEXT_HEADER, context)).await?;
        if !response.status().is_redirection() {
            return Err(refusal(act, response).await);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let number = location.rsplit('/').next().and_then(|number| number.parse().ok());
        number.map(TaskId).ok_or_else(|| Error::Garbled { act, why: format!("no task in Location `{location}`") })
    }

    /// Send with authorization; a second time only where the director did not take the first one, so that nothing was carried
    /// out, and there is another one to be had.
    async fn send(&self, act: &'static str, request: RequestBuilder) -> Result<Response, Error> {
        let denied = |cause| Error::Denied { act, cause };
        let first = self.access.authorization().await.map_err(denied)?;
        let again = request.try_clone();
        let response = send(act, request.header(AUTHORIZATION, &first)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let refused = refusal(act, response).await;
        let Some(again) = again.filter(|_| refused.is_of_authorization()) else { return Err(refused) };
        match self.access.instead_of(&first).await.map_err(denied)? {
            second if second == first => Err(refused),
            second => send(act, again.header(AUTHORIZATION, second)).await,
        }
    }
}

/// A client that trusts these authorities only.
fn client(ca: &str, property: &str) -> anyhow::Result<reqwest::Client> {
    let ca = Certificate::from_pem_bundle(ca.as_bytes()).with_context(|| format!("read property `{property}`"))?;
    anyhow::ensure!(!ca.is_empty(), "property `{property}` holds no certificate in PEM form");
    reqwest::Client::builder()
        .tls_certs_only(ca)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(4)
        .tcp_nodelay(true)
        .build()
        .context("prepare the client of the director")
}

async fn send(act: &'static str, request: RequestBuilder) -> Result<Response, Error> {
    request.send().await.map_err(|cause| match cause.is_connect() {
        true => Error::Unreachable { act, cause },
        false => Error::Lost { act, cause },
    })
}

fn is_worth_another_try(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused { status, .. } => matches!(status.as_u16(), 502..=504),
        Error::Denied { .. } | Error::Lost { .. } | Error::Garbled { .. } => false,
    }
}

/// What a director says when it says no. A body that is not its JSON (401 is plain text) is the description itself.
async fn refusal(act: &'static str, response: Response) -> Error {
    let status = response.status();
    let body = match whole(act, response).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    let Refusal { code, description } = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
        code: 0,
        description: String::from_utf8_lossy(&body).chars().take(200).collect(),
    });
    Error::Refused { act, status, code, description }
}

/// One document. Nearly every answer of a director claims to be text/html: look at the content only.
async fn document<T: DeserializeOwned>(act: &'static str, response: Response) -> Result<T, Error> {
    let body = whole(act, response).await?;
    serde_json::from_slice(&body).map_err(|cause| Error::Garbled { act, why: cause.to_string() })
}

/// The whole body, which must not be longer than [`BODY_LIMIT`].
async fn whole(act: &'static str, mut response: Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|cause| Error::Lost { act, cause })? {
        body.extend_from_slice(&bytes);
        if body.len() > BODY_LIMIT {
            return Err(Error::Garbled { act, why: format!("the document is longer than {BODY_LIMIT} bytes") });
        }
    }
    Ok(body)
}

/// The end of the body, at least its last [`BODY_LIMIT`] bytes.
async fn tail(act: &'static str, mut response: Response) -> Result<Output, Error> {
    let mut output = Output::default();
    while let Some(chunk) = response.chunk().await.map_err(|cause| Error::Lost { act, cause })? {
        output.bytes.extend_from_slice(&chunk);
        if output.bytes.len() > 2 * BODY_LIMIT {
            output.bytes.drain(..output.bytes.len() - BODY_LIMIT);
            output.is_cut = true;
        }
    }
    Ok(output)
}
