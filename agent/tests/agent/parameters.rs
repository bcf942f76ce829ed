//! The parameters of a service instance: each does what it says on the running server.

use agent::api::{Command, Role};
use serde_json::{Value, json};

use crate::family;
use crate::pair::{configured_with, in_step, run};
use crate::vm::{Vm, deployment_with, user};

async fn started(parameters: Value) -> Vm {
    let mut vm = deployment_with(1, &json!({"parameters": parameters})).pop().unwrap();
    vm.start();
    vm.until("a writable leader", |status| status.role == Role::Leader).await;
    vm
}

#[tokio::test]
async fn a_workload_sizes_the_server() {
    let redo_log = if *family::IS_MYSQL { "@@innodb_redo_log_capacity" } else { "@@innodb_log_file_size" };
    // Of the 256 MB that the VM has.
    for (workload, pool_mb, flush, packet_mb, redo_mb) in [
        ("mixed", 128, "fsync", 256, 16),
        ("read-heavy", 192, "O_DIRECT", 256, 16),
        ("write-heavy", 192, "O_DIRECT", 1024, 1024),
    ] {
        let vm = started(json!({"workload": workload})).await;

        let mb = async |variable: &str| vm.number(&format!("SELECT CAST({variable} DIV 1048576 AS SIGNED)")).await;
        let sizes = (mb("@@innodb_buffer_pool_size").await, mb("@@max_allowed_packet").await, mb(redo_log).await);

        assert_eq!(sizes, (pool_mb, packet_mb, redo_mb), "{workload}");
        assert_eq!(vm.text("SELECT @@innodb_flush_method").await, flush, "{workload}");
    }
}

#[tokio::test]
async fn schemas_get_the_character_set_and_collation_that_were_asked_for() {
    for (parameters, charset, collation) in [
        (json!({"default-charset": "latin1", "default-collation": "latin1_general_cs"}), "latin1", "latin1_general_cs"),
        (json!({"default-charset": "utf8mb4", "default-collation": "utf8mb4_bin"}), "utf8mb4", "utf8mb4_bin"),
        (json!({"default-charset": "swe7"}), "swe7", "swe7_swedish_ci"),
    ] {
        let vm = started(parameters).await;

        vm.client.put_user("binding", &user("p")).await.unwrap();

        let schema = "FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='service_db'";
        assert_eq!(vm.text(&format!("SELECT DEFAULT_CHARACTER_SET_NAME {schema}")).await, charset);
        assert_eq!(vm.text(&format!("SELECT DEFAULT_COLLATION_NAME {schema}")).await, collation);
        vm.connect("binding", &user("p")).await.unwrap();
    }
}

#[tokio::test]
async fn short_words_are_found_where_that_was_asked_for() {
    for (asked, found) in [(false, 0), (true, 1)] {
        let vm = started(json!({"optimize_for_short_words": asked})).await;
        for engine in ["InnoDB", "MyISAM"] {
            vm.sql(&format!(
                "CREATE DATABASE {engine}; CREATE TABLE {engine}.t (i INT PRIMARY KEY, x TEXT, FULLTEXT (x)) ENGINE={engine}; \
                 INSERT INTO {engine}.t VALUES (1, 'a yz word'), (2, 'some other words'), (3, 'and one more')"
            ))
            .await;
            let query = format!("SELECT COUNT(*) FROM {engine}.t WHERE MATCH (x) AGAINST ('yz' IN BOOLEAN MODE)");
            assert_eq!(vm.number(&query).await, found, "{engine}");
        }
    }
}

#[tokio::test]
async fn names_without_case_are_the_same_on_both_servers_of_a_pair_and_after_a_copy() {
    let (first, mut second) = configured_with(&json!({"parameters": {"enable_lower_case_table_names": true}})).await;
    let mut user = user("p");
    user.schema = "Orders".into();

    first.client.put_user("binding", &user).await.unwrap();
    let mut session = first.connect("binding", &user).await.unwrap();
    for statement in ["CREATE TABLE Fruit (i INT PRIMARY KEY)", "INSERT INTO FRUIT VALUES (1)"] {
        sqlx::Executor::execute(&mut session, statement).await.unwrap();
    }
    in_step(&first, &second).await;
    assert_eq!(second.number("SELECT COUNT(*) FROM ORDERS.fruit").await, 1);

    second.replace_disk();
    second.recreate();
    second.until_logged("Copied ").await;
    run(&second, Command::ConfigureLeaderFollower).await.unwrap();
    in_step(&first, &second).await;
    run(&first, Command::Switchover).await.unwrap();

    for vm in [&first, &second] {
        assert_eq!(vm.number("SELECT CAST(@@lower_case_table_names AS SIGNED)").await, 1);
        assert_eq!(vm.number("SELECT COUNT(*) FROM oRDERS.fRUIT").await, 1);
    }
    let mut session = second.connect("binding", &user).await.unwrap();
    sqlx::Executor::execute(&mut session, "INSERT INTO fruit VALUES (2)").await.unwrap();
}

#[tokio::test]
async fn names_with_case_are_told_apart_where_nothing_was_asked_for() {
    let vm = started(json!({})).await;

    vm.sql("CREATE DATABASE d; CREATE TABLE d.Fruit (i INT); CREATE TABLE d.fruit (i INT)").await;

    assert_eq!(vm.number("SELECT CAST(@@lower_case_table_names AS SIGNED)").await, 0);
}
