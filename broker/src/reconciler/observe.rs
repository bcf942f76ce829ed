//! Look at the director and the agents, and put what is seen into the words of `lifecycle`.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{PAUSE_MAX, PAUSE_MIN};
use crate::app::App;
use crate::bosh::{self, TaskId};
use crate::catalog::Errand;
use crate::clock::Timestamp;
use crate::ids::OperationId;
use crate::lifecycle::{
    Act, Failure, Observed, OtherTask, Reason, Servers, Task, TaskState, Wish, is_unanswered, readiness,
};
use crate::manifest::{CONFIGURE_ERRAND, deployment_name};
use crate::store::operations::{Kind, Operation};

/// How long a request whose answer was lost may take to become a task.
const SETTLE: Duration = Duration::from_secs(3);
/// The code of many errors, among them the one of a task that did not get the deployment's lock.
const LOCK_CODE: u64 = 100;
/// The code of a deletion that met an instance which an operator has set to `ignore`.
const IGNORED_CODE: u64 = 190_021;
/// How much of an errand's output goes into the log: its end, which says why.
const OUTPUT_LIMIT: usize = 1000;

/// What a worker remembers between two looks. Nothing depends on it: a fresh worker looks a little more often.
#[derive(Debug)]
pub(super) struct Memory {
    /// The operation that it is about.
    operation: Option<OperationId>,
    /// Tasks that have ended do not change any more.
    ended: HashMap<TaskId, TaskState>,
    /// Since when a request has no task.
    unanswered_since: Option<Instant>,
    /// When the operation last moved.
    moved_at: Instant,
    /// The newest task of the operation.
    pub(super) newest: Option<TaskId>,
    /// What was seen while the operation waits for its own task: it stays so for as long as that task is unfinished.
    waiting: Option<Observed>,
    /// The shortest pause between two looks.
    pause_min: Duration,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory {
            operation: None,
            ended: HashMap::new(),
            unanswered_since: None,
            moved_at: Instant::now(),
            newest: None,
            waiting: None,
            pause_min: PAUSE_MIN,
        }
    }

    /// Whether it is about this operation: the first that it meets. A later one starts with a worker of its own.
    pub(super) fn is_of(&mut self, id: &OperationId) -> bool {
        if self.operation.is_none() {
            tracing::Span::current().record("operation_id", id.as_str());
        }
        self.operation.get_or_insert_with(|| id.clone()) == id
    }

    /// Something was sent: look soon, and begin anew to wait for its answer.
    pub(super) fn has_moved(&mut self) {
        self.moved_at = Instant::now();
        self.unanswered_since = None;
        self.waiting = None;
        self.pause_min = PAUSE_MIN;
    }

    /// What takes long is looked at less often, so that looking costs a few percent of the time that is waited for.
    pub(super) fn pause(&self) -> Duration {
        (self.moved_at.elapsed() / 40).clamp(self.pause_min, PAUSE_MAX)
    }

    fn is_in_doubt(&mut self, is_unanswered: bool) -> bool {
        if !is_unanswered {
            self.unanswered_since = None;
            return false;
        }
        self.unanswered_since.get_or_insert_with(Instant::now).elapsed() < SETTLE
    }
}

/// Everything that the next step depends on, the servers apart.
pub(super) async fn observe(app: &App, operation: &Operation, memory: &mut Memory) -> Result<Observed, bosh::Error> {
    if let Some(observed) = still_waiting(app, operation, memory).await {
        return Ok(observed);
    }
    let tasks = match operation.submission {
        Some(_) => own_tasks(app, operation, memory).await?,
        None => vec![],
    };
    let mut unanswered = is_unanswered(operation.submission, tasks.last().map(|task| task.id));
    let deployment = deployment_name(operation.instance.as_str());
    let is_waiting = tasks.iter().any(|task| task.state == TaskState::Unfinished);
    let others = if is_waiting { vec![] } else { other_tasks(app, operation, &deployment).await? };
    unanswered |= is_halted_unanswered(app, operation).await?;
    let mut is_deployed = true;
    if operation.kind == Kind::Delete {
        // After the tasks: one that is unfinished now may still make the deployment.
        is_deployed = app.director.is_deployed(&deployment).await?;
    }
    let in_doubt = memory.is_in_doubt(unanswered);
    let observed = Observed { tasks, others, is_deployed, in_doubt, servers: Servers::NotAsked };
    memory.waiting = (is_waiting && !unanswered).then(|| observed.clone());
    Ok(observed)
}

