//! A pair that works: configured, handed over, and the refusals that keep it right.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::api::{Activity, Command, Receiver, Role, Verdict};
use sqlx::{Executor, Row};

use crate::family::{IS_MYSQL, received_column};
use crate::vm::{PATIENCE, Vm, deployment_with, signal, user};

/// Two VMs, started and configured: the first one leads.
pub(crate) async fn configured() -> (Vm, Vm) {
    let (leader, follower) = started().await;
    run(&leader, Command::ConfigureLeaderFollower).await.unwrap();
    (leader, follower)
}

/// As [`configured`], with properties of the plan.
pub(crate) async fn configured_with(plan: &serde_json::Value) -> (Vm, Vm) {
    let (leader, follower) = started_with(plan).await;
    run(&leader, Command::ConfigureLeaderFollower).await.unwrap();
    (leader, follower)
}

pub(crate) async fn started() -> (Vm, Vm) {
    started_with(&serde_json::json!({})).await
}

async fn started_with(plan: &serde_json::Value) -> (Vm, Vm) {
    let mut vms = deployment_with(2, plan);
    vms.iter_mut().for_each(Vm::start);
    let (second, first) = (vms.pop().unwrap(), vms.pop().unwrap());
    tokio::join!(first.until_up(), second.until_up());
    (first, second)
}

/// Run a command; the lines that it said, or why it did not.
pub(crate) async fn run(vm: &Vm, command: Command) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let done = vm.client.command(command, |line| lines.push(line.to_owned())).await;
    done.map(|()| lines).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Does a history reach a position? The leader's moves by itself, with every heartbeat.
pub(crate) fn reaches(history: &str, position: &str) -> bool {
    let last_of_each = |text: &str| {
        let gtids = text.split(',').filter(|gtid| !gtid.is_empty()).map(|gtid| {
            let (origin, number) = gtid.trim().rsplit_once(['-', ':']).unwrap();
            // MySQL's are intervals: uuid:1-7.
            (origin.split(':').next().unwrap().to_owned(), number.parse().unwrap())
        });
        gtids.collect::<BTreeMap<_, u64>>()
    };
    let own = last_of_each(history);
    last_of_each(position).iter().all(|(origin, number)| own.get(origin).is_some_and(|own| own >= number))
}

/// Wait until the follower has received, applied or not, what the leader has now; says what that is.
pub(crate) async fn until_received(leader: &Vm, follower: &Vm) -> String {
    let wanted = leader.status().await.unwrap().gtid_executed;
    follower.until("a receipt", |status| reaches(&status.replication.as_ref().unwrap().gtid_received, &wanted)).await;
    wanted
}

