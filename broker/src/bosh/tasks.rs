//! The director's tasks: list, cancel, and read what they left behind.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Director, Error, Output, TaskId, refusal, tail};

/// How many tasks are asked for: an operation of ours makes a handful.
const LIST_LIMIT: &str = "100";
/// The same for all operations together.
const WHOLE_LIST_LIMIT: &str = "1000";
const UNFINISHED: [&str; 3] = ["queued", "processing", "cancelling"];
/// Looks at the machines without the deployment's lock, and somebody may do that all the time.
const STATISTICS: &str = "retrieve vm-stats";
const READ_OUTPUT: &str = "read the output of a task";

/// A task as the director lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) state: String,
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) context_id: Option<String>,
    /// Cut to 128 characters by the director.
    #[serde(default)]
    pub(crate) result: Option<String>,
}

/// What one instance said in an errand.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrandResult {
    pub(crate) exit_code: i64,
    #[serde(default)]
    pub(crate) stdout: String,
    #[serde(default)]
    pub(crate) stderr: String,
}

/// The error at the end of a task's events.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskError {
    pub(crate) code: u64,
    pub(crate) message: String,
}

#[derive(Deserialize)]
struct EventLine {
    error: Option<TaskError>,
}

impl Director {
    /// Every task that carries this context id, oldest first.
    pub(crate) async fn tasks_of(&self, context: &str) -> Result<Vec<Task>, Error> {
        let query = [("context_id", context), ("limit", LIST_LIMIT), ("verbose", "2")];
        self.list("list the tasks of an operation", &query).await
    }

    /// Every unfinished task that may hold the deployment's lock: of every kind (`verbose=2`), because repairs (`scan and
    /// fix`) and starts and stops of one instance are not in the usual list.
    pub(crate) async fn unfinished_tasks(&self, deployment: &str) -> Result<Vec<Task>, Error> {
        let states = UNFINISHED.join(",");
        let query = [("deployment", deployment), ("state", states.as_str()), ("limit", LIST_LIMIT), ("verbose", "2")];
        let mut tasks = self.list("list the tasks on a deployment", &query).await?;
        tasks.retain(|task| task.description != STATISTICS);
        Ok(tasks)
    }

    /// The unfinished tasks of the usual kinds on all deployments; among them are all that we may have asked for.
    pub(crate) async fn all_unfinished_tasks(&self) -> Result<Vec<Task>, Error> {
        let states = UNFINISHED.join(",");
        let query = [("state", states.as_str()), ("limit", WHOLE_LIST_LIMIT)];
        let mut tasks = self.list("list the unfinished tasks", &query).await?;
        // A director finds while it lists that a task's worker has been silent for too long, and shows it as `timeout`.
        tasks.retain(|task| UNFINISHED.contains(&task.state.as_str()));
        Ok(tasks)
    }

    async fn list(&self, act: &'static str, query: &[(&str, &str)]) -> Result<Vec<Task>, Error> {
        let mut tasks: Vec<Task> = self.get(act, "/tasks", query).await?;
        // The director sorts by a clock; numbers only grow.
        tasks.sort_by_key(|task| task.id);
        Ok(tasks)
    }

    /// Ask for the end of a task; one that has ended already is fine.
    pub(crate) async fn cancel_task(&self, task: TaskId) -> Result<(), Error> {
        let act = "cancel a task";
        let response = self.send(act, self.request(Method::DELETE, &format!("/task/{task}"))).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            // "Cannot cancel task 1: invalid state (done)"
            StatusCode::BAD_REQUEST => Ok(()),
            _ => Err(refusal(act, response).await),
        }
    }

    /// The error that a task ended with, in full; none where its worker died.
    pub(crate) async fn task_error(&self, task: TaskId) -> Result<Option<TaskError>, Error> {
        let output = self.output(task, "event").await?;
        let lines: Vec<EventLine> = lines_of(whole_lines(&output))?;
        Ok(lines.into_iter().filter_map(|line| line.error).next_back())
    }

    /// What an errand said, one for each instance; none where that is too much to be read: what lacks its beginning may lack
    /// an exit code.
    pub(crate) async fn errand_results(&self, task: TaskId) -> Result<Option<Vec<ErrandResult>>, Error> {
        let output = self.output(task, "result").await?;
        if output.is_cut { Ok(None) } else { lines_of(&output.bytes).map(Some) }
    }

    async fn output(&self, task: TaskId, kind: &str) -> Result<Output, Error> {
        let response = self.get_response(READ_OUTPUT, &format!("/tasks/{task}/output"), &[("type", kind)]).await?;
        tail(READ_OUTPUT, response).await
    }
}

