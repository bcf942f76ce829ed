//! Carry a step out, and record it: before it is sent what may happen, after it what did.

use agent::api::certificate_name;
use anyhow::{Context, anyhow};
use broker::osb::State;

use super::Turn;
use super::observe::Memory;
use crate::admission::parameters::Parameters;
use crate::app::App;
use crate::bosh::{self, TaskId};
use crate::catalog::Deployment;
use crate::clock::Timestamp;
use crate::lifecycle::{Act, Ending, NOT_IN_TIME, Step, Submission};
use crate::manifest::{CONFIGURE_ERRAND, MYSQL_GROUP, deployment_name};
use crate::store::operations::{self, Kind, Operation};

/// Carry out a step.
pub(super) async fn act(app: &App, operation: &Operation, step: Step, memory: &mut Memory) -> anyhow::Result<Turn> {
    match step {
        Step::Deploy => {
            let plan = plan(app, operation)?;
            let parameters = Parameters::parse(plan.topology, &operation.attributes.parameters);
            let parameters = parameters.map_err(|complaints| anyhow!("read the parameters: {complaints:?}"))?;
            let manifest = app.manifests.render(operation.instance.as_str(), plan, parameters)?;
            send(app, operation, Request::Deploy(manifest), memory).await
        }
        Step::RunErrand => send(app, operation, Request::RunErrand, memory).await,
        Step::DeleteDeployment { force } => send(app, operation, Request::Delete { force }, memory).await,
        Step::Cancel(task) => cancel(app, task, memory).await,
        Step::Wait(why) => wait(app, operation, &why, memory).await,
        // The answer of the servers was part of the observation; without it there is nothing to do but look again.
        Step::AskServers => Ok(Turn::Pause(memory.pause())),
        Step::Done => done(app, operation).await,
        Step::Fail(ending) => fail(app, operation, &ending).await,
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

/// What the plan of an instance means to the director.
pub(super) fn plan<'a>(app: &'a App, operation: &Operation) -> anyhow::Result<&'a Deployment> {
    let attributes = &operation.attributes;
    let plan = app.catalog.service(&attributes.service_id).and_then(|service| service.plan(&attributes.plan_id));
    plan.map(|plan| &plan.deployment).with_context(|| format!("find plan {} in the catalog", attributes.plan_id))
}

/// What makes a task.
enum Request {
    Deploy(String),
    RunErrand,
    Delete { force: bool },
}

impl Request {
    fn act(&self) -> Act {
        match self {
            Request::Deploy(_) => Act::Deploy,
            Request::RunErrand => Act::RunErrand,
            Request::Delete { .. } => Act::DeleteDeployment,
        }
    }
}

/// Record, send once, and put the record back only where nothing was carried out for certain. A lost answer is looked up
/// by the operation's id in the next turn.
async fn send(app: &App, operation: &Operation, request: Request, memory: &mut Memory) -> anyhow::Result<Turn> {
    let submission = Submission { act: request.act(), after: memory.newest.unwrap_or(TaskId(0)) };
    let mut db = app.store.connection().await?;
    if !operations::record_submission(&mut db, operation, Some(submission)).await? {
        return Ok(Turn::Ended);
    }
    drop(db);
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
    let mut db = app.store.connection().await?;
    // Where the operation is not ours any more, whoever has it looks the request up, and finds that it never arrived.
    operations::record_submission(&mut db, operation, operation.submission).await.map(drop)
}

/// None: there is nothing to delete.
async fn submit(app: &App, operation: &Operation, request: Request) -> Result<Option<TaskId>, bosh::Error> {
    let deployment = deployment_name(operation.instance.as_str());
    let context = operation.id.as_str();
    let director = &app.director;
    match request {
        Request::Deploy(manifest) => director.deploy_first(manifest, context).await.map(Some),
        Request::Delete { force } => director.delete_deployment(&deployment, force, context).await,
        Request::RunErrand => {
            let instances = director.instances(&deployment).await?;
            let first = instances.iter().find(|instance| instance.group == MYSQL_GROUP).ok_or_else(|| {
                let why = format!("the deployment has no instance of `{MYSQL_GROUP}`");
                bosh::Error::Garbled { act: "choose the instance for an errand", why }
            })?;
            director.run_errand(&deployment, CONFIGURE_ERRAND, first, context).await.map(Some)
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
        operations::describe(&mut *app.store.connection().await?, &operation.id, why).await?;
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
    let description = sentence(app, operation, ending);
    let mut db = app.store.connection().await?;
    operations::finish(&mut db, &operation.id, State::Failed, &description, Timestamp::now()).await?;
    Ok(Turn::Ended)
}

/// What the user reads: what failed, what to do, and the words that lead an operator to the cause.
fn sentence(app: &App, operation: &Operation, ending: &Ending) -> String {
    let service_id = &operation.attributes.service_id;
    let service = app.catalog.service(service_id).map_or(service_id, |service| &service.name);
    let task = ending.task.map(|task| format!(", task-id: {task}")).unwrap_or_default();
    let what = ending.sentence;
    let (intro, advice, word) = match operation.kind {
        Kind::Create => (
            "Instance provisioning failed: There was a problem completing your request.",
            "Delete this service instance and create it again; if that fails too, please contact your operations team",
            "create",
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
