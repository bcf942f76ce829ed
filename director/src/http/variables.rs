//! `/deployments/D/variables`: names, never values.

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};

pub(super) async fn list(State(app): State<App>, Path(name): Path<String>) -> Answer {
    app.store.deployment(&name)?;
    let variables = app.variables.list(&name).await;
    answer::json(&variables.iter().map(|(id, name)| json!({"id": id, "name": name})).collect::<Vec<Value>>())
}
