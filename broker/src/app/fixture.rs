//! The real parts on a directory of their own, with a director that nobody answers for; and golden files.

use std::net::TcpListener;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use super::App;

pub(crate) const PASSWORD: &str = "p4ssw0rd";

/// An app, and the directory that it lives in.
pub(crate) async fn app() -> (App, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let app = app_at(directory.path()).await;
    (app, directory)
}

/// An app on a directory that may have been used before.
pub(crate) async fn app_at(root: &Path) -> App {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["mysql-broker".into()]).unwrap().self_signed(&key).unwrap();
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let state_database = crate::store::fixture::property(root).await;
    let config = json!({
        "spec": {
            "deployment": "mysql-broker", "name": "broker", "id": "b-1", "index": 0, "az": "z3",
            "ip": "127.0.0.1", "root": root,
        },
        "properties": {
            "port": 8080, "witness_port": 0, "username": "broker", "password": PASSWORD, "encryption_key": "0123456789abcdef",
            "director": {
                "url": format!("https://127.0.0.1:{}", free_port()), "ca": certificate.pem(),
                "client": "admin", "client_secret": "secret",
            },
            "agent_tls": {
                "ca": certificate.pem(), "certificate": certificate.pem(), "private_key": key.serialize_pem(),
            },
            "documents": documents,
            "state_database": state_database,
        },
    });
    App::prepare(serde_json::from_value(config).unwrap()).await.unwrap()
}

/// Compare with a file of `golden/`; `GOLDEN_UPDATE=1` writes it anew.
pub(crate) fn assert_golden(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
    if std::env::var_os("GOLDEN_UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{file} differs; GOLDEN_UPDATE=1 writes it anew:\n{actual}");
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
