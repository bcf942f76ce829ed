//! The program refuses what it cannot run with, and says what is wrong.

#![cfg(test)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A configuration that would do, but for a port that is taken.
struct Fixture {
    directory: TempDir,
    config: Value,
    _port: TcpListener,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["mysql-broker".into()]).unwrap().self_signed(&key).unwrap().pem();
        let config = json!({
            "spec": {
                "deployment": "mysql-broker", "name": "broker", "id": "b-1", "index": 0, "az": "z3",
                "ip": "127.0.0.1", "root": directory.path(),
            },
            "properties": {
                "port": port.local_addr().unwrap().port(), "witness_port": 0, "username": "broker", "password": "p4ssw0rd",
                "encryption_key": "0123456789abcdef", "documents": documents(),
                "director": {
                    "url": "https://127.0.0.1:1", "ca": certificate, "client": "admin", "client_secret": "s3cret",
                },
                "agent_tls": {"ca": certificate, "certificate": certificate, "private_key": key.serialize_pem()},
            },
        });
        Fixture { directory, config, _port: port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Run with the configuration, and return the complaint.
    fn complaint(&self, config: &Value) -> String {
        let path = self.path("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        complaint(&path)
    }
}

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn complaint(config: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_mysql-broker");
    let output = Command::new(program).arg("--config").arg(config).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it runs: {complaint}");
    for secret in ["p4ssw0rd", "s3cret", "0123456789abcdef", "PRIVATE KEY"] {
        assert!(!complaint.contains(secret), "{complaint}");
    }
    complaint
}

fn expect(complaint: &str, words: &str) {
    assert!(complaint.contains(words), "`{words}` is missing in: {complaint}");
}

#[test]
fn a_missing_file_and_a_taken_port_are_named() {
    let fixture = Fixture::new();
    expect(&complaint(&fixture.path("none.json")), "none.json: No such file");
    expect(&fixture.complaint(&fixture.config), "Address already in use");
    let mut config = fixture.config.clone();
    let taken = config["properties"]["port"].clone();
    set(&mut config, "/properties/witness_port", taken);
    set(&mut config, "/properties/port", json!(0));
    expect(&fixture.complaint(&config), "(property `witness_port`): Address already in use");
}

#[test]
fn a_property_that_cannot_be_used_is_named() {
    let fixture = Fixture::new();
    for (pointer, value, words) in
        [("/properties/port", json!("many"), "expected u16"), ("/properties/prot", json!(1), "unknown field `prot`")]
    {
        let mut config = fixture.config.clone();
        set(&mut config, pointer, value);
        expect(&fixture.complaint(&config), words);
    }
    for (pointer, value, words) in [
        ("/properties/director/url", json!("http://127.0.0.1"), "must start with https://"),
        ("/properties/director/ca", json!("none"), "`director.ca` holds no certificate"),
        ("/properties/agent_tls/private_key", json!("none"), "`agent_tls`"),
        ("/properties/encryption_key", json!("short"), "at least 16 characters"),
        ("/properties/documents", json!("/nowhere"), "/nowhere/catalog.yml"),
    ] {
        let mut config = fixture.config.clone();
        set(&mut config, "/properties/port", json!(0));
        set(&mut config, pointer, value);
        expect(&fixture.complaint(&config), words);
    }
}

#[test]
fn a_catalog_that_names_an_unknown_or_missing_topology_is_refused() {
    let fixture = Fixture::new();
    let catalog = std::fs::read_to_string(documents().join("catalog.yml")).unwrap();
    let mut config = fixture.config.clone();
    set(&mut config, "/properties/port", json!(0));
    set(&mut config, "/properties/documents", json!(fixture.directory.path()));

    std::fs::write(fixture.path("catalog.yml"), &catalog).unwrap();
    expect(&fixture.complaint(&config), "single-node.yml of plan `db-single`: No such file");

    let unknown = catalog.replace("topology: single-node", "topology: galera");
    std::fs::write(fixture.path("catalog.yml"), unknown).unwrap();
    expect(&fixture.complaint(&config), "unknown variant `galera`, expected `single-node` or `leader-follower`");
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[key] = value;
}