/// Have the follower receive what a leader writes and not apply it. Its agent would start the applier again, so it is stopped in
/// its tracks; [`go_on`] ends that. Says what was received.
pub(crate) async fn received_only(leader: &Vm, follower: &Vm, writes: impl AsyncFnOnce()) -> String {
    signal(follower.agent_pid(), "-STOP");
    follower.sql("STOP REPLICA SQL_THREAD").await;
    writes().await;
    let wanted = leader.status().await.unwrap().gtid_executed;
    let begun = Instant::now();
    while !reaches(&follower.row("SHOW REPLICA STATUS").await.get::<String, _>(received_column()), &wanted) {
        assert!(begun.elapsed() < PATIENCE, "{wanted} is not received");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wanted
}

/// Let an agent go on that was stopped in its tracks.
pub(crate) fn go_on(vm: &Vm) {
    signal(vm.agent_pid(), "-CONT");
}

/// Wait until the follower has everything of the leader.
pub(crate) async fn in_step(leader: &Vm, follower: &Vm) {
    let mut history = leader.status().await.unwrap().gtid_executed;
    while follower.until_up().await.gtid_executed != history {
        let patience = "a follower that executes something";
        let before = follower.until_up().await.gtid_executed;
        follower.until(patience, |status| status.gtid_executed != before || status.gtid_executed == history).await;
        history = leader.until_up().await.gtid_executed;
    }
}

/// Wait until the verdict of a server advises something.
pub(crate) async fn until_advised(vm: &Vm, words: &str) -> Verdict {
    let begun = Instant::now();
    loop {
        let verdict = vm.client.inspection().await.unwrap().verdict;
        if verdict.next_action.as_ref().is_some_and(|next| next.contains(words)) {
            return verdict;
        }
        assert!(begun.elapsed() < PATIENCE, "{words:?} is not advised: {verdict:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_new_pair_waits_read_only_until_it_is_configured() {
    let (first, second) = started().await;

    for vm in [&first, &second] {
        let status = vm.status().await.unwrap();
        assert!(status.read_only && !status.has_data && status.role == Role::Unknown, "{status:?}");
        assert!(vm.client.put_user("binding", &user("p")).await.is_err());
    }
    // From either side, and twice, with the same result.
    let lines = run(&second, Command::ConfigureLeaderFollower).await.unwrap();
    let expected = format!("Leader: {}, Follower: {}", first.address, second.address);
    assert!(lines.contains(&expected), "{lines:?}");
    assert_eq!(run(&first, Command::ConfigureLeaderFollower).await.unwrap(), [expected]);

    first.client.put_user("binding", &user("p")).await.unwrap();
    let mut writer = first.connect("binding", &user("p")).await.unwrap();
    writer.execute(sqlx::raw_sql("CREATE TABLE t (i INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")).await.unwrap();
    in_step(&first, &second).await;
    let mut reader = second.connect("binding", &user("p")).await.unwrap();
    let refused = reader.execute("INSERT INTO t VALUES (3)").await.unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    assert_eq!(second.number("SELECT COUNT(*) FROM service_db.t").await, 2);
    assert!(second.client.put_user("other", &user("p")).await.is_err());

    let status = second.status().await.unwrap();
    assert_eq!((status.role, status.replication.unwrap().receiver), (Role::Follower, Receiver::Connected));
}

#[tokio::test]
async fn a_switchover_and_the_way_back_lose_nothing() {
    let (first, second) = configured().await;
    first.client.put_user("binding", &user("p")).await.unwrap();
    let mut idle = first.connect("binding", &user("p")).await.unwrap();
    first.sql("CREATE TABLE service_db.t (i INT PRIMARY KEY); INSERT INTO service_db.t VALUES (1)").await;
    first.sql("CREATE TABLE service_db.e (server INT); CREATE EVENT service_db.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO service_db.e VALUES (@@server_id)").await;
    in_step(&first, &second).await;

    run(&first, Command::Switchover).await.unwrap();

    assert_eq!(second.status().await.unwrap().role, Role::Leader);
    assert_eq!(first.status().await.unwrap().role, Role::Follower);
    assert!(idle.execute("SELECT 1").await.is_err(), "the old leader's sessions are cut");
    second.sql("INSERT INTO service_db.t VALUES (2)").await;
    second.until_number("SELECT COUNT(*)>0 FROM service_db.e WHERE server=2", 1).await;
    second.sql("DROP EVENT service_db.tick").await;
    in_step(&second, &first).await;
    let refusal = run(&first, Command::Switchover).await.unwrap_err();
    assert!(refusal.contains("is not the leader; mysql/id-1 is"), "{refusal}");

    run(&second, Command::Switchover).await.unwrap();
    first.sql("INSERT INTO service_db.t VALUES (3)").await;
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM service_db.t").await, 3);
    assert_eq!(second.number("SELECT @@event_scheduler='OFF'").await, 1);
}

/// InnoDB of MariaDB may not start again when it is killed while it makes a file (MDEV-40728), so the table with the place of
/// replication stays the one that it is. MySQL has none.
#[tokio::test]
async fn a_switchover_and_the_way_back_make_no_table_anew() {
    if *IS_MYSQL {
        return;
    }
    let file =
        "SELECT CAST(SPACE AS SIGNED) FROM information_schema.INNODB_SYS_TABLES WHERE NAME='mysql/gtid_slave_pos'";
    let (first, second) = configured().await;
    in_step(&first, &second).await;
    let before = [first.number(file).await, second.number(file).await];

    run(&first, Command::Switchover).await.unwrap();
    in_step(&second, &first).await;
    run(&second, Command::Switchover).await.unwrap();
    in_step(&first, &second).await;

    assert_eq!([first.number(file).await, second.number(file).await], before);
}

/// A MariaDB that was killed between a statement and its row in that table has executed more than the table says.
#[tokio::test]
async fn a_follower_whose_table_of_positions_is_behind_its_history_goes_on_from_its_history() {
    if *IS_MYSQL {
        return;
    }
    let (first, second) = configured().await;
    in_step(&first, &second).await;
    let behind = "SET @number = SUBSTRING_INDEX(@@GLOBAL.gtid_slave_pos, '-', -1); \
                  SET @behind = CONCAT('0-1-', @number - 1); SET GLOBAL gtid_slave_pos = @behind";

    signal(second.agent_pid(), "-STOP");
    second.sql(&format!("STOP SLAVE; {behind}")).await;
    go_on(&second);

    first.sql("CREATE DATABASE d").await;
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT @@GLOBAL.gtid_slave_pos = @@GLOBAL.gtid_binlog_pos").await, 1);
}

#[tokio::test]
async fn a_switchover_that_the_follower_cannot_finish_is_undone() {
    let (first, second) = configured().await;
    first.sql("CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)").await;
    in_step(&first, &second).await;
    // The applier is held up by a lock: what is written now is received and not applied.
    let mut blocker = second.admin().await;
    blocker.execute(sqlx::raw_sql("LOCK TABLES d.t READ")).await.unwrap();
    first.sql("INSERT INTO d.t VALUES (2)").await;

    let refusal = run(&first, Command::Switchover).await.unwrap_err();

    assert!(refusal.contains("has not applied"), "{refusal}");
    assert_eq!(first.status().await.unwrap().role, Role::Leader);
    assert_eq!(second.status().await.unwrap().role, Role::Follower);
    blocker.execute(sqlx::raw_sql("UNLOCK TABLES")).await.unwrap();
    first.sql("INSERT INTO d.t VALUES (3)").await;
    in_step(&first, &second).await;
}

#[tokio::test]
async fn make_read_only_ends_open_transactions_and_waits_for_the_follower() {
    let (first, second) = configured().await;
    first.client.put_user("binding", &user("p")).await.unwrap();
    let mut writer = first.connect("binding", &user("p")).await.unwrap();
    writer.execute(sqlx::raw_sql("CREATE TABLE t (i INT PRIMARY KEY); BEGIN; INSERT INTO t VALUES (1)")).await.unwrap();
    // A lock that would hold read_only up for ever.
    let mut locker = first.connect("binding", &user("p")).await.unwrap();
    locker.execute(sqlx::raw_sql("CREATE TABLE l (i INT); LOCK TABLES l WRITE")).await.unwrap();

    let lines = run(&first, Command::MakeReadOnly).await.unwrap();

    let syncing = format!("Requesting peer ({}) to sync its received transaction to GTID", second.address);
    let (cut, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with("Cut session"));
    assert!(!cut.is_empty() && lines[0].starts_with(&syncing), "{cut:?} {lines:?}");
    assert_eq!(
        lines[lines.len() - 2..],
        ["Sync request completed successfully", "Instance successfully set read-only"]
    );
    assert!(writer.execute("COMMIT").await.is_err());
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM service_db.t").await, 0);
    run(&first, Command::MakeReadOnly).await.unwrap();
    let lines = run(&second, Command::MakeReadOnly).await.unwrap();
    assert_eq!(
        lines,
        ["Peer is not configured for replication. Not attempting sync.", "Instance successfully set read-only"]
    );

    // Both are read-only: the one that does not replicate leads again.
    run(&second, Command::ConfigureLeaderFollower).await.unwrap();
    assert_eq!(first.status().await.unwrap().role, Role::Leader);
}

#[tokio::test]
async fn both_writable_is_left_to_a_human() {
    // Of a pair that has a leader already the agent closes the other server by itself.
    let (first, second) = started().await;
    for vm in [&first, &second] {
        vm.sql("SET GLOBAL read_only=0").await;
    }

    for vm in [&first, &second] {
        let refusal = run(vm, Command::ConfigureLeaderFollower).await.unwrap_err();
        assert!(refusal.starts_with("Both mysql instances are writable. Please ensure no divergent data"), "{refusal}");
    }

    run(&second, Command::MakeReadOnly).await.unwrap();
    run(&first, Command::ConfigureLeaderFollower).await.unwrap();
    assert_eq!(second.status().await.unwrap().role, Role::Follower);
}

#[tokio::test]
async fn one_command_at_a_time() {
    let (first, second) = configured().await;
    // Holds the first command up, until it is cut.
    let mut blocker = first.admin().await;
    blocker.execute(sqlx::raw_sql("CREATE DATABASE d; CREATE TABLE d.t (i INT); LOCK TABLES d.t WRITE")).await.unwrap();
    let held_up = run(&first, Command::MakeReadOnly);
    let others = async {
        let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SET GLOBAL %read_only=1'";
        first.until_number(waits, 1).await;
        assert_eq!(first.status().await.unwrap().busy, Some(Activity::Command(Command::MakeReadOnly)));
        let here = run(&first, Command::Switchover).await.unwrap_err();
        let there = run(&second, Command::MakeLeader).await.unwrap_err();
        let _ = blocker.execute(sqlx::raw_sql("UNLOCK TABLES")).await;
        (here, there)
    };

    let (held_up, (here, there)) = tokio::join!(held_up, others);

    held_up.unwrap();
    assert!(here.contains("busy with make-read-only"), "{here}");
    assert!(there.contains("the agent of mysql/id-0 is busy with make-read-only"), "{there}");
}
