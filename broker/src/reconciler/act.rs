//! Carry a step out, and record it: before it is sent what may happen, after it what did.

use agent::api::certificate_name;
use anyhow::{Context, anyhow};
use broker::osb::State;

use super::Turn;
use super::observe::{self, Memory};
use super::place::{self, Place};
use crate::admission::parameters::Parameters;
use crate::app::App;
use crate::bosh::{self, Target, TaskId};
use crate::catalog::{Deployment, Errand};
use crate::clock::Timestamp;
use crate::lifecycle::{Act, Ending, NOT_IN_TIME, Step, Submission};
use crate::manifest::{CONFIGURE_ERRAND, MYSQL_GROUP, deployment_name};
use crate::store::operations::{self, Kind, Operation};

/// Carry out a step.
pub(super) async fn act(app: &App, operation: &Operation, step: Step, memory: &mut Memory) -> anyhow::Result<Turn> {
    match step {
        Step::Deploy => deploy(app, operation, memory).await,
        Step::Configure => configure(app, operation, memory).await,
        Step::RunErrand(place) => run_errand(app, operation, place, memory).await,
        Step::DeleteDeployment { force } => send(app, operation, Request::Delete { force }, memory).await,
        Step::Cancel(task) => cancel(app, task, memory).await,
        Step::Wait(why) => wait(app, operation, &why, memory).await,
        // The answer of the servers was part of the observation; without it there is nothing to do but look again.
        Step::AskServers => Ok(Turn::Pause(memory.pause())),
        Step::Done => done(app, operation).await,
        Step::Fail(ending) => fail(app, operation, &ending).await,
    }
}

async fn deploy(app: &App, operation: &Operation, memory: &mut Memory) -> anyhow::Result<Turn> {
    let documents = app.documents();
    let plan = &documents.plan(operation)?.deployment;
    let place = match place::find(app, operation, plan).await {
        Ok(Ok(place)) => place,
        Ok(Err(why)) => return wait(app, operation, &format!("Instance update in progress: {why}"), memory).await,
        Err(error) => return stumble(app, operation, error, memory).await,
    };
    let parameters = Parameters::parse(plan.topology, &operation.attributes.parameters);
    let parameters = parameters.map_err(|complaints| anyhow!("read the parameters: {complaints:?}"))?;
    let render = |azs| {
        let placed = Deployment { azs, ..plan.clone() };
        documents.manifests.render(operation.instance.as_str(), &placed, parameters)
    };
    let request = match place {
        Place::Anywhere => Request::Deploy(render(plan.azs.clone())?),
        Place::WithLeader(zone) => Request::Shrink(render(vec![zone])?),
    };
    send(app, operation, request, memory).await
}

/// On any server that has a VM: what has none, such as what a dry run of an operator's has left, runs no errand.
async fn configure(app: &App, operation: &Operation, memory: &mut Memory) -> anyhow::Result<Turn> {
    // Before anything is recorded: what somebody in front of the director answers here is no refusal of the errand.
    let mut instances = match app.director.instances(&deployment_name(operation.instance.as_str())).await {
        Ok(instances) => instances,
        Err(error) => return stumble(app, operation, error, memory).await,
    };
    instances.retain(|instance| instance.group == MYSQL_GROUP);
    // Where none has one, the director says what is wrong with the first.
    match instances.iter().find(|instance| !instance.ips.is_empty()).or(instances.first()) {
        Some(instance) => send(app, operation, Request::Configure(Target::of(instance)), memory).await,
        None => {
            let why = format!("the deployment has no instance of `{MYSQL_GROUP}`");
            let error = bosh::Error::Garbled { act: "choose the instance for an errand", why };
            stumble(app, operation, error, memory).await
        }
    }
}

async fn run_errand(app: &App, operation: &Operation, place: usize, memory: &mut Memory) -> anyhow::Result<Turn> {
    match app.documents().errands(operation).get(place).cloned() {
        Some(errand) => send(app, operation, Request::RunErrand(place, errand), memory).await,
        // The catalog has changed since the step was chosen.
        None => Ok(Turn::Pause(memory.pause())),
    }
}