/// Of a long output the first line may be a part of one. The last line is one where the director's worker died while it wrote.
fn whole_lines(Output { bytes, is_cut }: &Output) -> &[u8] {
    let after = |at: usize| at + 1;
    let begin = if *is_cut { bytes.iter().position(|byte| *byte == b'\n').map_or(0, after) } else { 0 };
    let (lines, rest) = bytes.split_at(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, after));
    let is_broken_off = rest.starts_with(b"{") && lines_of::<IgnoredAny>(rest).is_err();
    if is_broken_off { lines } else { bytes }.get(begin..).unwrap_or_default()
}

/// The JSON documents of an output, one a line. A line that is something else comes from somebody in front of the director:
/// to pass over it could turn a failure into a success, or into a worker that died. Text that is not UTF-8 is what a program
/// of an instance has said.
fn lines_of<T: DeserializeOwned>(output: &[u8]) -> Result<Vec<T>, Error> {
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let read: Result<Vec<T>, _> = lines.map(|line| serde_json::from_str(&String::from_utf8_lossy(line))).collect();
    read.map_err(|cause| Error::Garbled { act: READ_OUTPUT, why: cause.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(output: &[u8]) -> Result<Vec<i64>, Error> {
        Ok(lines_of(output)?.iter().map(|result: &ErrandResult| result.exit_code).collect())
    }

    fn error(bytes: &[u8], is_cut: bool) -> Result<Option<u64>, Error> {
        let lines: Vec<EventLine> = lines_of(whole_lines(&Output { bytes: bytes.into(), is_cut }))?;
        Ok(lines.into_iter().filter_map(|line| line.error).next_back().map(|error| error.code))
    }

    #[test]
    fn results_are_read_line_by_line_whatever_a_program_says() {
        let output = b"{\"instance\":{\"group\":\"mysql\",\"id\":\"a\"},\"errand_name\":\"e\",\"exit_code\":0,\"stdout\":\"x\"}\n\
            {\"instance\":{\"group\":\"mysql\",\"id\":\"b\"},\"errand_name\":\"e\",\"exit_code\":7,\"stdout\":\"\xff\xfe\"}\n\n";
        assert_eq!(codes(output).unwrap(), [0, 7]);
        assert_eq!(codes(b"").unwrap(), [0; 0]);
    }

    #[test]
    fn a_result_that_is_not_understood_is_not_passed_over() {
        for other in ["<html>maintenance</html>", "{\"exit_code\":", "{\"exit_code\":null}", "{}"] {
            let output = format!("{{\"exit_code\":0}}\n{other}\n");
            assert!(matches!(codes(output.as_bytes()), Err(Error::Garbled { .. })), "{other}");
        }
    }

    #[test]
    fn the_last_error_of_the_events_is_the_task_s() {
        let output = b"{\"time\":1,\"stage\":\"Preparing deployment\",\"state\":\"started\"}\n\
            {\"time\":2,\"error\":{\"code\":70009,\"message\":\"Errand 'nope' doesn't exist\"}}\n";
        assert_eq!(error(output, false).unwrap(), Some(70009));
        // The end of a long output, which begins in the middle of a line.
        assert_eq!(error(&output[3..], true).unwrap(), Some(70009));
        assert!(error(&output[3..], false).is_err());
    }

    #[test]
    fn a_line_that_a_dead_worker_left_says_nothing_and_a_page_of_somebody_else_is_no_event() {
        assert_eq!(error(b"{\"time\":1}\n{\"time\":2,\"err", false).unwrap(), None);
        assert_eq!(error(b"", false).unwrap(), None);
        assert!(error(b"<html>maintenance</html>", false).is_err());
    }
}