/// What the operation's own look has shown, where it waits for a task and the overview shows no change. It cannot be older
/// than what the operation sent last: that forgets it. At the deadline only a look of its own counts.
async fn still_waiting(app: &App, operation: &Operation, memory: &mut Memory) -> Option<Observed> {
    let observed = memory.waiting.as_ref().filter(|_| Timestamp::now() <= operation.deadline_at)?;
    let glimpse = app.overview.of(&operation.id, &app.director, memory.pause()).await?;
    memory.pause_min = glimpse.pause;
    let unfinished = observed.tasks.iter().filter(|task| task.state == TaskState::Unfinished).map(|task| task.id);
    unfinished.eq(glimpse.unfinished).then(|| observed.clone())
}

/// What the servers of the instance say about themselves.
pub(super) async fn ask_servers(app: &App, operation: &Operation, wish: Wish) -> Result<Servers, bosh::Error> {
    let deployment = deployment_name(operation.instance.as_str());
    let instances = app.director.instances(&deployment).await?;
    let answers = app.agents.ask(&deployment, &instances).await;
    Ok(readiness(wish.is_pair(), &answers))
}

/// Whether a server of the instance takes writes; nothing where the director cannot say where they are.
pub(super) async fn is_writable(app: &App, operation: &Operation) -> Option<bool> {
    let deployment = deployment_name(operation.instance.as_str());
    let instances = app.director.instances(&deployment).await.ok()?;
    let answers = app.agents.ask(&deployment, &instances).await;
    Some(answers.iter().any(|answer| answer.writable().is_some()))
}

async fn own_tasks(app: &App, operation: &Operation, memory: &mut Memory) -> Result<Vec<Task>, bosh::Error> {
    let mut tasks = Vec::new();
    let documents = app.documents();
    let errands = documents.errands(operation);
    for listed in app.director.tasks_of(operation.id.as_str()).await? {
        let Some(act) = act_of(&listed.description, errands) else { continue };
        let state = match memory.ended.get(&listed.id) {
            Some(state) => state.clone(),
            None => state_of(app, act, &listed).await?,
        };
        if state != TaskState::Unfinished {
            memory.ended.insert(listed.id, state.clone());
        }
        tasks.push(Task { id: listed.id, act, state });
    }
    Ok(tasks)
}

async fn is_halted_unanswered(app: &App, operation: &Operation) -> Result<bool, bosh::Error> {
    let Some(halted) = operation.halted.as_ref().filter(|halted| halted.submission.is_some()) else {
        return Ok(false);
    };
    let tasks = app.director.tasks_of(halted.id.as_str()).await?;
    Ok(is_unanswered(halted.submission, tasks.last().map(|task| task.id)))
}

async fn other_tasks(app: &App, operation: &Operation, deployment: &str) -> Result<Vec<OtherTask>, bosh::Error> {
    let halted = operation.halted.as_ref().map(|halted| halted.id.as_str());
    let unfinished = app.director.unfinished_tasks(deployment).await?;
    let others = unfinished.iter().filter(|task| task.context_id.as_deref() != Some(operation.id.as_str()));
    let to_other = |task: &bosh::Task| {
        let is_halted = halted.is_some() && task.context_id.as_deref() == halted;
        OtherTask { id: task.id, is_to_be_cancelled: is_halted && task.state != "cancelling" }
    };
    Ok(others.map(to_other).collect())
}

/// Which of our requests made a task. The director has no better word for it than the description.
fn act_of(description: &str, errands: &[Errand]) -> Option<Act> {
    match description {
        "create deployment" => Some(Act::Deploy),
        text if text.starts_with("delete deployment") => Some(Act::DeleteDeployment),
        text => {
            let name = text.strip_prefix("run errand ")?.split(' ').next()?;
            match name == CONFIGURE_ERRAND {
                true => Some(Act::Configure),
                false => errands.iter().position(|errand| errand.name == name).map(Act::RunErrand),
            }
        }
    }
}

async fn state_of(app: &App, act: Act, task: &bosh::Task) -> Result<TaskState, bosh::Error> {
    match task.state.as_str() {
        "done" => match act {
            Act::Configure | Act::RunErrand(_) => {
                Ok(errand_state(app.director.errand_results(task.id).await?.as_deref()))
            }
            Act::Deploy | Act::DeleteDeployment => Ok(TaskState::Done),
        },
        "error" | "cancelled" | "timeout" => {
            let error = app.director.task_error(task.id).await?.map(|error| (error.code, error.message));
            Ok(TaskState::Failed(failure(task, error)))
        }
        _ => Ok(TaskState::Unfinished),
    }
}

