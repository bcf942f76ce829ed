//! `/locks` and `/resurrection`.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};

#[derive(Deserialize)]
struct Pause {
    resurrection_paused: bool,
}

/// `timeout` and `task_id` are texts, as in BOSH.
pub(super) async fn locks(State(app): State<App>) -> Answer {
    let held = app.locks.held();
    let rows = held.iter().map(|(deployment, held)| {
        json!({"type": "deployment", "resource": [deployment], "timeout": format!("{:.6}", held.timeout),
            "task_id": held.task.to_string()})
    });
    answer::json(&rows.collect::<Vec<Value>>())
}

pub(super) async fn resurrection(State(app): State<App>) -> Answer {
    let is_on = app.config.resurrection && !app.store.read().shared.resurrection_paused;
    answer::json(&json!({"resurrection": is_on}))
}

pub(super) async fn set_resurrection(State(app): State<App>, body: Bytes) -> Answer {
    let pause: Pause = answer::from_json(&body)?;
    app.store
        .write(|model| {
            model.shared_mut().resurrection_paused = pause.resurrection_paused;
            Ok(())
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}
