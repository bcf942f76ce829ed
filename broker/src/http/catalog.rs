//! `GET /v2/catalog`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::etag;
use crate::app::App;

pub(super) async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let documents = app.documents();
    let served = documents.catalog.served();
    let tag = (ETAG, served.etag.clone());
    if etag::is_known(&headers, &served.etag) {
        return (StatusCode::NOT_MODIFIED, [tag]).into_response();
    }
    let json = HeaderValue::from_static("application/json");
    ([tag, (CONTENT_TYPE, json)], served.body.clone()).into_response()
}
