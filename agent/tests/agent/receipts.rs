//! Commits that wait for a receipt which does not come: they do not wait for ever, and are acknowledged by nothing else.

use std::time::{Duration, Instant};

use agent::api::Command;
use futures_util::future::join_all;

use crate::pair::{in_step, run, until_received};
use crate::sync::{is_acknowledged, promised, until_promised, until_waiting};
use crate::vm::{Vm, signal};

/// What `then` came to, done to a leader whose follower is gone while this many commits wait for it, and how many of them were
/// acknowledged.
async fn acknowledged_when<T>(first: &Vm, second: &mut Vm, then: impl Future<Output = T>) -> (usize, T) {
    const COMMITS: u32 = 32;
    second.kill();
    let commits = (2..2 + COMMITS).map(|row| is_acknowledged(first, row, Duration::from_secs(60)));
    let then = async {
        until_waiting(first).await;
        let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO d.t %'";
        first.until_number(waits, i64::from(COMMITS)).await;
        then.await
    };
    let (acknowledged, then) = tokio::join!(join_all(commits), then);
    (acknowledged.into_iter().filter(|done| *done).count(), then)
}

/// Their receipts were lost and are not sent again, and on MariaDB nothing else can be committed. MySQL counts a commit that waits
/// as executed on the follower before it does on the leader.
#[tokio::test]
async fn a_follower_comes_back_with_commits_that_its_leader_still_waits_for() {
    let (first, mut second) = promised().await;
    // It goes on receiving, and its receipts are lost.
    second.sql("STOP REPLICA; SET GLOBAL rpl_semi_sync_slave_enabled=0; START REPLICA").await;

    let second_row = is_acknowledged(&first, 2, Duration::from_secs(60));
    let back = async {
        // And the heartbeat, which would otherwise be the commit after it.
        first.until_logged("the heartbeat is missed").await;
        second.until_number("SELECT COUNT(*) FROM d.t", 2).await;
        until_received(&first, &second).await;
        second.kill();
        second.start();
    };
    let (_cut_or_kept, ()) = tokio::join!(second_row, back);

    let mut row = 3;
    let limit = Instant::now() + Duration::from_secs(30);
    while !is_acknowledged(&first, row, Duration::from_secs(5)).await {
        assert!(Instant::now() < limit);
        row += 1;
    }
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t WHERE i IN (1, 2)").await, 2);
    assert_eq!(second.number(&format!("SELECT COUNT(*) FROM d.t WHERE i={row}")).await, 1);
    until_promised(&first).await;
}

/// MariaDB ends the wait of a whole group of commits with the session that waits for them all.
#[tokio::test]
async fn no_commit_that_waits_is_acknowledged_when_the_server_turns_read_only() {
    let (first, mut second) = promised().await;

    let (acknowledged, closed) = acknowledged_when(&first, &mut second, run(&first, Command::MakeReadOnly)).await;

    assert!(closed.unwrap_err().contains("This server is read-only"));
    assert_eq!(acknowledged, 0);
}

/// MySQL acknowledges them all when it is asked to end, so that is not asked before its clients are gone.
#[tokio::test]
async fn no_commit_that_waits_is_acknowledged_when_the_agent_ends() {
    let (first, mut second) = promised().await;

    let end = async { signal(first.agent_pid(), "-TERM") };
    let (acknowledged, ()) = acknowledged_when(&first, &mut second, end).await;

    assert_eq!(acknowledged, 0);
}