/// The director or its answer was no use. An operation that is overdue ends here too.
pub(super) async fn stumble(
    app: &App,
    operation: &Operation,
    error: bosh::Error,
    memory: &mut Memory,
) -> anyhow::Result<Turn> {
    let cause = format!("{:#}", anyhow::Error::new(error));
    if Timestamp::now() > operation.deadline_at {
        let sentence = "The director of the virtual machines could not be reached in time.";
        return fail(app, operation, &Ending { sentence, task: memory.newest, cause }).await;
    }
    let doing = match operation.kind {
        Kind::Create => "provisioning",
        Kind::Update => "update",
        Kind::Delete => "deletion",
    };
    let why = format!("Instance {doing} in progress: waiting for the director of the virtual machines");
    if operation.description != why {
        tracing::warn!(cause, "the director does not help; trying again");
    }
    wait(app, operation, &why, memory).await
}

/// The deadline passed, and the broker itself cannot go on.
pub(super) async fn give_up(app: &App, operation: &Operation, error: &anyhow::Error) -> anyhow::Result<Turn> {
    let ending = Ending { sentence: NOT_IN_TIME, task: None, cause: format!("{error:#}") };
    fail(app, operation, &ending).await
}

/// What makes a task.
enum Request {
    Deploy(String),
    /// A deployment of a pair's leader alone.
    Shrink(String),
    Configure(Target),
    /// One of the plan's, and its place among them.
    RunErrand(usize, Errand),
    Delete {
        force: bool,
    },
}

impl Request {
    fn act(&self) -> Act {
        match self {
            Request::Deploy(_) | Request::Shrink(_) => Act::Deploy,
            Request::Configure(_) => Act::Configure,
            Request::RunErrand(place, _) => Act::RunErrand(*place),
            Request::Delete { .. } => Act::DeleteDeployment,
        }
    }
}

/// Record, send once, and put the record back only where nothing was carried out for certain. A lost answer is looked up
/// by the operation's id in the next turn.
async fn send(app: &App, operation: &Operation, request: Request, memory: &mut Memory) -> anyhow::Result<Turn> {
    let submission = Submission { act: request.act(), after: memory.newest.unwrap_or(TaskId(0)) };
    // In an act: whoever takes the instance over meanwhile does so before, and this is refused, or after, and reads it.
    let mut tx = app.store.begin().await?;
    if !operations::record_submission(&mut tx, operation, Some(submission)).await? {
        return Ok(Turn::Ended);
    }
    tx.commit().await.context("record what is to be sent")?;
    match submit(app, operation, request).await {
        Ok(task) => {
            match task {
                Some(task) => tracing::info!(%task, act = ?submission.act, "the director works"),
                None => restore(app, operation).await?,
            }
            memory.has_moved();
            Ok(Turn::Pause(memory.pause()))
        }
        Err(error) if error.is_final() => {
            let sentence = "The director of the virtual machines refused the request.";
            let cause = format!("{:#}", anyhow::Error::new(error));
            fail(app, operation, &Ending { sentence, task: None, cause }).await
        }
        Err(error) => {
            match error.is_certain() {
                true => restore(app, operation).await?,
                false => memory.has_moved(),
            }
            stumble(app, operation, error, memory).await
        }
    }
}

/// Put back what was recorded before a request that, for certain, was not carried out.
async fn restore(app: &App, operation: &Operation) -> anyhow::Result<()> {
    let mut tx = app.store.begin().await?;
    // Where the operation is not ours any more, whoever has it looks the request up, and finds that it never arrived.
    operations::record_submission(&mut tx, operation, operation.submission).await?;
    tx.commit().await.context("record what was not sent")
}

/// None: there is nothing to delete.
async fn submit(app: &App, operation: &Operation, request: Request) -> Result<Option<TaskId>, bosh::Error> {
    let deployment = deployment_name(operation.instance.as_str());
    let context = operation.id.as_str();
    let director = &app.director;
    match request {
        Request::Deploy(manifest) => match operation.kind {
            Kind::Create | Kind::Delete => director.deploy_first(manifest, context).await.map(Some),
            Kind::Update => director.deploy(manifest, context).await.map(Some),
        },
        // The follower's VM may be dead. Nothing is lost with it: the leader has every transaction that it has, and nobody
        // else becomes the leader meanwhile.
        Request::Shrink(manifest) => director.deploy_and_fix(manifest, context).await.map(Some),
        Request::Delete { force } => director.delete_deployment(&deployment, force, context).await,
        Request::Configure(target) => {
            director.run_errand(&deployment, CONFIGURE_ERRAND, &[target], context).await.map(Some)
        }
        Request::RunErrand(_, Errand { name, instances }) => {
            director.run_errand(&deployment, &name, &instances, context).await.map(Some)
        }
    }
}

