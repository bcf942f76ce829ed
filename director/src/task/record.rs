//! What is kept of a task, which tasks a list shows, and which are forgotten.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Order;

/// A task's `result` is this long at most; the whole text is in its events.
const RESULT_LENGTH: usize = 128;

/// A task as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) state: State,
    pub(crate) description: String,
    /// When it ended; null before.
    pub(crate) timestamp: Option<i64>,
    pub(crate) started_at: Option<i64>,
    pub(crate) result: Option<String>,
    pub(crate) user: String,
    pub(crate) deployment: Option<String>,
    pub(crate) context_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Queued,
    Processing,
    Cancelling,
    Cancelled,
    Done,
    Error,
    /// Of a real director whose worker fell silent.
    Timeout,
}

/// BOSH's `job_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    UpdateDeployment,
    DeleteDeployment,
    RunErrand,
    Vms,
    StartInstance,
    StopInstance,
    RestartInstance,
    RecreateInstance,
    DeleteVm,
    DeleteOrphanDisks,
    OrphanDisk,
    AttachDisk,
    FetchLogs,
    CckScan,
    CckApply,
    CckScanAndFix,
    CleanupArtifacts,
}

/// What `GET /tasks` asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Empty: every state.
    pub(crate) states: Vec<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) context_id: Option<String>,
    pub(crate) limit: Option<usize>,
    /// `verbose=2`: also the kinds that a person seldom wants to see.
    pub(crate) every_kind: bool,
}

impl Record {
    pub(super) fn queued(id: u64, order: Order) -> Self {
        let Order { kind, description, deployment, user, context_id, deed: _ } = order;
        let (state, timestamp, started_at, result) = (State::Queued, None, None, None);
        Self { id, state, description, timestamp, started_at, result, user, deployment, context_id, kind }
    }

    /// A directory without a readable record is one whose task was never answered for.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(directory.join("task.json")).ok()?).ok()
    }
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }

    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Processing | Self::Cancelling => false,
            Self::Cancelled | Self::Done | Self::Error | Self::Timeout => true,
        }
    }
}

impl Kind {
    /// `verbose=1`, the default of a list, shows only these (tasks_controller.rb).
    fn is_listed_by_default(self) -> bool {
        match self {
            Self::UpdateDeployment | Self::DeleteDeployment | Self::RunErrand | Self::AttachDisk => true,
            Self::Vms
            | Self::StartInstance
            | Self::StopInstance
            | Self::RestartInstance
            | Self::RecreateInstance
            | Self::DeleteVm
            | Self::DeleteOrphanDisks
            | Self::OrphanDisk
            | Self::FetchLogs
            | Self::CckScan
            | Self::CckApply
            | Self::CckScanAndFix
            | Self::CleanupArtifacts => false,
        }
    }
}

/// The chosen ones, newest time stamp first; those that have not ended count as newest, and of equals the higher id.
pub(crate) fn select(records: impl Iterator<Item = Record>, filter: &Filter) -> Vec<Record> {
    let mut chosen: Vec<Record> = records.filter(|record| filter.admits(record)).collect();
    chosen.sort_by_key(|record| std::cmp::Reverse((record.timestamp.unwrap_or(i64::MAX), record.id)));
    chosen.truncate(filter.limit.unwrap_or(usize::MAX));
    chosen
}

/// The beginning of a text, where all of it is too long for a result.
pub(super) fn shorten(text: String) -> String {
    if text.chars().count() <= RESULT_LENGTH {
        return text;
    }
    text.chars().take(RESULT_LENGTH - 3).chain("...".chars()).collect()
}

/// Which tasks are forgotten so that `kept` of them stay: the oldest that have ended. All are of one kind, oldest first.
pub(crate) fn superfluous(tasks: &[(u64, State)], kept: usize) -> Vec<u64> {
    let ended = tasks.iter().filter(|(_, state)| state.is_final()).map(|(id, _)| *id);
    ended.take(tasks.len().saturating_sub(kept)).collect()
}

impl Filter {
    fn admits(&self, record: &Record) -> bool {
        (self.states.is_empty() || self.states.iter().any(|state| state == record.state.name()))
            && self.deployment.as_ref().is_none_or(|name| record.deployment.as_ref() == Some(name))
            && self.context_id.as_ref().is_none_or(|id| record.context_id == *id)
            && (self.every_kind || record.kind.is_listed_by_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, state: State, timestamp: Option<i64>, kind: Kind) -> Record {
        let deployment = Some(if id.is_multiple_of(2) { "even" } else { "odd" }.to_owned());
        let (description, user, context_id) = (String::new(), "admin".to_owned(), format!("c{id}"));
        Record { id, state, description, timestamp, started_at: None, result: None, user, deployment, context_id, kind }
    }

    fn chosen(filter: &Filter) -> Vec<u64> {
        let records = [
            record(1, State::Done, Some(10), Kind::UpdateDeployment),
            record(2, State::Done, Some(30), Kind::RunErrand),
            record(3, State::Error, Some(20), Kind::DeleteDeployment),
            record(4, State::Processing, None, Kind::UpdateDeployment),
            record(5, State::Queued, None, Kind::Vms),
        ];
        select(records.into_iter(), filter).iter().map(|record| record.id).collect()
    }

    #[test]
    fn a_list_is_filtered_and_sorted_by_time_stamp() {
        let states = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let table = [
            (Filter::default(), vec![4, 2, 3, 1]),
            (Filter { every_kind: true, ..Filter::default() }, vec![5, 4, 2, 3, 1]),
            (Filter { states: states(&["queued", "processing"]), every_kind: true, ..Filter::default() }, vec![5, 4]),
            (Filter { deployment: Some("odd".into()), ..Filter::default() }, vec![3, 1]),
            (Filter { context_id: Some("c2".into()), ..Filter::default() }, vec![2]),
            (Filter { limit: Some(2), ..Filter::default() }, vec![4, 2]),
        ];
        for (filter, expected) in table {
            assert_eq!(chosen(&filter), expected, "{filter:?}");
        }
    }
    #[test]
    fn the_oldest_ended_tasks_are_forgotten_and_never_one_that_runs() {
        let tasks =
            [(1, State::Processing), (4, State::Done), (5, State::Error), (9, State::Cancelled), (12, State::Done)];
        for (kept, expected) in [(5, vec![]), (4, vec![4]), (2, vec![4, 5, 9]), (0, vec![4, 5, 9, 12])] {
            assert_eq!(superfluous(&tasks, kept), expected, "{kept}");
        }
    }
}
