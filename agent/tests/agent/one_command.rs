//! A failover in one command: said first, then done, whatever has become of the old leader.

use agent::api::{Command, Role};

use crate::pair::{configured, in_step, run};
use crate::vm::{Vm, signal};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)";

async fn rehearse(vm: &Vm, command: Command) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let done = vm.client.rehearse(command, |line| lines.push(line.to_owned())).await;
    done.map(|()| lines).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_failover_beside_a_living_leader_leaves_one_leader_and_one_follower() {
    let (first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;

    let plan = rehearse(&second, Command::Failover).await.unwrap();
    assert_eq!(plan[0], "Dry run of failover: nothing is changed");
    assert!(plan[1].starts_with("1. Make mysql/id-0 read-only"), "{plan:?}");
    assert_eq!(first.status().await.unwrap().role, Role::Leader);
    let refusal = rehearse(&second, Command::MakeLeader).await.unwrap_err();
    assert!(refusal.starts_with("Leader VM is still accessible from the follower."), "{refusal}");

    for _ in 0..2 {
        let lines = run(&second, Command::Failover).await.unwrap();
        assert_eq!(*lines.last().unwrap(), format!("Leader: {}, Follower: {}", second.address, first.address));
    }
    second.sql("INSERT INTO d.t VALUES (2)").await;
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 2);
    let journal = std::fs::read_to_string(second.root().join("store/mysql/journal.ndjson")).unwrap();
    for step in ["Yield", "Campaign", "Promote", "AwaitRejoin"] {
        assert!(journal.contains(&format!(r#""command":"failover","step":"{step}""#)), "{step}: {journal}");
    }
}

#[tokio::test]
async fn a_failover_from_a_dead_leader_says_that_nobody_follows_and_the_old_one_comes_back_by_itself() {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    first.kill();

    let lines = run(&second, Command::Failover).await.unwrap();

    assert!(lines.last().unwrap().starts_with("It is not redundant"), "{lines:?}");
    second.sql("INSERT INTO d.t VALUES (2)").await;
    first.recreate();
    first.until("a follower", |status| status.role == Role::Follower).await;
    in_step(&second, &first).await;
}

#[tokio::test]
async fn a_failover_to_a_follower_that_is_not_ready_leaves_the_leader_alone() {
    let (first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    // An applier that was only stopped its agent would start again. Two rows with one key it leaves to a human.
    second.write_anyway("INSERT INTO d.t VALUES (2)").await;
    first.sql("INSERT INTO d.t VALUES (2)").await;
    second.until("a stopped applier", |status| !status.replication.as_ref().unwrap().applier_running).await;

    let refusal = run(&second, Command::Failover).await.unwrap_err();

    assert!(refusal.contains("is not ready to take over"), "{refusal}");
    assert_eq!(first.until_up().await.role, Role::Leader);
}

#[tokio::test]
async fn a_leader_that_yielded_to_a_failover_which_was_cut_off_leads_again_by_itself() {
    let (first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;

    first.client.yield_leadership(|_| {}).await.unwrap();

    first.until("the leader again", |status| status.role == Role::Leader && !status.read_only).await;
    first.sql("INSERT INTO d.t VALUES (2)").await;
    in_step(&first, &second).await;
    // An operator's word stays.
    run(&first, Command::MakeReadOnly).await.unwrap();
    run(&second, Command::MakeLeader).await.unwrap();
    assert!(first.status().await.unwrap().read_only);
}

#[tokio::test]
async fn who_gave_its_leadership_away_does_not_take_it_back_from_a_server_that_led_since() {
    let (mut first, mut second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    let witness = first.witness.clone().unwrap();
    // Nobody answers the first one, which would have its leadership back at once.
    signal(second.agent_pid(), "-STOP");
    witness.fall_silent();
    first.client.yield_leadership(|_| {}).await.unwrap();
    first.kill();
    witness.answer();
    signal(second.agent_pid(), "-CONT");
    run(&second, Command::MakeLeader).await.unwrap();
    second.sql("INSERT INTO d.t VALUES (2)").await;
    second.kill();

    first.start();
    first.until_logged("which may have led since and does not answer").await;

    assert!(first.until_up().await.read_only);
    second.start();
    second.until("the leader", |status| status.role == Role::Leader).await;
    in_step(&second, &first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t").await, 2);
}
