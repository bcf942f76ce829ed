//! A client of one agent, over mutual TLS. The agent is known by the name in its certificate, not by its address, so an
//! address that was given to another VM answers nobody.

mod voter;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{Certificate, ClientBuilder, Identity, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::api::{
    Command, Event, Follow, Inspection, PORT, Position, Problem, Promotion, Status, Succession, Successor, TURN_LIMIT,
    Ticket, User, UserMade, certificate_name,
};
use crate::config::Tls;

pub use voter::VoterClient;

/// Time for an agent to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for an answer that needs no waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two lines of a command: agents send one at least every few seconds.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest line that an agent may send.
const LINE_LIMIT: usize = 64 * 1024;

/// A client of one agent.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    server: String,
}

/// Why an agent or the witness did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keys of this end are not usable.
    #[error("the TLS keys are not usable")]
    Keys(#[source] reqwest::Error),
    /// Nobody answered, or not in time: whether the request was carried out is not known.
    #[error("the {server} does not answer")]
    Unreachable {
        /// Who should, and where.
        server: String,
        /// What happened.
        #[source]
        cause: Option<reqwest::Error>,
    },
    /// The answer is that it will not.
    #[error("{}", .0.description)]
    Problem(Problem),
    /// A command was refused: nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A command failed on the way.
    #[error("{0}")]
    Failed(String),
    /// The answer is not one of an agent or a witness.
    #[error("the {0} gave an answer that is not understood")]
    Garbled(String),
}

impl Error {
    /// The agent will never do what it was asked, whatever becomes of its server: the request itself cannot be met.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        matches!(self, Error::Problem(problem) if ["BadRequest", "Taken", "Refused"].contains(&problem.error.as_str()))
    }

    /// The agent answers, and its server does not run.
    #[must_use]
    pub fn is_of_stopped_server(&self) -> bool {
        matches!(self, Error::Problem(problem) if problem.error == "ServerUnavailable")
    }

    /// The agent answers; it has no status because it is at work, on the start of its server, say.
    #[must_use]
    pub fn is_of_busy_agent(&self) -> bool {
        matches!(self, Error::Problem(problem) if problem.error == "Busy")
    }

    /// The agent answers, and its server runs and does not.
    #[must_use]
    pub fn is_of_hung_server(&self) -> bool {
        matches!(self, Error::Problem(problem) if problem.error == "ServerSilent")
    }
}

impl Client {
    /// A client of the agent at `address` in `deployment`.
    ///
    /// # Errors
    /// The keys are not usable.
    pub fn new(address: IpAddr, deployment: &str, tls: &Tls) -> Result<Client, Error> {
        let name = certificate_name(deployment);
        let http = authenticated(tls)?
            .resolve(&name, SocketAddr::new(address, PORT))
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(Error::Keys)?;
        Ok(Client { http, base: format!("https://{name}:{PORT}"), server: format!("agent at {address}:{PORT}") })
    }

    /// Ask for the status.
    ///
    /// # Errors
    /// The agent does not answer, or its server does not.
    pub async fn status(&self) -> Result<Status, Error> {
        self.json(self.http.get(self.url("/v1/status"))).await
    }

    /// Ask for the status, where the server says it within `limit`.
    ///
    /// # Errors
    /// As for [`Client::status`]; a server that runs and takes longer is the problem `ServerSilent`.
    pub async fn status_within(&self, limit: Duration) -> Result<Status, Error> {
        self.json(self.http.get(self.url(&format!("/v1/status?within_ms={}", limit.as_millis())))).await
    }

    /// Ask for the status of both servers and the verdict on them.
    ///
    /// # Errors
    /// The agent does not answer, or its server does not.
    pub async fn inspection(&self) -> Result<Inspection, Error> {
        self.json(self.http.get(self.url("/v1/inspection"))).await
    }

    /// Run a command and hand every line of progress to `progress`.
    ///
    /// # Errors
    /// The command was refused or failed; or the connection broke, and the command may still go on.
    pub async fn command(&self, command: Command, progress: impl FnMut(&str)) -> Result<(), Error> {
        let request = self.http.post(self.url(&format!("/v1/commands/{}", command.name())));
        self.events(request, progress).await
    }

    /// Have a command say what it would do.
    ///
    /// # Errors
    /// The command would be refused; or the connection broke.
    pub async fn rehearse(&self, command: Command, progress: impl FnMut(&str)) -> Result<(), Error> {
        let request = self.http.post(self.url(&format!("/v1/commands/{}?dry_run=true", command.name())));
        self.events(request, progress).await
    }

    /// Have this leader turn read-only and lay its leadership down.
    ///
    /// # Errors
    /// As for a command.
    pub async fn yield_leadership(&self, progress: impl FnMut(&str)) -> Result<(), Error> {
        self.events(self.http.post(self.url("/v1/steps/yield")), progress).await
    }

    /// Have this server replicate from the leader.
    ///
    /// # Errors
    /// As for a command.
    pub async fn follow(&self, follow: &Follow, progress: impl FnMut(&str)) -> Result<(), Error> {
        self.events(self.http.post(self.url("/v1/steps/follow")).json(follow), progress).await
    }

    /// Have this server become writable.
    ///
    /// # Errors
    /// As for a command.
    pub async fn lead(&self, progress: impl FnMut(&str)) -> Result<(), Error> {
        self.events(self.http.post(self.url("/v1/steps/lead")), progress).await
    }

