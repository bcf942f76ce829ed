//! What must not happen: two histories, two writable servers, or a leader without the newest transactions.

use std::time::Duration;

use agent::api::{Command, Receiver, Role};
use agent::client::VoterClient;
use agent::quorum::{Answer, Ballot, Record};

use crate::authority::authority;
use crate::family;
use crate::pair::{configured, go_on, in_step, reaches, received_only, run};
use crate::vm::{DEPLOYMENT, NAME, Vm, signal, user};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)";

/// Hand over by the runbook from the first to the second, where a row is written that the first one lacks.
async fn moved() -> (Vm, Vm) {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    run(&first, Command::MakeReadOnly).await.unwrap();
    first.stop();
    run(&second, Command::MakeLeader).await.unwrap();
    second.sql("INSERT INTO d.t VALUES (2)").await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_made_during_a_hand_over_are_on_both_servers_or_on_neither() {
    let (first, second) = configured().await;
    let clients = [first.client.clone(), second.client.clone(), first.client.clone()];
    let makers = clients.into_iter().enumerate().map(|(maker, client)| {
        tokio::spawn(async move {
            for number in 0..60 {
                let _ = client.put_user(&format!("user-{maker}-{number}"), &user("p")).await;
            }
        })
    });
    let makers: Vec<_> = makers.collect();

    for leader in [&first, &second, &first] {
        run(leader, Command::Switchover).await.unwrap();
    }
    for maker in makers {
        maker.await.unwrap();
    }

    in_step(&second, &first).await;
    let count = "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'user-%'";
    assert_eq!(first.number(count).await, second.number(count).await);
}

/// As after a full disk: the one that is chosen has not kept its own vote.
#[tokio::test]
async fn a_follower_hears_that_the_other_server_has_voted_for_it() {
    let (first, second) = configured().await;
    in_step(&first, &second).await;
    run(&first, Command::MakeReadOnly).await.unwrap();
    let Record { epoch, .. } = first.witness.as_ref().unwrap().record();

    let ballot = Ballot { epoch: epoch + 1, leader: "mysql/id-1".into(), is_canvass: false };
    let voter = VoterClient::agent(first.address.parse().unwrap(), DEPLOYMENT, &authority().issue(NAME)).unwrap();
    let answer = voter.vote(&ballot, Duration::from_secs(5)).await.unwrap();

    assert!(matches!(answer, Answer::Granted(_)), "{answer:?}");
    second.until("the leader", |status| status.role == Role::Leader).await;
    first.until("its follower", |status| status.role == Role::Follower).await;
}

#[tokio::test]
async fn a_password_is_not_in_the_binary_log() {
    let (first, _second) = configured().await;

    first.client.put_user("binding", &user("s3cretp4ss")).await.unwrap();
    first.client.put_user("binding", &user("s3cretp4ss")).await.unwrap();

    assert!(first.connect("binding", &user("s3cretp4ss")).await.is_ok());
    for entry in std::fs::read_dir(first.root().join("store/mysql/data")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("mysql-bin") {
            let log = std::fs::read(entry.path()).unwrap();
            assert!(!log.windows(10).any(|bytes| bytes == b"s3cretp4ss"), "{:?}", entry.path());
        }
    }
}

#[tokio::test]
async fn a_leader_that_returns_waits_for_a_frozen_one() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    first.stop();
    run(&second, Command::MakeLeader).await.unwrap();

    signal(second.server_pid().unwrap(), "-STOP");
    first.start();
    first.until_logged("not recovered yet").await;
    assert!(first.status().await.unwrap().read_only);
    signal(second.server_pid().unwrap(), "-CONT");

    first.until("a follower", |status| status.role == Role::Follower).await;
    assert_eq!(second.status().await.unwrap().role, Role::Leader);
}

#[tokio::test]
async fn a_stale_leader_that_returns_does_not_lead_while_the_new_one_starts_again() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    first.stop();
    run(&second, Command::MakeLeader).await.unwrap();
    second.sql("INSERT INTO d.t VALUES (2)").await;

    second.kill_server();
    first.start();

    second.until("the leader again", |status| status.role == Role::Leader).await;
    first.until("a follower", |status| status.role == Role::Follower).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 2);
}

#[tokio::test]
async fn a_demoted_server_does_not_lead_again_by_itself() {
    let (mut first, mut second) = moved().await;
    second.kill();
    first.start();

    assert!(first.until_left_read_only().await.read_only);

    second.recreate();
    second.until("the leader again", |status| status.role == Role::Leader).await;
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 2);
}

#[tokio::test]
async fn a_prepared_xa_transaction_survives_a_restart_and_a_promotion() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    let mut session = first.admin().await;
    let prepare = sqlx::raw_sql("XA START 'a'; INSERT INTO d.t VALUES (7); XA END 'a'; XA PREPARE 'a'");
    let prepared = async || {
        sqlx::Executor::execute(&mut session, prepare).await.unwrap();
    };
    let wanted = received_only(&first, &second, prepared).await;
    first.kill();
    let before = second.server_pid();
    second.kill_server();
    go_on(&second);
    second.until("another server", |_| second.server_pid().is_some_and(|pid| Some(pid) != before)).await;

    run(&second, Command::MakeLeader).await.unwrap();

    let executed = second.status().await.unwrap().gtid_executed;
    assert!(reaches(&executed, &wanted), "{executed} {wanted}");
    second.sql("XA COMMIT 'a'").await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t WHERE i=7").await, 1);
}

#[tokio::test]
async fn what_only_a_relay_log_holds_is_not_given_up_for_an_empty_server() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    received_only(&first, &second, async || first.sql("INSERT INTO d.t VALUES (2)").await).await;
    first.replace_disk();
    let before = second.server_pid();
    second.kill_server();
    go_on(&second);
    second.until("another server", |_| second.server_pid().is_some_and(|pid| Some(pid) != before)).await;
    first.start();
    first.until_up().await;

    let refusal = run(&first, Command::ConfigureLeaderFollower).await.unwrap_err();
    assert!(refusal.contains("Run make-leader on it"), "{refusal}");

    run(&second, Command::MakeLeader).await.unwrap();
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 2);
}

#[tokio::test]
async fn a_promotion_that_was_cut_off_at_its_end_is_finished() {
    let (mut first, mut second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    first.kill();
    second.until("a lost leader", |status| status.replication.as_ref().unwrap().receiver == Receiver::Connecting).await;
    run(&second, Command::MakeLeader).await.unwrap();
    second.kill_agent();
    // As if the agent had died right behind `read_only=0`.
    second.sql(&family::follow(&first.address)).await;

    second.start();

    second.until("a leader without a source", |status| status.role == Role::Leader).await;
}
