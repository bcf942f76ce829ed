//! Crashes at any moment of a hand-over, with a client that writes all the time: what it was told is kept, and the pair can
//! always be made whole again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::api::{Command, Role};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor, Row};
use tokio::task::JoinHandle;

use crate::pair::{configured, in_step, run};
use crate::vm::{Vm, user};

/// A client with a session on each server, which goes to the other one when one does not take its row.
struct Writer {
    ends: Arc<AtomicBool>,
    acknowledged: JoinHandle<BTreeSet<i64>>,
}

impl Writer {
    async fn start(first: &Vm, second: &Vm) -> Writer {
        let ends = Arc::new(AtomicBool::new(false));
        let connect = async |vm: &Vm| vm.connect("binding", &user("p")).await.unwrap();
        let mut sessions = [connect(first).await, connect(second).await];
        let addresses = [first.address.clone(), second.address.clone()];
        let until = ends.clone();
        let acknowledged = tokio::spawn(async move {
            let (mut rows, mut row, mut at) = (BTreeSet::new(), 0, 0);
            while !until.load(Ordering::Relaxed) {
                row += 1;
                if insert(&mut sessions[at], row).await {
                    rows.insert(row);
                    continue;
                }
                at = 1 - at;
                tokio::time::sleep(Duration::from_millis(1)).await;
                if let Ok(session) = crate::vm::connect(&addresses[at], "binding", &user("p")).await {
                    sessions[at] = session;
                }
            }
            rows
        });
        Writer { ends, acknowledged }
    }

    async fn end(self) -> BTreeSet<i64> {
        self.ends.store(true, Ordering::Relaxed);
        self.acknowledged.await.unwrap()
    }
}

async fn insert(session: &mut MySqlConnection, row: i64) -> bool {
    let statement = sqlx::raw_sql(AssertSqlSafe(format!("INSERT INTO t VALUES ({row})")));
    session.execute(statement).await.is_ok()
}

async fn stored(vm: &Vm) -> BTreeSet<i64> {
    let rows = vm.admin().await.fetch_all(sqlx::raw_sql("SELECT i FROM service_db.t")).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn with_table() -> (Vm, Vm) {
    let (first, second) = configured().await;
    first.client.put_user("binding", &user("p")).await.unwrap();
    first.sql("CREATE TABLE service_db.t (i BIGINT PRIMARY KEY)").await;
    in_step(&first, &second).await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_row_survives_hand_overs() {
    let (first, second) = with_table().await;
    let writer = Writer::start(&first, &second).await;

    for leader in [&first, &second, &first, &second] {
        run(leader, Command::Switchover).await.unwrap();
    }
    let acknowledged = writer.end().await;

    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    in_step(&first, &second).await;
    for vm in [&first, &second] {
        let stored = stored(vm).await;
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_middle_of_a_hand_over_loses_nothing() {
    let (mut first, mut second) = with_table().await;
    let writer = Writer::start(&first, &second).await;

    for round in 0..10_u64 {
        let client = if is_leader(&first).await { first.client.clone() } else { second.client.clone() };
        let hand_over = tokio::spawn(async move { client.command(Command::Switchover, |_| {}).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(3 + 9 * round)).await;
        let crashing = if round % 2 == 0 { &mut first } else { &mut second };
        match round % 3 {
            0 => crashing.kill_server(),
            _ => crashing.kill_agent(),
        }
        if round % 3 != 0 {
            crashing.start();
        }
        let _ = hand_over.await;
        make_whole(&first, &second).await;
    }
    let acknowledged = writer.end().await;

    let (leader, follower) = if is_leader(&first).await { (&first, &second) } else { (&second, &first) };
    in_step(leader, follower).await;
    let (on_first, on_second) = (stored(&first).await, stored(&second).await);
    let lost: Vec<_> = acknowledged.difference(&on_first).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(on_first, on_second);
}

async fn is_leader(vm: &Vm) -> bool {
    vm.until_up().await.role == Role::Leader
}

/// What an operator does after a crash.
async fn make_whole(first: &Vm, second: &Vm) {
    tokio::join!(first.until_up(), second.until_up());
    let mut refusal = String::new();
    for _ in 0..20 {
        match run(first, Command::ConfigureLeaderFollower).await {
            Ok(_) => return,
            Err(why) => refusal = why,
        }
        // The other agent may still be busy with what was cut off here.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{refusal}\n{:?}\n{:?}", first.status().await, second.status().await);
}
