//! Making a server read-only does not take long, whatever its sessions do, and afterwards nobody writes.

use std::time::{Duration, Instant};

use agent::api::Command;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor};
use tokio::task::JoinHandle;

use crate::pair::{configured, in_step, reaches, run};
use crate::vm::{Vm, signal, user};

/// The ladder's five seconds, and as much again for a loaded machine.
const BOUND: Duration = Duration::from_secs(10);
/// A server that was killed starts again before the command ends; MySQL needs seconds for it.
const RESTART: Duration = Duration::from_secs(20);
/// The first one waits for the receipt, and those behind it for the first one.
const WAITING_COMMITS: &str =
    "SELECT COUNT(*)>=2 FROM information_schema.PROCESSLIST WHERE STATE LIKE '%semi-sync ACK%' OR STATE LIKE '%commit'";
const SLEEPS: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE='User sleep'";

/// A pair with a binding and its table, in which row 1 is.
async fn with_binding() -> (Vm, Vm) {
    let (first, second) = configured().await;
    first.client.put_user("binding", &user("p")).await.unwrap();
    first.sql("CREATE TABLE service_db.t (i INT PRIMARY KEY); INSERT INTO service_db.t VALUES (1)").await;
    (first, second)
}

async fn client(vm: &Vm) -> MySqlConnection {
    vm.connect("binding", &user("p")).await.unwrap()
}

async fn say(session: &mut MySqlConnection, statement: &str) -> Result<(), String> {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    session.execute(statement).await.map(drop).map_err(|error| error.to_string())
}

/// A client with a statement that takes its time.
fn busy(mut session: MySqlConnection, statement: &'static str) -> JoinHandle<Result<(), String>> {
    tokio::spawn(async move { say(&mut session, statement).await })
}

/// Make the server read-only; says what that did to its sessions. Nothing is written afterwards, and the follower has all.
async fn demote(vm: &Vm, follower: &Vm) -> Vec<String> {
    let begun = Instant::now();
    let mut lines = run(vm, Command::MakeReadOnly).await.unwrap();
    let took = begun.elapsed();
    lines.retain(|line| line.starts_with("Cut ") || line.starts_with("Killed "));
    eprintln!("read-only after {} ms: {lines:#?}", took.as_millis());
    let is_killed = lines.iter().any(|line| line.starts_with("Killed "));
    assert!(took < if is_killed { BOUND + RESTART } else { BOUND }, "{took:?}");
    let status = vm.until_up().await;
    assert!(status.read_only);
    assert!(reaches(&follower.until_up().await.replication.unwrap().gtid_received, &status.gtid_executed));
    lines
}

/// No error, or one that says that the connection is gone.
fn is_lost(said: &Result<(), String>) -> bool {
    let words = ["Connection was killed", "expected to read", "reset by peer", "Broken pipe", "communicating with"];
    said.as_ref().is_err_and(|error| words.iter().any(|word| error.contains(word)))
}

async fn rows(vm: &Vm) -> i64 {
    vm.number("SELECT COUNT(*) FROM service_db.t").await
}

