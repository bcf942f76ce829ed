//! A pair that loses something: its leader, a server, an agent; and how it becomes whole again.

use agent::api::{Command, Receiver, Role};
use sqlx::Executor;

use crate::pair::{configured, in_step, reaches, run, started, until_received};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)";

#[tokio::test]
async fn the_follower_takes_over_from_a_dead_leader_and_the_leader_comes_back() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    let refusal = run(&second, Command::MakeLeader).await.unwrap_err();
    assert!(refusal.starts_with("Leader VM is still accessible from the follower."), "{refusal}");
    assert!(second.status().await.unwrap().read_only);

    first.kill();
    second.until("a lost leader", |status| status.replication.as_ref().unwrap().receiver == Receiver::Connecting).await;
    let lines = run(&second, Command::MakeLeader).await.unwrap();
    assert_eq!(lines, ["Requesting instance to be configured as leader", "Instance successfully configured as leader"]);
    assert_eq!(run(&second, Command::MakeLeader).await.unwrap(), ["Instance successfully configured as leader"]);
    second.sql("INSERT INTO d.t VALUES (3)").await;
    let alone = run(&second, Command::MakeReadOnly).await.unwrap_err();
    assert!(alone.starts_with(&format!("failed to fetch status of peer ({})", first.address)), "{alone}");

    first.recreate();
    let back = first.until_left_read_only().await;
    assert!(back.read_only && !back.replication_configured, "{back:?}");
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    in_step(&second, &first).await;
    assert_eq!(second.status().await.unwrap().role, Role::Leader);
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 3);
}

#[tokio::test]
async fn received_transactions_are_applied_before_the_promotion_even_after_a_restart() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    second.sql("STOP SLAVE SQL_THREAD").await;
    first.sql("INSERT INTO d.t VALUES (3); INSERT INTO d.t VALUES (4)").await;
    let wanted = until_received(&first, &second).await;

    first.kill();
    let refusal = run(&second, Command::MakeLeader).await.unwrap_err();
    assert!(
        refusal.starts_with("Replication settings exist on this instance and Slave SQL Thread is turned off."),
        "{refusal}"
    );

    // The restart loses what the server knows of its relay log, not the log.
    let before = second.server_pid();
    second.kill_server();
    second.until("another server", |_| second.server_pid().is_some_and(|pid| Some(pid) != before)).await;
    run(&second, Command::MakeLeader).await.unwrap();
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 4);
    let executed = second.status().await.unwrap().gtid_executed;
    assert!(reaches(&executed, &wanted), "{executed} {wanted}");
}

#[tokio::test]
async fn a_diverged_server_is_never_overwritten() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    second.sql("STOP SLAVE IO_THREAD").await;
    first.sql("INSERT INTO d.t VALUES (10)").await;
    first.kill();
    let shared = second.status().await.unwrap().gtid_executed;
    run(&second, Command::MakeLeader).await.unwrap();
    second.sql("INSERT INTO d.t VALUES (20)").await;

    first.recreate();
    let kept = first.until_up().await.gtid_executed;
    let refusal = run(&first, Command::ConfigureLeaderFollower).await.unwrap_err();

    assert!(
        refusal.starts_with("Unable to determine leader and follower. Leader and follower data have diverged."),
        "{refusal}"
    );
    // Both histories: what only the first has, and what the second wrote on top of what both have.
    assert!(refusal.contains(&format!("GTID executed {kept}")), "{kept}: {refusal}");
    assert!(refusal.contains(&format!("GTID executed {shared},0-2-")), "{shared}: {refusal}");
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t WHERE i=10").await, 1);
    assert!(first.status().await.unwrap().read_only);
}

#[tokio::test]
async fn a_crashed_leader_is_writable_again_and_a_crashed_follower_follows_again() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;

    first.kill_server();
    first.until("a writable leader", |status| status.role == Role::Leader).await;
    first.sql("INSERT INTO d.t VALUES (3)").await;
    second.kill_server();
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 3);

    // The agent alone: the server stays, and stays writable.
    let server = first.server_pid();
    let mut session = first.admin().await;
    first.kill_agent();
    session.execute("INSERT INTO d.t VALUES (4)").await.unwrap();
    first.start();
    first.until("a writable leader", |status| status.role == Role::Leader).await;
    assert_eq!(first.server_pid(), server);
    in_step(&first, &second).await;
}

#[tokio::test]
async fn a_leader_that_was_replaced_does_not_come_back_writable() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;

    // Its run directory, and with it the marker, survives a stop.
    first.stop();
    run(&second, Command::MakeLeader).await.unwrap();
    first.start();
    let back = first.until_left_read_only().await;
    assert!(back.read_only && !first.has_role_marker(), "{back:?}");
    run(&second, Command::ConfigureLeaderFollower).await.unwrap();
    assert_eq!(first.status().await.unwrap().role, Role::Follower);
}

#[tokio::test]
async fn an_empty_server_does_not_become_the_leader_of_a_lost_one() {
    let (first, mut second) = started().await;
    second.kill();

    let refusal = run(&first, Command::MakeLeader).await.unwrap_err();

    assert!(refusal.starts_with("Refusing to promote to avoid data loss."), "{refusal}");
    assert!(first.status().await.unwrap().read_only);
}

#[tokio::test]
async fn a_leader_without_its_agent_still_counts() {
    let (mut first, mut second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    first.kill_agent();

    // Replication is cut as well, so that only the old leader's server itself can tell.
    second.sql("STOP SLAVE; RESET SLAVE ALL").await;
    let refusal = run(&second, Command::MakeLeader).await.unwrap_err();
    assert!(refusal.starts_with("Leader VM is still accessible from the follower."), "{refusal}");
    assert!(refusal.contains("is there and its server is writable or may be"), "{refusal}");

    second.kill();
    second.start();
    assert!(second.until_left_read_only().await.read_only);
    assert_eq!(first.number("SELECT @@read_only").await, 0);
}
