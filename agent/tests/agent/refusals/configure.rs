//! configure-leader-follower: its decision table, from a pair that was never configured to one whose data has diverged. The
//! product's "Error fetching GTIDs" cannot be brought about: every form that a server has for a history is read.

use agent::api::{Command, Role};

use super::{executed, refused};
use crate::family;
use crate::pair::{in_step, run, started};

const CONFIGURE: Command = Command::ConfigureLeaderFollower;

#[tokio::test]
async fn each_row_of_the_decision_table() {
    let (first, second) = started().await;

    for vm in [&first, &second] {
        vm.sql("SET GLOBAL read_only=0").await;
    }
    second.sql(family::write_in_another_way()).await;
    let of_second = executed(&second).await;
    for vm in [&first, &second] {
        refused(vm, CONFIGURE)
            .await
            .begins(
                "Both mysql instances are writable. Please ensure no divergent data and set one instance to read-only mode.",
            )
            .says("Run make-read-only on the one whose transactions the other one has too")
            .with_state([(&first, "writable", ""), (&second, "writable", &of_second)]);
    }

    run(&first, Command::MakeReadOnly).await.unwrap();
    second.sql(family::follow_nobody()).await;
    refused(&first, CONFIGURE)
        .await
        .begins("Both instances are in an unexpected state. Replication is configured on the leader.")
        .says("mysql/id-1 is writable and set to replicate. Run make-read-only on it, then make-leader")
        .with_state([(&first, "read-only", ""), (&second, "writable", &of_second)]);

    run(&second, Command::MakeReadOnly).await.unwrap();
    refused(&second, CONFIGURE)
        .await
        .begins("Unable to determine leader and follower based on transaction history.")
        .says("the one with all transactions is set to replicate. Run make-leader on it")
        .with_state([(&first, "read-only", ""), (&second, "read-only", &of_second)]);
    refused(&first, Command::MakeLeader)
        .await
        .begins("Refusing to promote to avoid data loss.")
        .says("mysql/id-1 answers and has transactions that mysql/id-0 lacks. Run configure-leader-follower")
        .with_state([(&first, "read-only", ""), (&second, "read-only", &of_second)]);

    // None is writable, and the one with all transactions has the higher index; then one is.
    second.sql("STOP SLAVE; RESET SLAVE ALL").await;
    let roles = format!("Leader: {}, Follower: {}", second.address, first.address);
    for vm in [&first, &second] {
        assert_eq!(run(vm, CONFIGURE).await.unwrap().last(), Some(&roles));
    }
    in_step(&second, &first).await;

    // Nobody replaced a leader, so whose transactions count is for a human to say.
    first.sql("STOP SLAVE; RESET SLAVE ALL").await;
    first.write_anyway("CREATE DATABASE errant").await;
    second.sql("CREATE DATABASE meant").await;
    let (of_first, of_second) = (executed(&first).await, executed(&second).await);
    let give_up =
        "Decide which one to give up and save what is needed of it; then stop its VM, orphan its disk, recreate it";
    refused(&first, CONFIGURE)
        .await
        .begins("Unable to determine leader and follower. Leader and follower data have diverged.")
        .says("mysql/id-0 has transactions that mysql/id-1 lacks")
        .says(give_up)
        .with_state([(&first, "read-only", &of_first), (&second, "writable", &of_second)]);
    run(&second, Command::MakeReadOnly).await.unwrap();
    refused(&second, CONFIGURE)
        .await
        .begins("Unable to determine leader and follower based on transaction history.")
        .says("each has transactions that the other one lacks")
        .says(give_up)
        .with_state([(&first, "read-only", &of_first), (&second, "read-only", &of_second)]);
    for vm in [&first, &second] {
        assert_eq!(vm.until_up().await.role, Role::Unknown);
    }
}
