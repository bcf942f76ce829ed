//! The guard: whatever becomes of the agent, the server is dead when the time is over in which it may be writable.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::pair::{configured, in_step, run};
use crate::vm::{Vm, deployment, signal, user};

const PATIENCE: Duration = Duration::from_secs(30);
/// The server is killed at the deadline; the rest is what a loaded machine takes to notice.
const LATE: Duration = Duration::from_millis(500);
const OPEN: &str = "SET GLOBAL read_only=0";

/// A server of a pair whose other one is not there, so that nobody else speaks to its guard.
async fn guarded() -> Vm {
    let mut vm = deployment(2).remove(0);
    vm.start();
    vm.until_left_read_only().await;
    vm
}

fn guard_of(vm: &Vm) -> Option<u32> {
    let command_line = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    vm.processes().into_iter().find(|pid| command_line(pid).starts_with(b"mysql-guard\0guard\0"))
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap()
}

fn socket(vm: &Vm) -> UnixStream {
    let socket = UnixStream::connect(vm.root().join("sys/run/mysql/guard.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What an agent says to its guard.
fn tell(vm: &Vm, deadline: Option<Duration>) {
    let sent = u64::try_from(deadline.unwrap_or_default().as_nanos()).unwrap().to_le_bytes();
    let (mut socket, mut known) = (socket(vm), [0; 8]);
    socket.write_all(&sent).unwrap();
    socket.read_exact(&mut known).unwrap();
    assert_eq!(known, sent);
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// Wait until the process is dead.
fn until_dead(pid: u32) {
    let begun = Instant::now();
    while is_alive(pid) {
        assert!(begun.elapsed() < PATIENCE, "{pid} lives");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The server lives until the deadline and is dead right behind it.
fn dies_at(vm: &Vm, deadline: Duration) {
    let server = vm.server_pid().unwrap();
    let log = || std::fs::read_to_string(vm.root().join("sys/log/mysql/mysqld.log")).unwrap();
    assert!(now() < deadline, "too slow for this test");
    until_dead(server);
    let late = now().checked_sub(deadline).expect("killed too early");
    eprintln!("the server was dead {:.1} ms after the deadline", late.as_secs_f64() * 1000.0);
    assert!(late < LATE, "{late:?}");
    assert!(log().contains("the time is over in which the server may be writable"), "{}", log());
}

async fn is_back_read_only(vm: &Vm, before: u32) {
    vm.until("another server", |status| status.read_only && vm.server_pid().is_some_and(|pid| pid != before)).await;
    assert!(guard_of(vm).is_some());
}

#[tokio::test]
async fn a_frozen_agent_leaves_no_writable_server() {
    let vm = guarded().await;
    let before = vm.server_pid().unwrap();
    let deadline = now() + Duration::from_secs(2);
    tell(&vm, Some(deadline));
    vm.sql(OPEN).await;

    signal(vm.agent_pid(), "-STOP");
    dies_at(&vm, deadline);

    signal(vm.agent_pid(), "-CONT");
    is_back_read_only(&vm, before).await;
}

#[tokio::test]
async fn a_dead_agent_leaves_no_writable_server() {
    let mut vm = guarded().await;
    let before = vm.server_pid().unwrap();
    let deadline = now() + Duration::from_secs(2);
    tell(&vm, Some(deadline));
    vm.sql(OPEN).await;

    vm.kill_agent();
    dies_at(&vm, deadline);

    vm.start();
    is_back_read_only(&vm, before).await;
}

#[tokio::test]
async fn a_frozen_server_dies_as_well() {
    let vm = guarded().await;
    let deadline = now() + Duration::from_secs(1);
    tell(&vm, Some(deadline));

    signal(vm.server_pid().unwrap(), "-STOP");

    dies_at(&vm, deadline);
}

#[tokio::test]
async fn a_server_outlives_its_agent_where_the_next_one_is_in_time() {
    let mut vm = guarded().await;
    let (server, guard) = (vm.server_pid(), guard_of(&vm));
    let deadline = now() + Duration::from_secs(10);
    tell(&vm, Some(deadline));

    vm.kill_agent();
    vm.start();
    vm.until_left_read_only().await;
    tell(&vm, Some(deadline + PATIENCE));
    assert!(now() < deadline, "too slow for this test");

    while now() < deadline + LATE {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((vm.server_pid(), guard_of(&vm)), (server, guard));
}

#[tokio::test]
async fn the_server_dies_with_its_guard_and_comes_back_read_only() {
    let vm = guarded().await;
    let before = vm.server_pid().unwrap();
    vm.sql(OPEN).await;

    signal(guard_of(&vm).unwrap(), "-KILL");
    until_dead(before);

    is_back_read_only(&vm, before).await;
}

#[tokio::test]
async fn a_guard_that_is_asked_to_end_stops_its_server_cleanly() {
    let mut vm = guarded().await;
    vm.kill_agent();

    signal(guard_of(&vm).unwrap(), "-TERM");
    until_dead(vm.server_pid().unwrap());

    let log = std::fs::read_to_string(vm.root().join("sys/log/mysql/mysqld.log")).unwrap();
    assert!(log.contains("Shutdown complete"), "{log}");
}

#[tokio::test]
async fn the_time_is_extended_as_often_as_it_must_be() {
    const TIMES: u32 = 5000;
    let vm = guarded().await;
    let (server, guard) = (vm.server_pid(), guard_of(&vm).unwrap());

    let begun = Instant::now();
    for _ in 0..TIMES {
        tell(&vm, Some(now() + Duration::from_secs(10)));
    }
    let each = begun.elapsed() / TIMES;
    tell(&vm, None);

    assert_eq!((vm.server_pid(), guard_of(&vm)), (server, Some(guard)));
    let status = std::fs::read_to_string(format!("/proc/{guard}/status")).unwrap();
    let memory: Vec<&str> =
        status.lines().filter(|line| line.starts_with("Rss") || line.starts_with("VmRSS")).collect();
    eprintln!("{each:?} for each extension; the guard's memory: {memory:?}");
    assert_eq!(std::fs::read_dir(format!("/proc/{guard}/task")).unwrap().count(), 1);
}

#[tokio::test]
async fn who_does_not_end_his_sentence_holds_nobody_up() {
    let vm = guarded().await;
    let before = vm.server_pid().unwrap();

    let _silent = socket(&vm);
    let mut half = socket(&vm);
    half.write_all(&[1, 2, 3]).unwrap();
    let deadline = now() + Duration::from_secs(1);
    tell(&vm, Some(deadline));
    let _silent_again = socket(&vm);

    dies_at(&vm, deadline);
    is_back_read_only(&vm, before).await;
}

#[tokio::test]
async fn a_server_without_a_guard_is_started_again_with_one() {
    let mut vm = guarded().await;
    let command_line = std::fs::read(format!("/proc/{}/cmdline", vm.server_pid().unwrap())).unwrap();
    let command_line = String::from_utf8(command_line).unwrap();
    let mut words = command_line.trim_end_matches('\0').split('\0');
    vm.stop();
    let mut unguarded = Command::new(words.next().unwrap());
    unguarded.args(words).arg("--init-file=").env("TANDEM_VM_CID", &vm.cid).stdout(Stdio::null()).stderr(Stdio::null());
    let mut unguarded = unguarded.spawn().unwrap();

    vm.start();

    is_back_read_only(&vm, unguarded.id()).await;
    unguarded.wait().unwrap();
}

/// The same with the agents' own leases: a client that is told by the old leader that a row is stored has been told so
/// before the new one takes rows.
#[tokio::test]
async fn a_leader_whose_agent_is_frozen_is_dead_before_another_one_leads() {
    let (first, second) = configured().await;
    first.client.put_user("binding", &user("p")).await.unwrap();
    first.sql("CREATE TABLE service_db.t (i INT PRIMARY KEY)").await;
    in_step(&first, &second).await;
    let old = first.server_pid().unwrap();
    let mut client = first.connect("binding", &user("p")).await.unwrap();
    let writing = tokio::spawn(async move {
        let (mut row, mut last) = (0, now());
        while client.execute(sqlx::raw_sql(AssertSqlSafe(format!("INSERT INTO t VALUES ({row})")))).await.is_ok() {
            (row, last) = (row + 1, now());
        }
        last
    });

    let frozen = now();
    signal(first.agent_pid(), "-STOP");
    while let Err(refusal) = run(&second, agent::api::Command::MakeLeader).await {
        eprintln!("{refusal}");
        assert!(now() < frozen + PATIENCE, "{refusal}");
    }
    let taken_over = now();

    assert!(!is_alive(old));
    let last = writing.await.unwrap();
    eprintln!(
        "the last row was stored {:?} after the agent froze, the other server led after {:?}",
        last - frozen,
        taken_over - frozen
    );
    assert!(last < taken_over);
    second.sql("INSERT INTO service_db.t VALUES (-1)").await;
    signal(first.agent_pid(), "-CONT");
    is_back_read_only(&first, old).await;
}

#[tokio::test]
async fn an_agent_ends_what_an_earlier_one_has_left_in_the_server() {
    let mut vm = guarded().await;
    let options = MySqlConnectOptions::new().socket(vm.root().join("sys/run/mysql/mysqld.sock"));
    let options = options.username("mysql-agent").password(r#"ad'm"i\n"#);
    let mut left = MySqlConnection::connect_with(&options).await.unwrap();
    let server = vm.server_pid();

    vm.kill_agent();
    vm.start();
    vm.until_left_read_only().await;

    assert!(left.ping().await.is_err());
    assert_eq!(vm.server_pid(), server);
}

#[tokio::test]
async fn a_single_node_needs_no_guard() {
    let mut vm = deployment(1).remove(0);
    vm.start();
    vm.until("a writable leader", |status| !status.read_only).await;

    assert_eq!(guard_of(&vm), None);
}
