//! The built program, as often as a test wants it, on one PostgreSQL.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::director::Director;

pub(crate) const SERVICE: &str = "7b7d8c3e-6f0e-4f6b-9a0d-3c0f5d4f1a10";
pub(crate) const SINGLE: &str = "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21";
const LIMIT: Duration = Duration::from_secs(30);

/// A new database on the server that `tests/with-postgres.sh` started; none where it did not.
pub(crate) struct Database {
    pub(crate) authority: String,
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Database {
    pub(crate) async fn new(name: &str) -> Option<Database> {
        let Ok(server) = std::env::var("TANDEM_POSTGRES") else {
            eprintln!("NOT TESTED: several brokers; run tests/with-postgres.sh cargo test --workspace --test shared");
            return None;
        };
        let password = std::env::var("TANDEM_POSTGRES_PASSWORD").unwrap();
        let authority = server.trim_start_matches("postgres://postgres@").to_owned();
        let url = format!("postgres://postgres:{password}@{authority}/postgres");
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let name = format!("{name}_{}", std::process::id());
        admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        Some(Database { authority, name, password })
    }

    /// The property `state_database`, by way of the server itself or of something before it.
    pub(crate) fn property(&self, authority: &str) -> Value {
        json!({"url": format!("postgres://postgres@{authority}/{}", self.name), "password": self.password})
    }
}

/// A broker that runs; it is killed in the end.
pub(crate) struct Broker {
    process: Child,
    directory: TempDir,
    port: u16,
    http: reqwest::Client,
}

impl Broker {
    /// Start one whose BOSH instance, and whose client of the director, has this id.
    pub(crate) async fn start(id: &str, director: &Director, state_database: &Value) -> Broker {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = config(id, port, directory.path(), director, state_database);
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(LIMIT).build().unwrap();
        let process = spawn(directory.path());
        let broker = Broker { process, directory, port, http };
        broker.until("it answers", async || broker.call(Method::GET, "/v2/catalog", None).await.0 == 200).await;
        broker
    }

    /// As a crash and its supervisor do.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.directory.path());
    }

    /// Status and body; 0 where nobody answers.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.http.request(method, format!("http://127.0.0.1:{}{path}", self.port));
        let request = request.basic_auth("broker", Some("p4ssw0rd")).header("X-Broker-API-Version", "2.17");
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let Ok(response) = request.send().await else { return (0, Value::Null) };
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn create(&self, id: &str) -> (u16, Value) {
        let body = json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"});
        self.call(Method::PUT, &format!("/v2/service_instances/{id}?accepts_incomplete=true"), Some(body)).await
    }

    pub(crate) async fn delete(&self, id: &str) -> (u16, Value) {
        let query = format!("accepts_incomplete=true&service_id={SERVICE}&plan_id={SINGLE}");
        self.call(Method::DELETE, &format!("/v2/service_instances/{id}?{query}"), None).await
    }

    pub(crate) async fn poll(&self, id: &str) -> (u16, Value) {
        self.call(Method::GET, &format!("/v2/service_instances/{id}/last_operation"), None).await
    }

    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < LIMIT, "not in time: {what}; {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mysql-broker"));
    command.arg("--config").arg(directory.join("config.json"));
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn config(id: &str, port: u16, root: &Path, director: &Director, state_database: &Value) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["mysql-broker".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    json!({
        "spec": {
            "deployment": "mysql-broker", "name": "broker", "id": id, "index": 0, "az": "z3", "ip": "127.0.0.1", "root": root,
        },
        "properties": {
            "port": port, "witness_port": 0, "username": "broker", "password": "p4ssw0rd",
            "encryption_key": "0123456789abcdef", "state_database": state_database,
            "documents": Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests"),
            "director": {"url": director.url, "ca": director.ca, "client": id, "client_secret": "s3cret"},
            "agent_tls": {"ca": certificate, "certificate": certificate, "private_key": key.serialize_pem()},
        },
    })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
