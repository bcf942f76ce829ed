//! The agent's HTTP API, every route on this page. Handlers translate: they check the body, raise the busy flag, and hand
//! over to the file that knows; they decide nothing.

mod access;
mod answer;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use agent::api::{
    Activity, Command, Follow, Inspection, Position, Promotion, Status, Succession, Successor, Ticket, User, UserMade,
    check_user_name,
};
use agent::quorum::{Answer as Vote, Ballot, Release, Renewal};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderName, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde_json::Value;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyDeadlineLayer;

use crate::agent::Agent;
use crate::busy::Raised;
use crate::leadership::Claim;
use crate::mysql::Made;
use crate::report::{Report, sentence};
use crate::{automatic, command, inspection, metrics, seed, users};
use answer::{Answer, Failure, Json as Parsed, events};
pub(crate) use tls::{listen, serve};

const BODY_LIMIT: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

type Shared = State<Arc<Agent>>;

pub(crate) fn router(agent: Arc<Agent>) -> Router {
    let guarded = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/inspection", get(inspection))
        .route("/metrics", get(metrics))
        .route("/v1/commands/{command}", post(run_command))
        .route("/v1/users/{name}", put(put_user).delete(delete_user))
        .route("/v1/steps/follow", post(follow))
        .route("/v1/steps/lead", post(lead))
        .route("/v1/steps/yield", post(yield_leadership))
        .route("/v1/steps/receive", post(receive))
        .route("/v1/steps/prepare-promotion", post(prepare_promotion))
        .route("/v1/steps/succeed", post(succeed))
        .route("/v1/steps/promote", post(promote))
        .route("/v1/backup", get(backup))
        .route("/v1/voter/renew", post(renew))
        .route("/v1/voter/vote", post(vote))
        .route("/v1/voter/release", post(release))
        .fallback(not_found)
        .layer(from_fn_with_state(agent.clone(), access::require_certificate));
    Router::new()
        .route("/v1/leader", get(leader))
        .merge(guarded)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(answer::log))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(RequestBodyDeadlineLayer::new(BODY_TIMEOUT))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .with_state(agent)
}

async fn leader(State(agent): Shared) -> Answer<Value> {
    match agent.is_writable_leader().await {
        Ok(true) => Ok(Json(Value::Object(serde_json::Map::new()))),
        Ok(false) => Err(Failure::unavailable("NotLeader", "this server is not the writable leader")),
        Err(error) => Err(Failure::server_unavailable(&error)),
    }
}

/// For how long the one who asks waits for the server.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Patience {
    within_ms: Option<u64>,
}

async fn status(State(agent): Shared, patience: Result<Query<Patience>, QueryRejection>) -> Answer<Status> {
    let Query(Patience { within_ms }) =
        patience.map_err(|_| Failure::bad_request("the status takes the query within_ms=1000 or none"))?;
    let said = match within_ms {
        None => agent.status().await,
        Some(limit) => timeout(Duration::from_millis(limit), agent.status()).await.map_err(|_| {
            let why = format!("its server runs and did not say its state within {limit} ms");
            Failure::unavailable("ServerSilent", why)
        })?,
    };
    said.map(Json).map_err(|error| no_status(&agent, &error))
}

async fn inspection(State(agent): Shared) -> Answer<Inspection> {
    inspection::inspect(&agent).await.map(Json).map_err(|error| no_status(&agent, &error))
}

async fn metrics(State(agent): Shared) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::scrape(&agent).await)
}

fn no_status(agent: &Agent, error: &anyhow::Error) -> Failure {
    match agent.busy.holder() {
        Some(activity) => {
            Failure::unavailable("Busy", format!("{}; the agent is busy with {activity}", sentence(error)))
        }
        None => Failure::server_unavailable(error),
    }
}

/// How a command is to be run.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Manner {
    dry_run: bool,
}

async fn run_command(
    State(agent): Shared,
    path: Result<Path<Command>, PathRejection>,
    manner: Result<Query<Manner>, QueryRejection>,
) -> Result<Response, Failure> {
    let Path(command) = path.map_err(|_| {
        Failure::not_found(
            "no such command; there are make-leader, force-make-leader, make-read-only, configure-leader-follower, \
             switchover, failover, degrade-sync, restore-sync",
        )
    })?;
    let Query(Manner { dry_run }) =
        manner.map_err(|_| Failure::bad_request("a command takes the query dry_run=true or none"))?;
    if dry_run {
        let (report, receiver) = Report::new();
        agent.tasks.spawn(command::rehearse(agent.clone(), command, report));
        return Ok(events(receiver));
    }
    let raised = raise(&agent, Activity::Command(command)).await?;
    agent.automatic.acknowledge();
    let (report, receiver) = Report::new();
    agent.tasks.spawn(command::run(agent.clone(), command, raised, report));
    Ok(events(receiver))
}

async fn follow(State(agent): Shared, Parsed(Follow { leader }): Parsed<Follow>) -> Result<Response, Failure> {
    step(agent, async move |agent, report| {
        let limit = agent.instance.replication_limit();
        command::follow(&agent, leader, limit, &report).await
    })
    .await
}

async fn lead(State(agent): Shared) -> Result<Response, Failure> {
    step(agent, async move |agent, report| command::lead(&agent, Claim::Asked, &report).await).await
}

async fn yield_leadership(State(agent): Shared) -> Result<Response, Failure> {
    step(agent, async move |agent, report| command::yield_leadership(&agent, &report).await).await
}

