//! A leader that is gone, and a follower that takes over without being asked, or says why it does not.

use std::time::{Duration, Instant};

use agent::api::{Command, Role, Status};
use serde_json::{Value, json};

use crate::pair::{go_on, in_step, received_only, run};
use crate::vm::{PATIENCE, Vm, deployment, signal};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)";
/// The lease of the pairs of these tests.
const LEASE: Duration = Duration::from_secs(3);
/// A failover is decided in milliseconds, on a machine that does nothing else.
const DECISION: Duration = Duration::from_secs(1);
const NEIGHBOURS: Duration = Duration::from_secs(4);

/// A pair in step, the first one leading, both agents long enough at work to decide something.
async fn pair(properties: &Value) -> (Vm, Vm) {
    let mut vms = deployment(2);
    vms.iter().for_each(|vm| configure(vm, properties));
    vms.iter_mut().for_each(Vm::start);
    let begun = Instant::now();
    let (second, first) = (vms.pop().unwrap(), vms.pop().unwrap());
    tokio::join!(first.until_up(), second.until_up());
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    until_heartbeat(&second).await;
    second.until("some time", |_| begun.elapsed() > LEASE * 3 + DECISION).await;
    (first, second)
}

fn configure(vm: &Vm, properties: &Value) {
    let mut config: Value = serde_json::from_slice(&std::fs::read(vm.config()).unwrap()).unwrap();
    for (name, value) in properties.as_object().unwrap() {
        config["properties"][name] = value.clone();
    }
    std::fs::write(vm.config(), config.to_string()).unwrap();
}

async fn until_heartbeat(follower: &Vm) {
    let has_one =
        |status: &Status| status.replication.as_ref().is_some_and(|it| it.seconds_since_leader_heartbeat.is_some());
    follower.until("a heartbeat", has_one).await;
}

fn lossy() -> Value {
    json!({"failover": "automatic", "max_failover_loss_in_seconds": 30})
}

async fn failovers(vm: &Vm, kind: &str) -> i64 {
    vm.number(&format!("SELECT COUNT(*) FROM replication_monitoring.failovers WHERE kind='{kind}'")).await
}

