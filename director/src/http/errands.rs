//! `/deployments/D/errands`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};
use super::requester::Requester;
use crate::errand::{self, Choice, Order};
use crate::event::Deed;
use crate::task::record::Kind;

#[derive(Default, Deserialize)]
struct Run {
    #[serde(default)]
    instances: Vec<Choice>,
}

pub(super) async fn list(State(app): State<App>, Path(name): Path<String>) -> Answer {
    let names = errand::names(&app, &*app.store.deployment(&name)?)?;
    answer::json(&names.iter().map(|name| json!({"name": name})).collect::<Vec<Value>>())
}

/// An errand that does not exist is the task's error, as in BOSH; only the deployment is looked up at once.
pub(super) async fn run(
    State(app): State<App>,
    requester: Requester,
    Path((deployment, errand)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    app.store.deployment(&deployment)?;
    let run = if body.is_empty() { Run::default() } else { answer::from_json::<Run>(&body)? };
    let description = format!("run errand {errand} from deployment {deployment}");
    let deed = Deed::new("run", "errand", &errand).of(&deployment);
    let task = requester.order(Kind::RunErrand, description, Some(&deployment)).telling(deed);
    let order = Order { deployment, errand, chosen: run.instances };
    let director = app.clone();
    let id = app.tasks.submit(task, move |task| errand::run(director, task, order)).await?;
    answer::see_task(&requester.host, id)
}
