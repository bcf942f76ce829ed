//! A follower that cannot go on from its own data gets the leader's.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use agent::api::{Command, Role};

use crate::family::IS_MYSQL;
use crate::pair::{configured, in_step, run};
use crate::vm::user;

const ROWS: &str = "CREATE DATABASE d; USE d; CREATE TABLE d.t (i INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB); \
                    INSERT INTO d.t (b) WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n+1 FROM numbers WHERE n<80) \
                    SELECT REPEAT('x', 100000) FROM numbers";

#[tokio::test]
async fn a_follower_with_a_new_disk_is_copied_to() {
    let (first, mut second) = configured().await;
    first.client.put_user("binding", &user("p")).await.unwrap();
    first.sql(ROWS).await;
    // A history with two servers in it.
    run(&first, Command::Switchover).await.unwrap();
    run(&second, Command::Switchover).await.unwrap();
    second.replace_disk();
    second.recreate();

    // It learns from the other one that it follows.
    second.until_logged("Copied ").await;
    run(&second, Command::ConfigureLeaderFollower).await.unwrap();

    first.sql("INSERT INTO d.t (b) VALUES ('last')").await;
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 81);
    let store = std::fs::read_dir(second.root().join("store/mysql")).unwrap().flatten();
    let left: Vec<_> = store.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("incoming") || name.starts_with("data.")), "{left:?}");
    for left in ["data/tandem_copied_history", "data/xtrabackup_info"] {
        assert!(!second.root().join("store/mysql").join(left).exists(), "{left}");
    }

    // The copy is a full member: it takes over, and the other one follows it from where it is.
    run(&first, Command::Switchover).await.unwrap();
    assert_eq!(second.status().await.unwrap().role, Role::Leader);
    second.client.put_user("another", &user("q")).await.unwrap();
    in_step(&second, &first).await;
}

#[tokio::test]
async fn a_follower_that_was_away_for_too_long_is_copied_to() {
    let (first, mut second) = configured().await;
    first.sql("CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY); INSERT INTO d.t VALUES (1)").await;
    in_step(&first, &second).await;
    second.stop();
    first.sql("INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (3)").await;
    // A log that is still being sent, or that a crash would still need, is not purged at once.
    let purged = async || first.status().await.unwrap().gtid_purged;
    let begun = Instant::now();
    while purged().await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the binary log is not purged");
        first.sql("PURGE BINARY LOGS TO 'mysql-bin.000002'").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    second.start();
    second.until_logged("Copying the data of mysql/id-0").await;
    second.until("a follower", |status| status.role == Role::Follower).await;

    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 3);
}

/// MySQL ends itself rather than write on behind half an event.
#[tokio::test]
async fn a_follower_that_cannot_read_the_binary_log_is_copied_to() {
    if *IS_MYSQL {
        return;
    }
    let (first, mut second) = configured().await;
    first.sql("CREATE DATABASE d; CREATE TABLE d.t (t VARCHAR(20))").await;
    in_step(&first, &second).await;
    second.stop();
    first.sql("INSERT INTO d.t VALUES ('a damaged row'); INSERT INTO d.t VALUES ('a whole row')").await;
    let log = first.root().join("store/mysql/data/mysql-bin.000001");
    let bytes = std::fs::read(&log).unwrap();
    let word = b"damaged";
    let places = bytes.windows(word.len()).enumerate().filter(|(_, window)| window == word).map(|(place, _)| place);
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    places.for_each(|place| file.write_all_at(b"DAMAGED", place as u64).unwrap());

    second.start();
    second.until_logged("Copying the data of mysql/id-0").await;
    second.until("a follower", |status| status.role == Role::Follower).await;

    first.sql("INSERT INTO d.t VALUES ('another one')").await;
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t WHERE t = 'a damaged row'").await, 1);
    assert_eq!(second.number("SELECT COUNT(*) FROM d.t").await, 3);
}
