//! A pair that loses something: its leader, a server, an agent; and how it becomes whole again.

use std::time::Instant;

use agent::api::{Command, Receiver, Role, Status};
use sqlx::Executor;

use crate::family;
use crate::pair::{configured, go_on, in_step, reaches, received_only, run, started};

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
    let waited =
        lines.iter().take_while(|line| line.starts_with("Waiting until the old leader's lease has run out")).count();
    assert_eq!(
        lines[waited..],
        ["Requesting instance to be configured as leader", "Instance successfully configured as leader"]
    );
    assert_eq!(run(&second, Command::MakeLeader).await.unwrap(), ["Instance successfully configured as leader"]);
    second.sql("INSERT INTO d.t VALUES (3)").await;
    let alone = run(&second, Command::MakeReadOnly).await.unwrap_err();
    assert!(alone.starts_with(&format!("failed to fetch status of peer ({})", first.address)), "{alone}");

    // The new leadership was laid down, so nobody leads until somebody says so.
    first.recreate();
    first.until_logged("not recovered yet: the leader is not writable yet").await;
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
    let two = "INSERT INTO d.t VALUES (3); INSERT INTO d.t VALUES (4)";
    let wanted = received_only(&first, &second, async || first.sql(two).await).await;

    first.kill();
    go_on(&second);
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

/// A follower that has come back has not reached the leader yet when that dies: it must not go on waiting for it.
#[tokio::test]
async fn a_follower_that_still_waits_for_its_leader_can_be_promoted() {
    let (mut first, mut second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    received_only(&first, &second, async || first.sql("INSERT INTO d.t VALUES (3)").await).await;
    second.kill();
    // It does not come through to the leader's server, whose agent it reaches.
    first.sql("SET SESSION sql_log_bin=0; ALTER USER 'replication'@'%' ACCOUNT LOCK").await;

    second.start();
    second.until_logged("Applying the transactions that were received before the last restart").await;
    let waits =
        |status: &Status| status.replication.as_ref().is_some_and(|channel| channel.receiver == Receiver::Connecting);
    second.until("a follower that waits", waits).await;
    first.kill();

    run(&second, Command::MakeLeader).await.unwrap();
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 3);
}

#[tokio::test]
async fn a_diverged_server_that_nobody_replaced_is_never_overwritten() {
    let (first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    let shared = second.status().await.unwrap().gtid_executed;
    second.sql("STOP REPLICA; RESET REPLICA ALL").await;
    second.write_anyway("INSERT INTO d.t VALUES (20)").await;

    let kept = second.until_left_read_only().await.gtid_executed;
    let refusal = run(&first, Command::ConfigureLeaderFollower).await.unwrap_err();

    assert!(
        refusal.starts_with("Unable to determine leader and follower. Leader and follower data have diverged."),
        "{refusal}"
    );
    // Both histories: what both have, and what only the second one has.
    assert!(refusal.contains(&format!("GTID executed {kept}")), "{kept}: {refusal}");
    let origin = second.text(family::origin()).await;
    assert!(reaches(&kept, &shared) && kept.contains(&origin), "{shared} and {origin}: {kept}");
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t WHERE i=20").await, 1);
    let status = second.status().await.unwrap();
    assert!(status.read_only && status.saved.is_empty(), "{status:?}");
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
    let before = first.status().await.unwrap().record;

    first.stop();
    run(&second, Command::MakeLeader).await.unwrap();
    first.start();

    let back = first.until("a follower", |status| status.role == Role::Follower).await;
    assert!(back.record.epoch > before.epoch, "{back:?}");
    assert_eq!(back.record.leader, Some(second.status().await.unwrap().instance));
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
async fn a_leader_without_its_agent_is_dead_before_its_successor_opens() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    let server = first.server_pid().unwrap();
    let mut writer = first.admin().await;

    first.kill_agent();
    let (last, promoted) = tokio::join!(
        async {
            while writer.execute("REPLACE INTO d.t VALUES (9)").await.is_ok() {}
            Instant::now()
        },
        async {
            run(&second, Command::MakeLeader).await.unwrap();
            Instant::now()
        }
    );

    assert!(last < promoted, "the old leader took writes until {:?} behind the promotion", last - promoted);
    assert!(!std::path::Path::new(&format!("/proc/{server}/exe")).exists());
}

#[tokio::test]
async fn a_leader_that_nobody_confirms_turns_read_only_and_comes_back_by_itself() {
    let (first, mut second) = configured().await;
    first.sql(TABLE).await;
    let witness = first.witness.clone().unwrap();

    // One of the two is enough.
    second.kill();
    first.sql("INSERT INTO d.t VALUES (3)").await;
    first.until("a renewed lease", |status| status.lease_ms.is_some_and(|left| left > 1_800)).await;
    assert!(!first.status().await.unwrap().read_only);
    witness.fall_silent();
    first.until("a read-only server", |status| status.read_only).await;

    witness.answer();
    first.until("a leader", |status| status.role == Role::Leader).await;
    first.sql("INSERT INTO d.t VALUES (4)").await;
}

#[tokio::test]
async fn nobody_is_promoted_while_nobody_can_say_whether_the_leader_lives() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    second.witness.as_ref().unwrap().fall_silent();
    first.kill();

    let refusal = run(&second, Command::MakeLeader).await.unwrap_err();
    assert!(refusal.starts_with("Refusing to promote to avoid data divergence."), "{refusal}");
    assert!(refusal.contains("then run force-make-leader"), "{refusal}");
    assert!(second.status().await.unwrap().read_only);

    let lines = run(&second, Command::ForceMakeLeader).await.unwrap();
    assert!(lines.iter().any(|line| line.starts_with("FORCED to lead under epoch")), "{lines:?}");
    second.sql("INSERT INTO d.t VALUES (3)").await;
    assert_eq!(second.number("SELECT CAST(MAX(epoch) AS SIGNED) FROM replication_monitoring.leadership").await, 102);

    // The old leader follows, and the witness hears of it.
    second.witness.as_ref().unwrap().answer();
    first.recreate();
    first.until("a follower", |status| status.role == Role::Follower).await;
    in_step(&second, &first).await;
    let witness = second.witness.clone().unwrap();
    second.until("a witness that has heard of it", |_| witness.record().epoch == 102).await;
}