/// A done errand task is not a successful errand: every instance has an exit code of its own.
fn errand_state(results: Option<&[bosh::ErrandResult]>) -> TaskState {
    let failed = |cause| TaskState::Failed(Failure { reason: Reason::Final, cause });
    let results = match results {
        None => return failed("the errand said more than can be read".into()),
        Some([]) => return failed("the errand left no result".into()),
        Some(results) => results,
    };
    let is_bad = |result: &&bosh::ErrandResult| result.exit_code != 0;
    match results.iter().find(is_bad) {
        None => TaskState::Done,
        Some(bad) => failed(format!("exit code {}: {} {}", bad.exit_code, end_of(&bad.stdout), end_of(&bad.stderr))),
    }
}

fn end_of(output: &str) -> &str {
    let output = output.trim();
    &output[output.ceil_char_boundary(output.len().saturating_sub(OUTPUT_LIMIT))..]
}

fn failure(task: &bosh::Task, error: Option<(u64, String)>) -> Failure {
    let is_cancelled = task.state == "cancelled";
    let (reason, cause) = match error {
        // The worker of the director died: no error was written, or a GET found it silent for too long.
        _ if task.state == "timeout" => (Reason::WorkerDied, "task timeout".into()),
        None if is_cancelled => (Reason::Cancelled, task.result.clone().unwrap_or_else(|| task.state.clone())),
        None => (Reason::WorkerDied, format!("task {}", task.state)),
        Some((LOCK_CODE, message)) if message.starts_with("Failed to acquire lock") => (Reason::Locked, message),
        Some((code, message)) => {
            let reason = match code {
                _ if is_cancelled => Reason::Cancelled,
                IGNORED_CODE => Reason::Ignored,
                _ => Reason::Final,
            };
            (reason, format!("{message} (code {code})"))
        }
    };
    Failure { reason, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(state: &str) -> bosh::Task {
        let body = serde_json::json!({"id": 7, "state": state, "description": "create deployment"});
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn tasks_are_told_apart_by_their_descriptions() {
        let errand = |name: &str| Errand { name: name.into(), instances: vec![] };
        let errands = [errand("smoke"), errand("inspect")];
        for (description, expected) in [
            ("create deployment", Some(Act::Deploy)),
            ("run errand configure-leader-follower from deployment d", Some(Act::Configure)),
            ("run errand inspect from deployment d", Some(Act::RunErrand(1))),
            ("run errand inspector from deployment d", None),
            ("delete deployment d", Some(Act::DeleteDeployment)),
            ("retrieve vm-stats", None),
        ] {
            assert_eq!(act_of(description, &errands), expected, "{description}");
        }
    }

    #[test]
    fn a_failure_is_the_director_s_own_trouble_an_operator_s_will_or_final() {
        let lock = "Failed to acquire lock for lock:deployment:d uid: 1. Locking task id is 19".to_owned();
        for (state, error, expected) in [
            ("error", Some((100, lock)), Reason::Locked),
            ("error", Some((100, "No instances match selection criteria".into())), Reason::Final),
            ("error", Some((450_002, "Timed out".into())), Reason::Final),
            ("error", None, Reason::WorkerDied),
            ("timeout", None, Reason::WorkerDied),
            ("error", Some((190_021, "contains ignored instance(s)".into())), Reason::Ignored),
            ("cancelled", Some((10_001, "Task 7 cancelled".into())), Reason::Cancelled),
            ("cancelled", None, Reason::Cancelled),
        ] {
            assert_eq!(failure(&task(state), error.clone()).reason, expected, "{state} {error:?}");
        }
    }

    #[test]
    fn one_bad_exit_code_fails_an_errand() {
        let result = |exit_code| serde_json::from_value(serde_json::json!({"exit_code": exit_code})).unwrap();
        assert_eq!(errand_state(Some(&[result(0), result(0)])), TaskState::Done);
        for bad in [Some(&[result(0), result(7)][..]), Some(&[]), None] {
            assert!(matches!(errand_state(bad), TaskState::Failed(_)));
        }
    }

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let output = format!("{} the cause\n", "é".repeat(100_000));
        let result = serde_json::json!({"exit_code": 1, "stdout": output, "stderr": output});
        let TaskState::Failed(failure) = errand_state(Some(&[serde_json::from_value(result).unwrap()])) else {
            panic!()
        };
        assert!(failure.cause.ends_with("the cause") && failure.cause.len() < 2100, "{}", failure.cause.len());
    }
}