async fn until_recommended(vm: &Vm, words: &str) {
    let begun = Instant::now();
    loop {
        let verdict = vm.client.inspection().await.map(|inspection| inspection.verdict);
        match verdict {
            Ok(verdict) if verdict.next_action.as_ref().is_some_and(|next| next.contains(words)) => {
                assert!(!verdict.healthy);
                return;
            }
            verdict => assert!(begun.elapsed() < Duration::from_secs(30), "{words:?} is not recommended: {verdict:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_lost_leader_is_replaced_once_and_comes_back_as_the_follower() {
    let (mut first, mut second) = pair(&lossy()).await;

    first.kill();
    let begun = Instant::now();
    second.until("a leader", |status| status.role == Role::Leader).await;
    let took = begun.elapsed();
    println!(
        "writable {} ms after the loss of the leader's VM, with a lease of {} ms",
        took.as_millis(),
        LEASE.as_millis()
    );
    assert!(took < LEASE + DECISION + NEIGHBOURS, "{took:?}");
    second.sql("INSERT INTO d.t VALUES (3)").await;
    second.until_number("SELECT COUNT(*) FROM replication_monitoring.failovers WHERE kind='automatic' AND `from`='mysql/id-0' AND `to`='mysql/id-1' AND why LIKE '%silent since%'", 1).await;

    first.start();
    first.until("a follower", |status| status.role == Role::Follower).await;
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 3);

    // What the history tells keeps the other one from doing the same.
    until_heartbeat(&first).await;
    let begun = Instant::now();
    first.until("some time", |_| begun.elapsed() > LEASE * 3).await;
    second.kill();
    until_recommended(&first, "because the last automatic failover was").await;
    assert!(first.status().await.unwrap().read_only);

    // A human is not held back.
    run(&first, Command::MakeLeader).await.unwrap();
    first.until_number("SELECT COUNT(*) FROM replication_monitoring.failovers WHERE kind='manual'", 1).await;
    assert_eq!(failovers(&first, "automatic").await, 1);
}

#[tokio::test]
async fn a_leader_that_only_its_follower_does_not_hear_stays() {
    let (first, second) = pair(&lossy()).await;

    // As a broken link between the two: replication breaks off, and the witness goes on hearing of the leader.
    second.sql("STOP SLAVE IO_THREAD").await;
    signal(first.agent_pid(), "-STOP");
    let begun = Instant::now();
    second.until("some time", |_| begun.elapsed() > LEASE / 2).await;
    signal(first.agent_pid(), "-CONT");
    second.until("some time", |_| begun.elapsed() > LEASE * 3).await;

    assert_eq!(first.status().await.unwrap().role, Role::Leader);
    assert!(second.status().await.unwrap().read_only);
    assert_eq!(failovers(&first, "automatic").await, 0);
}

#[tokio::test]
async fn without_being_told_to_the_follower_only_says_what_to_do() {
    let (mut first, second) = pair(&json!({})).await;

    first.kill();

    until_recommended(&second, "its lease has run out at the witness: run make-leader on this server").await;
    second.until_logged("its lease has run out at the witness: run make-leader on this server").await;
    assert!(second.status().await.unwrap().read_only);
    run(&second, Command::MakeLeader).await.unwrap();
    second.until_number("SELECT COUNT(*) FROM replication_monitoring.failovers WHERE kind='manual'", 1).await;
}

#[tokio::test]
async fn a_dead_server_with_a_living_agent_is_replaced_at_once_and_comes_back_as_the_follower() {
    let (first, second) = pair(&lossy()).await;

    let took = take_over(&first, &second).await;

    println!("written {} ms after the death of the leader's server", took.as_millis());
    assert!(took < LEASE, "{took:?}");
    let why = "SELECT COUNT(*) FROM replication_monitoring.failovers WHERE kind='automatic' AND why LIKE '%has died%'";
    second.until_number(why, 1).await;
    first.until("a follower", |status| status.role == Role::Follower).await;
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 3);

    // The other one does not do the same so soon: the server starts again and goes on to lead.
    let epoch = second.status().await.unwrap().record.epoch;
    first.until_number(&format!("SELECT COUNT(*) FROM replication_monitoring.heartbeat WHERE epoch={epoch}"), 1).await;
    second.kill_server();
    second.until_logged("has no successor").await;
    second.until_logged("because the last automatic failover was").await;
    second.until("a leader", |status| status.role == Role::Leader).await;
    in_step(&second, &first).await;
}

#[tokio::test]
async fn a_dead_server_is_replaced_at_once_in_sync_mode_too() {
    let (first, second) = pair(&json!({"failover": "automatic", "replication_mode": "semi-sync"})).await;
    first.until("sync", |status| status.semi_sync.as_ref().is_some_and(|sync| sync.in_sync)).await;

    let took = take_over(&first, &second).await;

    println!("written {} ms after the death of the leader's server", took.as_millis());
    assert!(took < LEASE, "{took:?}");
    first.until("a follower", |status| status.role == Role::Follower).await;
    second.until("sync", |status| status.semi_sync.as_ref().is_some_and(|sync| sync.in_sync)).await;
}

#[tokio::test]
async fn a_dead_server_starts_again_where_its_follower_is_not_fit() {
    let (first, second) = pair(&lossy()).await;
    received_only(&first, &second, async || first.sql("INSERT INTO d.t VALUES (4)").await).await;

    first.kill_server();
    go_on(&second);

    first.until_logged("has no successor").await;
    first.until("a leader", |status| status.role == Role::Leader).await;
    first.sql("INSERT INTO d.t VALUES (3)").await;
    assert_eq!(failovers(&first, "automatic").await, 0);
    in_step(&first, &second).await;
}

/// Kill the leader's server; says when the follower has acknowledged a row after that.
async fn take_over(leader: &Vm, follower: &Vm) -> Duration {
    let mode = leader.status().await.unwrap().replication_mode;
    let mut session = follower.admin().await;
    let (first, mut begun) = (Instant::now(), Instant::now());
    leader.kill_server();
    // The administrator passes `read_only`, and must not here.
    let insert = "INSERT INTO d.t SELECT 3 FROM DUAL WHERE @@read_only=0";
    loop {
        let written = sqlx::Executor::execute(&mut session, sqlx::raw_sql(insert)).await;
        if written.is_ok_and(|done| done.rows_affected() == 1) {
            return begun.elapsed();
        }
        assert!(first.elapsed() < PATIENCE, "the follower does not lead");
        // On a busy machine the follower may not say in time that it is fit. The leader goes on then, and dies again.
        let goes_on = |status: Status| status.role == Role::Leader && status.replication_mode == mode;
        if begun.elapsed() > LEASE && leader.status().await.is_some_and(goes_on) {
            begun = Instant::now();
            leader.kill_server();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// By its follower; or by itself, where the follower does not say in time that it is fit.
#[tokio::test]
async fn a_leader_that_hangs_is_killed_and_replaced() {
    let (first, second) = pair(&lossy()).await;
    let before = first.server_pid().unwrap();
    signal(before, "-STOP");

    let begun = Instant::now();
    first.until("another server", |_| first.server_pid().is_some_and(|pid| pid != before)).await;
    let leads = |status: Option<Status>| status.is_some_and(|status| status.role == Role::Leader);
    let (leader, follower) = loop {
        match (leads(first.status().await), leads(second.status().await)) {
            (false, true) => break (&second, &first),
            (true, false) => break (&first, &second),
            (_, _) => assert!(begun.elapsed() < PATIENCE, "nobody leads"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };

    println!("{} leads {} ms after the leader was frozen", leader.address, begun.elapsed().as_millis());
    leader.sql("INSERT INTO d.t VALUES (3)").await;
    in_step(leader, follower).await;
    assert_eq!(follower.number("SELECT COUNT(*) FROM d.t").await, 3);
}

#[tokio::test]
async fn a_leader_that_hangs_is_left_to_an_operator_who_is_told() {
    let (first, second) = pair(&json!({})).await;
    let before = first.server_pid();
    signal(before.unwrap(), "-STOP");

    until_recommended(&second, "Run failover on mysql/id-1").await;

    assert_eq!(first.server_pid(), before);
    signal(before.unwrap(), "-CONT");
    in_step(&first, &second).await;
}
