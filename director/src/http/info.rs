//! `/info`: what this director is, how to show who one is, and whether the caller's credentials are good.

use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer};
use super::requester::{Requester, identify};
use crate::config::Authentication;

/// Needs no credentials; with good ones it says whose they are.
pub(super) async fn get(State(app): State<App>, requester: Requester, headers: HeaderMap) -> Answer {
    answer::json(&json!({
        "name": "tandem-director",
        "uuid": app.store.read().shared.uuid,
        "version": concat!(env!("CARGO_PKG_VERSION"), " (00000000)"),
        "user": identify(&app, &headers).map(|identity| identity.user),
        "cpi": "process",
        "stemcell_os": "-",
        "stemcell_version": "-",
        "user_authentication": authentication(app.config.authentication, &requester.host),
        "features": {
            "local_dns": {"status": false, "extras": {"domain_name": null}},
            "snapshots": {"status": false},
            "config_server": {"status": true, "extras": {"urls": []}},
        },
    }))
}

/// The director is its own UAA, under the name by which it was reached.
fn authentication(kind: Authentication, host: &str) -> Value {
    match kind {
        Authentication::Basic => json!({"type": "basic", "options": {}}),
        Authentication::Uaa => {
            let url = format!("https://{host}");
            json!({"type": "uaa", "options": {"url": url, "urls": [url]}})
        }
    }
}