#[tokio::test]
async fn an_open_transaction_cannot_commit_and_holds_nothing_up() {
    let (first, second) = with_binding().await;
    let (mut idle, mut prepared) = (client(&first).await, client(&first).await);
    say(&mut idle, "BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    say(&mut prepared, "XA START 'x'; INSERT INTO t VALUES (3); XA END 'x'; XA PREPARE 'x'").await.unwrap();

    let cut = demote(&first, &second).await;

    assert!(cut.is_empty(), "{cut:?}");
    let lost = say(&mut idle, "COMMIT").await;
    assert!(is_lost(&lost), "{lost:?}");
    in_step(&first, &second).await;
    assert_eq!((rows(&first).await, rows(&second).await), (1, 1));
    run(&second, Command::ConfigureLeaderFollower).await.unwrap();
}

#[tokio::test]
async fn long_statements_and_waits_for_locks_are_cut_and_rolled_back() {
    let (first, second) = with_binding().await;
    let mut holder = client(&first).await;
    say(&mut holder, "BEGIN; UPDATE t SET i=10").await.unwrap();
    let waits = busy(client(&first).await, "UPDATE t SET i=11");
    let long = busy(client(&first).await, "INSERT INTO t SELECT 20+SLEEP(60)");
    first.until_number(SLEEPS, 1).await;

    let cut = demote(&first, &second).await;

    assert!(cut.iter().any(|line| line.contains("of binding from") && line.contains("User sleep")), "{cut:?}");
    for said in [waits.await.unwrap(), long.await.unwrap(), say(&mut holder, "COMMIT").await] {
        assert!(is_lost(&said), "{said:?}");
    }
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT i FROM service_db.t").await, 1);
}

#[tokio::test]
async fn commits_that_wait_for_the_follower_are_kept_and_not_acknowledged() {
    let (first, second) = with_binding().await;
    in_step(&first, &second).await;
    first
        .sql("SET GLOBAL rpl_semi_sync_master_timeout=9223372036854775807; SET GLOBAL rpl_semi_sync_master_enabled=1")
        .await;
    let stuck = [
        busy(client(&first).await, "INSERT INTO t VALUES (2)"),
        busy(client(&first).await, "INSERT INTO t VALUES (3)"),
    ];
    let stuck_user = tokio::spawn({
        let client = first.client.clone();
        async move { client.put_user("other", &user("p")).await.is_ok() }
    });
    // The two clients; the statement for the other binding and the heartbeat wait in other places.
    first.until_number(WAITING_COMMITS, 1).await;
    // More often than the agent has sessions: none of them waits.
    for _ in 0..8 {
        assert!(!first.status().await.unwrap().read_only);
    }

    let cut = demote(&first, &second).await;

    assert!(
        cut.iter().filter(|line| line.contains("of binding from") && line.contains("(Query")).count() == 2,
        "{cut:?}"
    );
    for said in stuck {
        let said = said.await.unwrap();
        assert!(is_lost(&said), "{said:?}");
    }
    assert!(!stuck_user.await.unwrap());
    in_step(&first, &second).await;
    assert_eq!((rows(&first).await, rows(&second).await), (3, 3));
}

#[tokio::test]
async fn an_idle_session_that_holds_a_lock_is_cut() {
    let (first, second) = with_binding().await;
    let mut holder = first.admin().await;
    say(&mut holder, "LOCK TABLES service_db.t WRITE").await.unwrap();

    let cut = demote(&first, &second).await;

    assert!(cut.iter().any(|line| line.contains("of admin from localhost (Sleep")), "{cut:?}");
    let said = say(&mut holder, "UNLOCK TABLES").await;
    assert!(is_lost(&said), "{said:?}");
}

#[tokio::test]
async fn a_global_read_lock_holds_nothing_up() {
    let (first, second) = with_binding().await;
    let mut holder = first.admin().await;
    say(&mut holder, "FLUSH TABLES WITH READ LOCK").await.unwrap();
    let waits = busy(client(&first).await, "INSERT INTO t VALUES (2)");
    first
        .until_number(
            &format!("{WAITING_COMMITS} OR STATE IN ('Waiting for backup lock', 'Waiting for global read lock')")
                .replace(">=2", ""),
            1,
        )
        .await;

    demote(&first, &second).await;

    let said = waits.await.unwrap();
    assert!(said.is_err(), "{said:?}");
    eprintln!("the waiting client saw {said:?}");
    assert!(is_lost(&say(&mut holder, "UNLOCK TABLES").await));
    assert_eq!(rows(&first).await, 1);
}

#[tokio::test]
async fn who_may_write_on_a_read_only_server_is_cut_as_well() {
    let (first, second) = with_binding().await;
    first.sql("CREATE USER root@'%' IDENTIFIED BY 'p'; GRANT ALL PRIVILEGES ON *.* TO root@'%'; CREATE USER `o'x`@'%'; GRANT SUPER ON *.* TO `o'x`@'%'").await;
    let seen = first.client.inspection().await.unwrap().writers_through_read_only;
    assert_eq!(seen, ["'o'x'@'%'", "'root'@'%'"]);
    let mut writer = first.connect("root", &user("p")).await.unwrap();
    let mut operator = first.admin().await;
    let writing = tokio::spawn(async move {
        let mut row = 1;
        while say(&mut writer, &format!("INSERT INTO t VALUES ({})", row + 1)).await.is_ok() {
            row += 1;
        }
        row
    });
    first.until_number("SELECT COUNT(*)>5 FROM service_db.t", 1).await;

    demote(&first, &second).await;

    let acknowledged: i64 = writing.await.unwrap();
    assert!(is_lost(&say(&mut operator, "INSERT INTO service_db.t VALUES (-1)").await));
    in_step(&first, &second).await;
    let kept = rows(&second).await;
    // The last one may have been written and not answered.
    assert!(kept == acknowledged || kept == acknowledged + 1, "{kept} of {acknowledged}");
}

#[tokio::test]
async fn a_binding_is_not_given_a_user_who_may_write_on_a_read_only_server() {
    let (first, _second) = with_binding().await;
    first.sql("GRANT READ_ONLY ADMIN ON *.* TO binding@'%'").await;

    let refused = first.client.put_user("binding", &user("p")).await.unwrap_err().to_string();

    assert!(refused.contains("has privileges by which it writes on a read-only server"), "{refused}");
    first.sql("REVOKE READ_ONLY ADMIN ON *.* FROM binding@'%'").await;
    first.client.put_user("binding", &user("p")).await.unwrap();
}

#[tokio::test]
async fn a_crowd_that_always_comes_back_holds_nothing_up() {
    let (first, second) = with_binding().await;
    let mut holder = client(&first).await;
    say(&mut holder, "LOCK TABLES t WRITE").await.unwrap();
    let address = first.address.clone();
    let crowd = tokio::spawn(async move {
        for row in 100.. {
            if let Ok(mut session) = crate::vm::connect(&address, "binding", &user("p")).await {
                let _ = tokio::time::timeout(
                    Duration::from_millis(20),
                    say(&mut session, &format!("INSERT INTO t VALUES ({row})")),
                )
                .await;
            }
        }
    });

    demote(&first, &second).await;

    crowd.abort();
    in_step(&first, &second).await;
    assert_eq!(rows(&first).await, rows(&second).await);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_killed_and_starts_read_only() {
    let (first, second) = with_binding().await;
    let before = first.server_pid().unwrap();
    let mut holder = client(&first).await;
    say(&mut holder, "LOCK TABLES t WRITE").await.unwrap();
    let frozen = async {
        first
            .until_number(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SET GLOBAL %read_only=1'",
                1,
            )
            .await;
        signal(before, "-STOP");
    };

    let (cut, ()) = tokio::join!(demote(&first, &second), frozen);

    assert!(cut.iter().any(|line| line.starts_with("Killed the server, which starts again read-only")), "{cut:?}");
    assert_ne!(first.server_pid(), Some(before));
    in_step(&first, &second).await;
}
