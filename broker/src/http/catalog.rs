//! `GET /v2/catalog`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use broker::osb;

use crate::app::App;

pub(super) async fn show(State(app): State<Arc<App>>) -> Json<osb::Catalog> {
    Json(app.catalog.served().clone())
}
