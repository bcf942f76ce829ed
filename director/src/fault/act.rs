//! PURE: which acts there are, and what can go wrong in each.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Nothing but time is lost.
    #[default]
    Delay,
    /// It is carried out at once, and the answer comes late.
    DelayAnswer,
    /// The connection is cut before the request is carried out.
    LoseRequest,
    /// The request is carried out, and the connection cut before the answer.
    LoseAnswer,
    /// Somebody else answers, such as the proxy in front; the request is not carried out.
    Answer,
    /// The connection is cut in the middle of the body.
    Truncate,
    /// The body is not UTF-8; of an errand's result only what the program has said.
    Garble,
    /// `Range` is not obeyed.
    IgnoreRange,
    /// The JSON of the answer is changed.
    Edit,
    /// No worker takes the task before the latency is over.
    Queue,
    /// It fails, and nothing is done.
    Fail,
    /// Somebody else has the deployment's lock, and keeps it.
    LockConflict,
    /// The task is an error without a result or an error event, and its lock outlives it by the latency.
    WorkerDies,
    /// The same with the state `timeout`.
    TimeOut,
    /// A task that was cancelled ends after the latency only.
    Linger,
    /// The task is done, and did nothing.
    Skip,
    /// The errand ends with this code and output, and does nothing.
    Exit,
    /// The VM does not answer.
    Silent,
    /// The VM is gone, for good.
    Missing,
    /// Its processes end again and again.
    Failing,
}

/// What an operator can choose from, for the refusal.
pub(super) const NAMES: &str = "'request' (any) or one as 'GET /tasks/{id}'; the tasks 'deploy', 'delete', 'errand', \
    'other task'; on VMs 'create_vm', 'delete_vm', 'configure_vm', 'start_jobs', 'stop_jobs', 'vm_state', 'run_errand', \
    'agent'";

const REQUEST: &[Kind] = &[
    Kind::Delay,
    Kind::DelayAnswer,
    Kind::LoseRequest,
    Kind::LoseAnswer,
    Kind::Answer,
    Kind::Truncate,
    Kind::Garble,
    Kind::IgnoreRange,
    Kind::Edit,
];
const TASK: &[Kind] = &[
    Kind::Delay,
    Kind::Queue,
    Kind::Fail,
    Kind::LockConflict,
    Kind::WorkerDies,
    Kind::TimeOut,
    Kind::Linger,
    Kind::Skip,
];

impl Kind {
    /// The name in JSON.
    pub(super) fn name(&self) -> String {
        serde_json::to_value(self).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// What can go wrong in an act; none where there is no such act.
pub(super) fn kinds(act: &str) -> Option<&'static [Kind]> {
    match act {
        "request" => Some(REQUEST),
        "deploy" | "delete" | "errand" | "other task" => Some(TASK),
        "create_vm" | "delete_vm" | "configure_vm" | "start_jobs" | "stop_jobs" => Some(&[Kind::Delay, Kind::Fail]),
        "vm_state" => Some(&[Kind::Delay, Kind::Silent, Kind::Missing, Kind::Failing]),
        "run_errand" => Some(&[Kind::Delay, Kind::Fail, Kind::Exit]),
        "agent" => Some(&[Kind::Delay, Kind::DelayAnswer, Kind::LoseRequest, Kind::LoseAnswer, Kind::Answer]),
        route => {
            let (method, path) = route.split_once(' ')?;
            (["GET", "POST", "PUT", "DELETE"].contains(&method) && path.starts_with('/')).then_some(REQUEST)
        }
    }
}

/// Is the act that happens the one that is named?
pub(super) fn fits(named: &str, happens: &str) -> bool {
    named == happens || (named == "request" && happens.contains(" /"))
}

/// `*` stands for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).filter_map(|at| name.get(at..)).any(|tail| matches(rest, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let table = [("*", "", true), ("a*", "abc", true), ("*c", "abc", true), ("a*c*", "abcd", true)];
        let refused = [("a", "ab", false), ("a*c", "abd", false), ("", "a", false), ("b*", "ab", false)];
        for (pattern, name, expected) in table.into_iter().chain(refused) {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn any_request_is_meant_by_its_own_word_only() {
        assert!(fits("request", "GET /info") && fits("GET /info", "GET /info"));
        assert!(!fits("request", "deploy") && !fits("GET /info", "GET /tasks"));
        assert!(kinds("GET tasks").is_none() && kinds("FETCH /tasks").is_none());
    }
}
