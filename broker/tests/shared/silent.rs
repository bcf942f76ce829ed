//! A PostgreSQL server of one test's own, with all its processes, which can be stopped in their tracks.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, Row};

const LIMIT: Duration = Duration::from_secs(30);

/// A server that runs.
pub(crate) struct Postgres {
    script: Child,
    /// Its end is the server's.
    stdin: Option<ChildStdin>,
    authority: String,
    password: String,
    postmaster: i32,
}

impl Postgres {
    /// None where no server was asked for.
    pub(crate) async fn start() -> Option<Postgres> {
        if std::env::var("TANDEM_POSTGRES").is_err() {
            eprintln!(
                "NOT TESTED: a silent PostgreSQL; run tests/with-postgres.sh cargo test --workspace --test shared"
            );
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/with-postgres.sh");
        let says = "echo $TANDEM_POSTGRES $TANDEM_POSTGRES_PASSWORD; read -r _";
        let mut command = Command::new(script);
        let command = command.args(["sh", "-c", says]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (server, password) = line.trim().split_once(' ').unwrap();
        let authority = server.trim_start_matches("postgres://postgres@").to_owned();
        let stdin = script.stdin.take();
        let mut postgres = Postgres { script, stdin, authority, password: password.to_owned(), postmaster: 0 };
        let first = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int";
        postgres.postmaster = postgres.connect().await.fetch_one(first).await.unwrap().get(0);
        Some(postgres)
    }

    /// The property `state_database`.
    pub(crate) fn property(&self) -> Value {
        json!({"url": format!("postgres://postgres@{}/postgres", self.authority), "password": self.password})
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        let url = format!("postgres://postgres:{}@{}/postgres", self.password, self.authority);
        PgConnection::connect(&url).await.unwrap()
    }

    /// Wait until so many are counted.
    pub(crate) async fn wait_for(&self, count: i64, sql: &'static str) {
        let (mut db, started) = (self.connect().await, Instant::now());
        while db.fetch_one(sql).await.unwrap().get::<i64, _>(0) < count {
            assert!(started.elapsed() < LIMIT, "not in time: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every process stops. The kernel goes on to take connections and bytes for them.
    pub(crate) fn fall_silent(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// The first one first: it makes no other then.
    fn signal(&self, signal: Signal) {
        for pid in std::iter::once(self.postmaster).chain(children_of(self.postmaster)) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.postmaster != 0 {
            self.go_on();
        }
        drop(self.stdin.take());
        let _ = self.script.wait();
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // The parent is the second field behind the name, which ends with the last bracket.
    let parent_of = |pid: &i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    all.filter(|pid| parent_of(pid) == Some(parent)).collect()
}
