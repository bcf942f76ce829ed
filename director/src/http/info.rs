//! `/info`: what this director is, and whether the caller's password is good.

use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::json;

use super::answer::{self, Answer};
use super::{App, requester};

/// Needs no password; with a good one it says whose it is.
pub(super) async fn get(State(app): State<App>, headers: HeaderMap) -> Answer {
    answer::json(&json!({
        "name": "tandem-director",
        "uuid": app.store.read().shared.uuid,
        "version": concat!(env!("CARGO_PKG_VERSION"), " (00000000)"),
        "user": requester::user(&app.config.users, &headers),
        "cpi": "process",
        "stemcell_os": "-",
        "stemcell_version": "-",
        "user_authentication": {"type": "basic", "options": {}},
        "features": {
            "local_dns": {"status": false, "extras": {"domain_name": null}},
            "snapshots": {"status": false},
            "config_server": {"status": true, "extras": {"urls": []}},
        },
    }))
}