async fn receive(State(agent): Shared, Parsed(position): Parsed<Position>) -> Result<Response, Failure> {
    step(agent, async move |agent, report| command::receive(&agent, &position, &report).await).await
}

async fn step<W>(agent: Arc<Agent>, work: impl FnOnce(Arc<Agent>, Report) -> W) -> Result<Response, Failure>
where
    W: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let raised = raise(&agent, Activity::PeerCommand).await?;
    let (report, receiver) = Report::new();
    let work = work(agent.clone(), report.clone());
    agent.tasks.spawn(command::run_step(work, raised, report));
    Ok(events(receiver))
}

async fn prepare_promotion(State(agent): Shared, Parsed(position): Parsed<Position>) -> Answer<Ticket> {
    let _raised = raise(&agent, Activity::PeerCommand).await?;
    command::prepare_promotion(&agent, &position).await.map(Json).map_err(|error| Failure::refused(&error))
}

async fn succeed(State(agent): Shared, Parsed(succession): Parsed<Succession>) -> Answer<Successor> {
    let _raised = raise(&agent, Activity::PeerCommand).await?;
    automatic::accept(&agent, &succession).await.map(Json).map_err(|error| Failure::refused(&error))
}

async fn promote(State(agent): Shared, Parsed(promotion): Parsed<Promotion>) -> Answer<Value> {
    let raised = raise(&agent, Activity::PeerCommand).await?;
    // Not cut off half-way when the leader stops waiting.
    let promoted = agent.tasks.spawn(command::promote(agent.clone(), promotion, raised)).await;
    match promoted.map_err(anyhow::Error::from).flatten() {
        Ok(()) => Ok(Json(Value::Object(serde_json::Map::new()))),
        Err(error) => Err(Failure::refused(&error)),
    }
}

async fn backup(State(agent): Shared) -> Result<Body, Failure> {
    seed::backup(&agent).await.map_err(|error| Failure::refused(&error))
}

async fn renew(State(agent): Shared, Parsed(renewal): Parsed<Renewal>) -> Answer<Vote> {
    agent.leadership.answer_renewal(&renewal).map(Json).map_err(|error| Failure::refused(&error))
}

async fn vote(State(agent): Shared, Parsed(ballot): Parsed<Ballot>) -> Answer<Vote> {
    agent.leadership.answer_ballot(&ballot).map(Json).map_err(|error| Failure::refused(&error))
}

async fn release(State(agent): Shared, Parsed(release): Parsed<Release>) -> Answer<Value> {
    let heard = agent.leadership.answer_release(&release);
    heard.map(|()| Json(Value::Object(serde_json::Map::new()))).map_err(|error| Failure::refused(&error))
}

async fn put_user(State(agent): Shared, Path(name): Path<String>, Parsed(user): Parsed<User>) -> Answer<UserMade> {
    check_user_name(&name).and_then(|()| users::check_user(&user)).map_err(Failure::bad_request)?;
    let family = agent.database.family().await.map_err(|error| Failure::server_unavailable(&error))?;
    users::check_length(&name, family).map_err(Failure::bad_request)?;
    let _leads = agent.users.read().await;
    require_leader(&agent).await?;
    require_ordinary(&agent, &name).await?;
    match agent.database.put_user(&name, &user).await {
        Ok(Made::New) => Ok(Json(UserMade { created: true })),
        Ok(Made::Before) => Ok(Json(UserMade { created: false })),
        Ok(Made::Taken) => {
            Err(Failure::conflict("Taken", format!("there is a user {name} already; take another name")))
        }
        Err(error) => Err(Failure::server_unavailable(&error)),
    }
}

async fn delete_user(State(agent): Shared, Path(name): Path<String>) -> Answer<Value> {
    check_user_name(&name).map_err(Failure::bad_request)?;
    let _leads = agent.users.read().await;
    require_leader(&agent).await?;
    let dropped = agent.database.drop_user(&name).await;
    dropped.map(|()| Json(Value::Object(serde_json::Map::new()))).map_err(|error| Failure::server_unavailable(&error))
}

async fn require_leader(agent: &Agent) -> Result<(), Failure> {
    match agent.is_writable_leader().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::conflict("NotLeader", "this server is not the writable leader; ask the other one")),
        Err(error) => Err(Failure::server_unavailable(&error)),
    }
}

/// A binding's user that was there before may have been given more than the agent gives.
async fn require_ordinary(agent: &Agent, name: &str) -> Result<(), Failure> {
    match agent.database.writes_through_read_only(name).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::conflict(
            "Refused",
            format!(
                "the user {name} is there and has privileges by which it writes on a read-only server; revoke SUPER, \
                 READ_ONLY ADMIN, CONNECTION_ADMIN and SYSTEM_VARIABLES_ADMIN, or take another name"
            ),
        )),
        Err(error) => Err(Failure::server_unavailable(&error)),
    }
}

async fn raise(agent: &Agent, activity: Activity) -> Result<Raised, Failure> {
    agent.busy.raise_after_recovery(activity).await.map_err(|other| {
        Failure::conflict(
            "Busy",
            format!("the agent is busy with {other}; wait until that is done, then run this again"),
        )
    })
}

async fn not_found() -> Failure {
    Failure::not_found("no such path; the API is described with the contract of the agent (agent/src/api.rs)")
}

async fn method_not_allowed() -> Failure {
    Failure::method_not_allowed()
}
