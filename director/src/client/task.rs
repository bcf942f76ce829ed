//! Following a task: its events as they come, its end, its result.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::Value;
use time::OffsetDateTime;

use super::api::{Body, Director};
use super::arguments::TaskOutput;
use super::event::{Events, duration};
use super::{Outcome, Success, print};

/// The director tells nobody when a task moves on; it is asked.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// `task N`
pub(super) async fn show(director: &Director, id: u64, output: &TaskOutput) -> Outcome {
    let kind = match output {
        TaskOutput { debug: true, .. } => "debug",
        TaskOutput { result: true, .. } => "result",
        TaskOutput { event: true, .. } => "event",
        TaskOutput { .. } => {
            print(&format!("Using {}\n\n", director.describe()))?;
            return follow(director, id).await.map(|()| Success::Told);
        }
    };
    state(director, id).await?;
    print(&director.output(id, kind, 0).await?.unwrap_or_default())?;
    Ok(Success::Silent)
}

/// `cancel-task N`
pub(super) async fn cancel(director: &Director, id: u64) -> Outcome {
    director.change(Method::DELETE, &["task", &id.to_string()], &[], Body::Empty).await?;
    Ok(Success::Told)
}

/// Print the events until the task ended. A task that did not end well is an error.
pub(super) async fn follow(director: &Director, id: u64) -> anyhow::Result<()> {
    print(&format!("Task {id}\n\n"))?;
    let mut reader = EventReader { id, seen: 0, rest: String::new(), events: Events::new(id) };
    loop {
        // Asked before the events, so that the last events are read after the end.
        let task = state(director, id).await?;
        print(&reader.read(director).await?)?;
        let state = task["state"].as_str().unwrap_or_default();
        if !matches!(state, "queued" | "processing" | "cancelling") {
            print(&reader.events.end())?;
            print(&closing(id, &task))?;
            return match state {
                "done" => Ok(()),
                _ => bail!("Expected task '{id}' to succeed but state is '{state}'"),
            };
        }
        tokio::time::sleep(POLL_PAUSE).await;
    }
}

/// Wait for a task that only gathers information, and return the JSON lines of its result.
pub(super) async fn gather(director: &Director, id: u64) -> anyhow::Result<Vec<Value>> {
    loop {
        let task = state(director, id).await?;
        match task["state"].as_str().unwrap_or_default() {
            "queued" | "processing" | "cancelling" => tokio::time::sleep(POLL_PAUSE).await,
            "done" => return result(director, id).await,
            state => bail!("task {id} is '{state}': {}", task["result"].as_str().unwrap_or_default()),
        }
    }
}

/// The JSON lines of a task's result.
pub(super) async fn result(director: &Director, id: u64) -> anyhow::Result<Vec<Value>> {
    let text = director.output(id, "result", 0).await?.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).context("understand a task's result")).collect()
}

async fn state(director: &Director, id: u64) -> anyhow::Result<Value> {
    director.get(&["tasks", &id.to_string()], &[]).await
}

struct EventReader {
    id: u64,
    seen: usize,
    /// The beginning of a line that was not written to its end yet.
    rest: String,
    events: Events,
}

impl EventReader {
    async fn read(&mut self, director: &Director) -> anyhow::Result<String> {
        let Some(news) = director.output(self.id, "event", self.seen).await? else { return Ok(String::new()) };
        self.seen += news.len();
        self.rest += &news;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        Ok(lines.lines().map(|line| self.events.line(line)).collect())
    }
}

fn closing(id: u64, task: &Value) -> String {
    let time = |name: &str| task[name].as_i64();
    let shown = |time: i64| {
        let format = time::macros::format_description!(
            "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] UTC [year]"
        );
        let time = OffsetDateTime::from_unix_timestamp(time).ok();
        time.and_then(|time| time.format(format).ok()).unwrap_or_default()
    };
    let mut text = String::from("\n");
    if let (Some(started), Some(finished)) = (time("started_at"), time("timestamp")) {
        text += &format!("Task {id} Started  {}\n", shown(started));
        text += &format!("Task {id} Finished {}\n", shown(finished));
        text += &format!("Task {id} Duration {}\n", duration(finished - started));
    }
    text + &format!("Task {id} {}\n", task["state"].as_str().unwrap_or_default())
}
