//! The state machine of a service instance: what to do next for one operation, from what is wished and what is seen.
//! Pure: no clock, no network, no database. It may be asked at any time, by any process, after any crash.
//!
//! ```text
//! create   Send(Deploy) ─ task ─ [pair: Send(Configure) ─ task] ─ AskServers ─ [Send(RunErrand) ─ task]… ─ Done
//! update   as create, on what is there already
//! delete   [Cancel the halted operation's task ─] [Send(RunErrand) ─ task]… ─ Send(DeleteDeployment) ─ task ─
//!          deployment absent ─ Done
//! ```
//!
//! * Nothing is sent twice: while a task of the same act is unfinished, or an answer may still be on its way
//!   (`in_doubt`), the step is `Wait`.
//! * Nothing is sent while somebody else's task has the deployment, and what did not get its lock is sent again for as
//!   long as the operation may take: a repair or an errand by hand may last longer than the director waits for a lock.
//! * A task whose worker died is sent again, [`ATTEMPTS`] times.
//! * `Done` is said of facts only: servers that say so themselves, a deployment that the director does not know.
//! * Every operation ends: what is not done at the deadline fails.

mod part;
mod servers;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::bosh::TaskId;
use part::{ANOTHER_TASK, IN_DOUBT, Part, failures, pending, unfinished, wait};

pub(crate) use servers::{Answer, Seat, Servers, readiness, zone_of_leader};

/// How often one act may fail before the operation does.
pub(crate) const ATTEMPTS: usize = 5;

/// How an operation ends at its deadline, as the user reads it.
pub(crate) const NOT_IN_TIME: &str = "It did not finish in time.";

/// What the operation wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Create { is_pair: bool },
    Update { is_pair: bool },
    Delete,
}

impl Wish {
    pub(crate) fn is_pair(self) -> bool {
        match self {
            Wish::Create { is_pair } | Wish::Update { is_pair } => is_pair,
            Wish::Delete => false,
        }
    }
}

/// What the row of the operation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) wish: Wish,
    /// How many errands the plan has for it: behind the deployment, or before the deletion.
    pub(crate) errands: usize,
    pub(crate) submission: Option<Submission>,
    pub(crate) is_overdue: bool,
}

/// The last request of this operation to the director, recorded before it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Submission {
    pub(crate) act: Act,
    /// The operation's newest task at that moment: a newer one is the answer to this request.
    pub(crate) after: TaskId,
}

/// What is asked of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Deploy,
    /// Make a pair of two servers: an errand of our own.
    Configure,
    /// One of the plan's errands for this operation, by its place among them.
    RunErrand(usize),
    DeleteDeployment,
}

/// What is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The director's tasks for this operation, oldest first.
    pub(crate) tasks: Vec<Task>,
    /// Unfinished tasks on the deployment that are not this operation's. Looked at while it has none of its own.
    pub(crate) others: Vec<OtherTask>,
    /// The director knows the deployment. Looked at for a deletion only.
    pub(crate) is_deployed: bool,
    /// A request was sent, no task of it is seen, and it may still arrive.
    pub(crate) in_doubt: bool,
    pub(crate) servers: Servers,
}

/// A task of this operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) act: Act,
    pub(crate) state: TaskState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    Unfinished,
    /// Done, and for an errand: with exit code 0 on every instance.
    Done,
    Failed(Failure),
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// For the operator's log, never for the user.
    pub(crate) cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It did not get the deployment's lock: nothing was done.
    Locked,
    /// The director's worker died: the same request may succeed.
    WorkerDied,
    /// An operator has told the director to leave a VM alone; force changes nothing about it.
    Ignored,
    /// An operator has ended it, and will not want to see it again.
    Cancelled,
    /// The same request would fail again.
    Final,
}

impl Reason {
    /// The same request may succeed.
    fn is_passing(self) -> bool {
        match self {
            Reason::Locked | Reason::WorkerDied => true,
            Reason::Ignored | Reason::Cancelled | Reason::Final => false,
        }
    }
}

/// Somebody else's task on the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherTask {
    pub(crate) id: TaskId,
    /// It belongs to the operation that this deletion halts, and nobody has cancelled it yet.
    pub(crate) is_to_be_cancelled: bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Deploy,
    Configure,
    RunErrand(usize),
    DeleteDeployment {
        force: bool,
    },
    Cancel(TaskId),
    /// Everything was done; let the servers themselves say so.
    AskServers,
    /// The sentence that last_operation shows.
    Wait(String),
    Done,
    Fail(Ending),
}

/// How an operation fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// For the user.
    pub(crate) sentence: &'static str,
    /// The task to look at.
    pub(crate) task: Option<TaskId>,
    /// For the operator's log.
    pub(crate) cause: String,
}