async fn cancel(app: &App, task: TaskId, memory: &mut Memory) -> anyhow::Result<Turn> {
    match app.director.cancel_task(task).await {
        Ok(()) => tracing::info!(%task, "the task of the halted creation is cancelled"),
        Err(error) => {
            let cause = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(%task, cause, "cannot cancel the task of the halted creation; trying again");
        }
    }
    Ok(Turn::Pause(memory.pause()))
}

async fn wait(app: &App, operation: &Operation, why: &str, memory: &Memory) -> anyhow::Result<Turn> {
    if operation.description != why {
        operations::describe(&mut app.store.connection().await?, &operation.id, why).await?;
    }
    Ok(Turn::Pause(memory.pause()))
}

async fn done(app: &App, operation: &Operation) -> anyhow::Result<Turn> {
    let now = Timestamp::now();
    let mut tx = app.store.begin().await?;
    match operation.kind {
        Kind::Create => {
            let description = "Instance provisioning completed";
            operations::finish(&mut tx, &operation.id, State::Succeeded, description, now).await?;
        }
        Kind::Update => {
            operations::finish_update(&mut tx, operation, "Instance update completed", now).await?;
        }
        Kind::Delete => {
            operations::finish_deletion(&mut tx, operation, "Instance deletion completed", now).await?;
        }
    }
    let committed = tx.commit().await.context("record the end of an operation");
    if operation.kind == Kind::Delete {
        app.witness.look_again(&certificate_name(&deployment_name(operation.instance.as_str()))).await;
    }
    committed?;
    tracing::info!(kind = ?operation.kind, "the operation succeeded");
    Ok(Turn::Ended)
}

async fn fail(app: &App, operation: &Operation, ending: &Ending) -> anyhow::Result<Turn> {
    let task = ending.task.map(|task| task.0);
    tracing::error!(kind = ?operation.kind, task, cause = ending.cause, "the operation failed");
    let is_usable = match operation.kind {
        Kind::Create | Kind::Delete => None,
        Kind::Update => observe::is_writable(app, operation).await,
    };
    let description = sentence(app, operation, ending, is_usable);
    let mut tx = app.store.begin().await?;
    operations::set_usable(&mut tx, &operation.id, is_usable).await?;
    operations::finish(&mut tx, &operation.id, State::Failed, &description, Timestamp::now()).await?;
    tx.commit().await.context("record the failure of an operation")?;
    Ok(Turn::Ended)
}

/// What the user reads: what failed, what state that leaves, what to do, and the words that lead an operator to the cause.
fn sentence(app: &App, operation: &Operation, ending: &Ending, is_usable: Option<bool>) -> String {
    let service_id = &operation.attributes.service_id;
    let documents = app.documents();
    let service = documents.catalog.service(service_id).map_or(service_id, |service| &service.name);
    let task = ending.task.map(|task| format!(", task-id: {task}")).unwrap_or_default();
    let what = ending.sentence;
    let (intro, advice, word) = match operation.kind {
        Kind::Create => (
            "Instance provisioning failed: There was a problem completing your request.",
            "Delete this service instance and create it again; if that fails too, please contact your operations team",
            "create",
        ),
        Kind::Update => (
            "Instance update failed: There was a problem completing your request.",
            match is_usable {
                Some(true) => {
                    "The service instance takes reads and writes; its plan and parameters count as unchanged. Repeat the \
                     update; if that fails too, please contact your operations team"
                }
                Some(false) => {
                    "The service instance takes no writes at present; its data are kept. Repeat the update; if that fails \
                     too, please contact your operations team"
                }
                None => {
                    "Whether the service instance serves is not known; its data are kept. Repeat the update; if that fails \
                     too, please contact your operations team"
                }
            },
            "update",
        ),
        Kind::Delete => (
            "Instance deletion failed: Unable to delete service.",
            "Please try again later or contact your operations team",
            "delete",
        ),
    };
    format!(
        "{intro} {what} {advice} providing the following information: service: {service}, \
         service-instance-guid: {}, broker-request-id: {}{task}, operation: {word}",
        operation.instance, operation.request_id
    )
}
