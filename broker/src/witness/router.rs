//! What the witness answers, as `agent::api` describes it: JSON in every case, with a [`Problem`] where it is not 200.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use agent::api::Problem;
use agent::quorum::{Answer, Ballot, Release, Renewal, Voter};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::Outcome;
use crate::app::App;

/// The longest request body: a question is a few words.
const BODY_LIMIT: usize = 16 * 1024;
/// How long the next piece of a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest lease. A candidate waits it out, so a longer one is a mistake.
const LEASE_LIMIT_MS: u64 = 60 * 60 * 1000;

/// The one name in the client's certificate, which says which pair asks.
#[derive(Clone, Debug)]
pub(super) struct ClientName(pub(super) Option<String>);

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/voter/renew", post(renew))
        .route("/v1/voter/vote", post(vote))
        .route("/v1/voter/release", post(release))
        .fallback(async || Failure::not_found("there is nothing at this path; the witness answers below /v1/voter"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "NotFound", "this path knows only POST")
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .with_state(app)
}

async fn renew(
    State(app): State<Arc<App>>,
    Extension(name): Extension<ClientName>,
    Body(renewal): Body<Renewal>,
) -> Result<Json<Answer>, Failure> {
    check("epoch", renewal.epoch, i64::MAX.unsigned_abs())?;
    check("lease_ms", renewal.lease_ms, LEASE_LIMIT_MS)?;
    check("withdrawals", renewal.withdrawals, i64::MAX.unsigned_abs())?;
    ask(&app, name, |voter, now| voter.renew(&renewal, now)).await
}

async fn vote(
    State(app): State<Arc<App>>,
    Extension(name): Extension<ClientName>,
    Body(ballot): Body<Ballot>,
) -> Result<Json<Answer>, Failure> {
    check("epoch", ballot.epoch, i64::MAX.unsigned_abs())?;
    let Json(record) = ask(&app, name.clone(), |voter, _| voter.record().clone()).await?;
    let replaces = record.leader.as_ref().is_some_and(|leader| *leader != ballot.leader);
    if replaces && keeps_leader(&app, &name).await? {
        return Ok(Json(Answer::Refused(record)));
    }
    ask(&app, name, |voter, now| voter.vote(&ballot, now)).await
}

async fn keeps_leader(app: &App, ClientName(name): &ClientName) -> Result<bool, Failure> {
    let Some(name) = name else { return Ok(false) };
    app.witness.keeps_leader(name).await.map_err(|error| Failure::no_database(name, &error))
}

async fn release(
    State(app): State<Arc<App>>,
    Extension(name): Extension<ClientName>,
    Body(release): Body<Release>,
) -> Result<Json<serde_json::Value>, Failure> {
    ask(&app, name, |voter, now| {
        voter.release(&release, now);
        serde_json::json!({})
    })
    .await
}

/// What the state database cannot hold, or nobody can wait for, is refused by name.
fn check(field: &str, value: u64, limit: u64) -> Result<(), Failure> {
    if value <= limit {
        return Ok(());
    }
    Err(Failure::bad_request(format!("`{field}` is {value}, but must not be more than {limit}")))
}

async fn ask<T: Serialize>(
    app: &App,
    name: ClientName,
    question: impl Fn(&mut Voter, Duration) -> T,
) -> Result<Json<T>, Failure> {
    let Some(name) = name.0 else {
        let needed = "a client certificate for exactly one name, the one of a deployment's agents, is needed";
        return Err(Failure::new(StatusCode::FORBIDDEN, "NotAllowed", needed));
    };
    match app.witness.ask(&name, question).await {
        Ok(Outcome::Answered(answer)) => Ok(Json(answer)),
        Ok(Outcome::Unknown) => {
            Err(Failure::not_found(format!("there is no service instance whose agents are {name}")))
        }
        Err(error) => Err(Failure::no_database(&name, &error)),
    }
}

/// An answer that is not 200.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    problem: Problem,
}

impl Failure {
    fn new(status: StatusCode, error: &str, description: impl Into<String>) -> Failure {
        Failure { status, problem: Problem { error: error.into(), description: description.into() } }
    }

    fn bad_request(description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "BadRequest", description)
    }

    fn not_found(description: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "NotFound", description)
    }

    fn no_database(name: &str, error: &anyhow::Error) -> Failure {
        tracing::error!(certificate_name = name, cause = format!("{error:#}"), "the witness cannot answer");
        let description = "the witness cannot use its state database; its log says why";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Internal", description)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the witness has a bug; its log says where")
        .into_response()
}

/// A JSON body; the failure names the field.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let why = format!("the body is not usable: {}", rejection.body_text());
            Failure::new(rejection.status(), "BadRequest", why)
        })?;
        // serde would fill a structure from an array, by position.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failure::bad_request("the body must be a JSON object"));
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Body).map_err(|error| Failure::bad_request(format!("the body is not what this path takes: {error}")))
    }
}