/// The next step of an operation.
pub(crate) fn next_step(desired: &Desired, observed: &Observed) -> Step {
    let step = match desired.wish {
        Wish::Create { is_pair } => next_of_making(&CREATION, is_pair, desired, observed),
        Wish::Update { is_pair } => next_of_making(&UPDATE, is_pair, desired, observed),
        Wish::Delete => next_of_delete(desired, observed),
    };
    match step {
        Step::Done | Step::Fail(_) => step,
        step if desired.is_overdue => Step::Fail(Ending {
            sentence: NOT_IN_TIME,
            task: observed.tasks.last().map(|task| task.id),
            cause: format!("the deadline passed; the next step would have been {step:?}"),
        }),
        step => step,
    }
}

/// Whether something was sent whose task is not seen.
pub(crate) fn is_unanswered(submission: Option<Submission>, newest: Option<TaskId>) -> bool {
    submission.is_some_and(|sent| newest.is_none_or(|newest| newest <= sent.after))
}

fn next_of_making(making: &Making, is_pair: bool, desired: &Desired, observed: &Observed) -> Step {
    // The director forgets old tasks: what was sent last says that everything before it was done.
    let (has_deployed, has_served) = match desired.submission.map(|sent| sent.act) {
        None | Some(Act::Deploy | Act::DeleteDeployment) => (false, false),
        Some(Act::Configure) => (true, false),
        Some(Act::RunErrand(_)) => (true, true),
    };
    if !has_deployed && let Some(step) = pending(making.word, &making.deployment, observed) {
        return step;
    }
    if !has_served {
        if is_pair && let Some(step) = pending(making.word, &CONFIGURATION, observed) {
            return step;
        }
        match &observed.servers {
            Servers::NotAsked => return Step::AskServers,
            Servers::NotReady(why) => return wait(making.word, why, None),
            Servers::Ready => {}
        }
    }
    let failed = "An errand after the deployment failed.";
    pending_errand(making.word, failed, desired, observed).unwrap_or(Step::Done)
}

fn next_of_delete(desired: &Desired, observed: &Observed) -> Step {
    if let Some(task) = unfinished(Act::DeleteDeployment, observed) {
        return wait("deletion", "deleting the virtual machines", Some(task));
    }
    if let Some(task) = observed.others.iter().find(|task| task.is_to_be_cancelled) {
        return Step::Cancel(task.id);
    }
    if let Some(task) = observed.others.first() {
        return wait("deletion", ANOTHER_TASK, Some(task.id));
    }
    if observed.in_doubt {
        return wait("deletion", IN_DOUBT, None);
    }
    if !observed.is_deployed {
        return Step::Done;
    }
    let has_begun = desired.submission.is_some_and(|sent| sent.act == Act::DeleteDeployment);
    let failed = "An errand before the deletion failed.";
    if !has_begun && let Some(step) = pending_errand("deletion", failed, desired, observed) {
        return step;
    }
    let failures = failures(Act::DeleteDeployment, observed);
    let Some((task, failure)) = failures.last() else { return Step::DeleteDeployment { force: false } };
    let fail = |sentence| Step::Fail(Ending { sentence, task: Some(*task), cause: failure.cause.clone() });
    match failure.reason {
        Reason::Ignored => fail("An operator has excluded one of its virtual machines from every change."),
        Reason::Cancelled => fail("An operator has cancelled the deletion."),
        Reason::Locked | Reason::WorkerDied | Reason::Final if failures.len() >= ATTEMPTS => {
            fail("The virtual machines could not be deleted.")
        }
        // A plain deletion stops half-way at a VM that does not answer; only force gets past it.
        Reason::Locked | Reason::WorkerDied | Reason::Final => {
            Step::DeleteDeployment { force: failures.iter().any(|(_, failure)| failure.reason == Reason::Final) }
        }
    }
}

/// What is to be done about the errands of the plan, one behind the other; nothing where all are done.
fn pending_errand(word: &str, failed: &'static str, desired: &Desired, observed: &Observed) -> Option<Step> {
    let first = match desired.submission.map(|sent| sent.act) {
        Some(Act::RunErrand(errand)) => errand,
        None | Some(Act::Deploy | Act::Configure | Act::DeleteDeployment) => 0,
    };
    (first..desired.errands).find_map(|errand| {
        let (act, send) = (Act::RunErrand(errand), Step::RunErrand(errand));
        pending(word, &Part { act, send, doing: "running an errand", failed }, observed)
    })
}

/// A creation or an update: both bring a deployment to what a manifest says.
struct Making {
    word: &'static str,
    deployment: Part,
}

const CREATION: Making = Making {
    word: "provisioning",
    deployment: Part {
        act: Act::Deploy,
        send: Step::Deploy,
        doing: "creating the virtual machines",
        failed: "The virtual machines could not be created.",
    },
};
const UPDATE: Making = Making {
    word: "update",
    deployment: Part {
        act: Act::Deploy,
        send: Step::Deploy,
        doing: "updating the virtual machines",
        failed: "The virtual machines could not be updated.",
    },
};
const CONFIGURATION: Part = Part {
    act: Act::Configure,
    send: Step::Configure,
    doing: "configuring replication",
    failed: "Replication between the two servers could not be configured.",
};
