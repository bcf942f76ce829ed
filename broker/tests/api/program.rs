//! Starts the broker, and speaks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const SERVICE: &str = "7b7d8c3e-6f0e-4f6b-9a0d-3c0f5d4f1a10";
pub(crate) const SINGLE: &str = "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21";

/// What no answer and no line of the log may hold.
pub(crate) const SECRETS: [&str; 4] = ["p4ssw0rd", "s3cret", "0123456789abcdef", "PRIVATE KEY"];

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that runs, for a director that nobody answers for.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    directory: TempDir,
}

/// What it has written.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
pub(crate) fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

impl Broker {
    pub(crate) fn start() -> Broker {
        Broker::start_with(|_| {})
    }

    /// Start it with other properties.
    pub(crate) fn start_with(change: impl FnOnce(&mut Value)) -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let documents = directory.path().join("documents");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests"), &documents);
        let mut config = config(directory.path());
        change(&mut config["properties"]);
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mysql-broker"))
            .arg("--config")
            .arg(directory.path().join("config.json"))
            .env("RUST_LOG", "debug,sqlx=info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let keep = Arc::clone(&log);
        thread::spawn(move || keep.follow(stderr));
        let line = log.wait_for("mysql-broker listens address=");
        let address = line.rsplit_once("address=").unwrap().1.trim().parse().unwrap();
        Broker { child, address, log, directory }
    }

    /// A file of the broker's: `config.json`, `documents/catalog.yml`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Send these bytes, and read until the broker closes the connection. Nothing, where it never answered.
    pub(crate) fn send(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // It may have had enough before the end.
        let _ = stream.write_all(bytes);
        read_answer(&mut stream)
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, path, &[], body).as_bytes()).expect("an answer")
    }

    pub(crate) fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    /// The first line of the log with these words, when it comes.
    pub(crate) fn wait_for_line(&self, words: &str) -> String {
        self.log.wait_for(words)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Wait for the end of the process, which must be a good one.
    pub(crate) fn wait_for_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return assert!(status.success(), "{status}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn follow(&self, lines: impl BufRead) {
        for line in lines.lines() {
            let line = line.unwrap_or_else(|error| format!("not a line of text: {error}"));
            *self.text.lock().unwrap() += &(line + "\n");
            self.grown.notify_all();
        }
    }

    fn wait_for(&self, words: &str) -> String {
        let text = self.text.lock().unwrap();
        let is_absent = |text: &mut String| !text.contains(words);
        let (text, _) = self.grown.wait_timeout_while(text, PATIENCE, is_absent).unwrap();
        let line = text.lines().find(|line| line.contains(words));
        line.unwrap_or_else(|| panic!("the log never says `{words}`: {text}")).to_owned()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A request that any broker would take, with more headers; the answer ends the connection.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &str) -> String {
    let credentials = STANDARD.encode("broker:p4ssw0rd");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\
         X-Broker-API-Version: 2.17\r\n"
    );
    for header in headers {
        head += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    format!("{head}\r\n{body}")
}

/// Everything up to the end of the connection, as one answer.
pub(crate) fn read_answer(stream: &mut impl Read) -> Option<Answer> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it hangs");
    }
    let text = String::from_utf8(bytes).expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.into(), body: body.into() })
}

fn config(root: &Path) -> Value {
    let (certificate, key) = certificate();
    json!({
        "spec": {
            "deployment": "mysql-broker", "name": "broker", "id": "b-1", "index": 0, "az": "z3",
            "ip": "127.0.0.1", "root": root,
        },
        "properties": {
            "port": 0, "witness_port": 0, "username": "broker", "password": "p4ssw0rd",
            "encryption_key": "0123456789abcdef", "documents": root.join("documents"),
            "director": {"url": "https://127.0.0.1:1", "ca": certificate, "client": "admin", "client_secret": "s3cret"},
            "agent_tls": {"ca": certificate, "certificate": certificate, "private_key": key},
        },
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        // The BOSH release's own folder is no document.
        if file.path().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}
