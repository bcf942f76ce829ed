//! The director's tasks: list, cancel, and read what they left behind.

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{Director, Error, TaskId, refusal, tail};

/// How many tasks are asked for: an operation of ours makes a handful.
const LIST_LIMIT: &str = "100";
/// The same for all operations together.
const WHOLE_LIST_LIMIT: &str = "1000";
const UNFINISHED: [&str; 3] = ["queued", "processing", "cancelling"];
/// Looks at the machines without the deployment's lock, and somebody may do that all the time.
const STATISTICS: &str = "retrieve vm-stats";

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
        Ok(lines(&output).filter_map(|line: EventLine| line.error).last())
    }

    /// What an errand said, one for each instance.
    pub(crate) async fn errand_results(&self, task: TaskId) -> Result<Vec<ErrandResult>, Error> {
        let output = self.output(task, "result").await?;
        Ok(lines(&output).collect())
    }

    async fn output(&self, task: TaskId, kind: &str) -> Result<Vec<u8>, Error> {
        let act = "read the output of a task";
        let response = self.get_response(act, &format!("/tasks/{task}/output"), &[("type", kind)]).await?;
        tail(act, response).await
    }
}

/// The JSON documents of an output, one a line. Lines that are something else are passed over.
fn lines<'a, T: Deserialize<'a>>(output: &'a [u8]) -> impl Iterator<Item = T> {
    output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_line_by_line() {
        let output = b"{\"instance\":{\"group\":\"mysql\",\"id\":\"a\"},\"errand_name\":\"e\",\"exit_code\":0,\"stdout\":\"x\"}\n\
            {\"instance\":{\"group\":\"mysql\",\"id\":\"b\"},\"errand_name\":\"e\",\"exit_code\":7}\nnot json\n";
        let codes: Vec<i64> = lines(output).map(|result: ErrandResult| result.exit_code).collect();
        assert_eq!(codes, [0, 7]);
    }

    #[test]
    fn the_last_error_of_the_events_is_the_task_s() {
        let output = b"{\"time\":1,\"stage\":\"Preparing deployment\",\"state\":\"started\"}\n\
            {\"time\":2,\"error\":{\"code\":70009,\"message\":\"Errand 'nope' doesn't exist\"}}\n";
        let error = lines(output).filter_map(|line: EventLine| line.error).last().unwrap();
        assert_eq!((error.code, error.message.as_str()), (70009, "Errand 'nope' doesn't exist"));
    }
}
