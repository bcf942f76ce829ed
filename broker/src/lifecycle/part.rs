//! A part of an operation that is one task of the director: send it, wait for it, send it again where that may help.

use super::{ATTEMPTS, Act, Ending, Failure, Observed, Reason, Step, TaskState};
use crate::bosh::TaskId;

pub(super) const ANOTHER_TASK: &str = "waiting for another task on the deployment";
pub(super) const IN_DOUBT: &str = "asking the director what became of a request";

/// A part that is one task of the director.
pub(super) struct Part {
    pub(super) act: Act,
    pub(super) send: Step,
    pub(super) doing: &'static str,
    pub(super) failed: &'static str,
}

/// What is to be done about one part; nothing where it is done.
pub(super) fn pending(word: &str, part: &Part, observed: &Observed) -> Option<Step> {
    let &Part { act, ref send, doing, failed } = part;
    // Two tasks for one request happen (a lost answer): the one that lives or lived counts, not the newest.
    if let Some(task) = unfinished(act, observed) {
        return Some(wait(word, doing, Some(task)));
    }
    if observed.tasks.iter().any(|task| task.act == act && task.state == TaskState::Done) {
        return None;
    }
    if observed.in_doubt {
        return Some(wait(word, IN_DOUBT, None));
    }
    let failures = failures(act, observed);
    match failures.last() {
        Some((task, failure)) if !failure.reason.is_passing() || failures.len() >= ATTEMPTS => {
            Some(Step::Fail(Ending { sentence: failed, task: Some(*task), cause: failure.cause.clone() }))
        }
        Some(_) | None => match observed.others.first() {
            Some(other) => Some(wait(word, ANOTHER_TASK, Some(other.id))),
            None => Some(send.clone()),
        },
    }
}

pub(super) fn unfinished(act: Act, observed: &Observed) -> Option<TaskId> {
    observed.tasks.iter().find(|task| task.act == act && task.state == TaskState::Unfinished).map(|task| task.id)
}

/// The failures that count, oldest first. Not getting the lock is no attempt: the deadline bounds it.
pub(super) fn failures(act: Act, observed: &Observed) -> Vec<(TaskId, &Failure)> {
    let failed = observed.tasks.iter().filter(|task| task.act == act).filter_map(|task| match &task.state {
        TaskState::Failed(failure) => Some((task.id, failure)),
        TaskState::Unfinished | TaskState::Done => None,
    });
    failed.filter(|(_, failure)| failure.reason != Reason::Locked).collect()
}

pub(super) fn wait(operation: &str, what: &str, task: Option<TaskId>) -> Step {
    Step::Wait(match task {
        Some(task) => format!("Instance {operation} in progress: {what} (task {task})"),
        None => format!("Instance {operation} in progress: {what}"),
    })
}