    /// Wait until this server has received everything of a position.
    ///
    /// # Errors
    /// As for a command.
    pub async fn receive(&self, position: &Position, progress: impl FnMut(&str)) -> Result<(), Error> {
        self.events(self.http.post(self.url("/v1/steps/receive")).json(position), progress).await
    }

    /// Wait until this follower has applied a position and get the right to promote it.
    ///
    /// # Errors
    /// It is not there in time, or nobody answers.
    pub async fn prepare_promotion(&self, position: &Position) -> Result<Ticket, Error> {
        self.json(self.http.post(self.url("/v1/steps/prepare-promotion")).json(position)).await
    }

    /// Ask this follower to take the place of the caller's server, which has died.
    ///
    /// # Errors
    /// It is not fit, or nobody answers.
    pub async fn succeed(&self, succession: &Succession) -> Result<Successor, Error> {
        self.json(self.http.post(self.url("/v1/steps/succeed")).json(succession)).await
    }

    /// Promote this follower. The caller has made the old leader read-only.
    ///
    /// # Errors
    /// It was not promoted ([`Error::Problem`]), or nobody answers and it may have been.
    pub async fn promote(&self, promotion: &Promotion) -> Result<(), Error> {
        let request = self.http.post(self.url("/v1/steps/promote")).json(promotion);
        self.json::<serde_json::Value>(request).await.map(drop)
    }

    /// Take a physical backup: the bytes of an `mbstream`.
    ///
    /// # Errors
    /// The server cannot be copied, or nobody answers.
    pub async fn backup(&self) -> Result<impl Stream<Item = reqwest::Result<Bytes>> + use<>, Error> {
        Ok(self.opened(self.http.get(self.url("/v1/backup"))).await?.bytes_stream())
    }

    /// Make a user and its schema, or finish what was begun with the same password.
    ///
    /// # Errors
    /// The server is not the writable leader, the name is not usable or another's ([`Error::is_of_request`]), or nobody answers.
    pub async fn put_user(&self, name: &str, user: &User) -> Result<UserMade, Error> {
        self.json(self.http.put(self.url(&format!("/v1/users/{name}"))).json(user)).await
    }

    /// Drop a user and cut its sessions; no such user is a success.
    ///
    /// # Errors
    /// The server is not the writable leader, or nobody answers.
    pub async fn delete_user(&self, name: &str) -> Result<(), Error> {
        self.json::<serde_json::Value>(self.http.delete(self.url(&format!("/v1/users/{name}")))).await.map(drop)
    }

    async fn events(&self, request: RequestBuilder, mut progress: impl FnMut(&str)) -> Result<(), Error> {
        let mut body = self.opened(request).await?.bytes_stream();
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(|_| Error::Garbled(self.server.clone()))? {
                    Event::Message(text) => progress(&text),
                    Event::Succeeded => return Ok(()),
                    Event::Refused(why) => return Err(Error::Refused(why)),
                    Event::Failed(why) => return Err(Error::Failed(why)),
                }
            }
            if buffer.len() > LINE_LIMIT {
                return Err(Error::Garbled(self.server.clone()));
            }
            match tokio::time::timeout(LINE_TIMEOUT, body.next()).await {
                Ok(Some(Ok(bytes))) => buffer.extend_from_slice(&bytes),
                Ok(Some(Err(cause))) => return Err(unreachable(&self.server, Some(cause))),
                Ok(None) | Err(_) => return Err(unreachable(&self.server, None)),
            }
        }
    }

    /// Send a request whose answer starts when it is its turn and goes on for as long as it takes.
    async fn opened(&self, request: RequestBuilder) -> Result<Response, Error> {
        match tokio::time::timeout(TURN_LIMIT + ANSWER_TIMEOUT, request.send()).await {
            Ok(answer) => checked(&self.server, answer).await,
            Err(_) => Err(unreachable(&self.server, None)),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        json(&self.server, request, ANSWER_TIMEOUT).await
    }
}

/// What every client has in common: our keys, their authority, and no way round.
fn authenticated(tls: &Tls) -> Result<ClientBuilder, Error> {
    // The provider is process-wide; whoever came first chose the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let identity = format!("{}\n{}", tls.certificate, tls.private_key);
    Ok(reqwest::Client::builder()
        .tls_certs_only(Certificate::from_pem_bundle(tls.ca.as_bytes()).map_err(Error::Keys)?)
        .identity(Identity::from_pem(identity.as_bytes()).map_err(Error::Keys)?)
        .no_proxy()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true))
}

/// Send a request and read the whole answer within the limit.
async fn json<T: DeserializeOwned>(server: &str, request: RequestBuilder, limit: Duration) -> Result<T, Error> {
    let response = checked(server, request.timeout(limit).send().await).await?;
    response.json().await.map_err(|cause| garbled(server, cause))
}

async fn checked(server: &str, answer: reqwest::Result<Response>) -> Result<Response, Error> {
    let response = answer.map_err(|cause| unreachable(server, Some(cause)))?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let problem = response.json().await.map_err(|cause| garbled(server, cause))?;
    Err(Error::Problem(problem))
}

fn unreachable(server: &str, cause: Option<reqwest::Error>) -> Error {
    Error::Unreachable { server: server.into(), cause }
}

/// A body that broke off is no answer; one that came in full and is not ours is a strange one.
fn garbled(server: &str, cause: reqwest::Error) -> Error {
    let is_whole = std::error::Error::source(&cause).is_some_and(|source| source.is::<serde_json::Error>());
    if is_whole { Error::Garbled(server.into()) } else { unreachable(server, Some(cause)) }
}
