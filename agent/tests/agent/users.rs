//! The users of bindings: what they may do, and whose they are.

use agent::api::{Access, Role, User};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::family;
use crate::vm::{Vm, deployment, user};

async fn started() -> Vm {
    let mut vm = deployment(1).pop().unwrap();
    vm.start();
    vm.until("a writable leader", |status| status.role == Role::Leader).await;
    vm
}

async fn run(session: &mut MySqlConnection, statement: &str) -> Result<(), sqlx::Error> {
    session.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await.map(drop)
}

#[tokio::test]
async fn users_come_and_go_with_their_sessions() {
    let vm = started().await;
    let given = user(r"p'a\ss");

    assert!(vm.client.put_user("binding-1", &given).await.unwrap().created);
    assert!(!vm.client.put_user("binding-1", &given).await.unwrap().created);
    let mut session = vm.connect("binding-1", &given).await.unwrap();
    run(&mut session, "CREATE TABLE t (i INT PRIMARY KEY); INSERT INTO t VALUES (1)").await.unwrap();
    assert!(run(&mut session, "CREATE DATABASE serviceXdb").await.is_err(), "a schema's name is no pattern");
    assert!(run(&mut session, "SET GLOBAL read_only=1").await.is_err());

    vm.client.delete_user("binding-1").await.unwrap();
    assert!(session.ping().await.is_err(), "an open session is cut");
    assert!(vm.connect("binding-1", &given).await.is_err());
    vm.client.delete_user("binding-1").await.unwrap();

    for name in ["admin", "a%27b", "a%20b"] {
        assert!(vm.client.put_user(name, &given).await.is_err(), "{name}");
    }
    // Each family has its own limit.
    let limit = if *family::IS_MYSQL { 32 } else { 80 };
    let longest = "u".repeat(limit);
    assert!(vm.client.put_user(&longest, &given).await.unwrap().created);
    vm.connect(&longest, &given).await.unwrap();
    vm.client.delete_user(&longest).await.unwrap();
    let refused = vm.client.put_user(&"u".repeat(limit + 1), &given).await.unwrap_err();
    assert!(refused.is_of_request() && refused.to_string().contains(&format!(" {limit}")), "{refused}");
    let log = std::fs::read_to_string(vm.agent_log()).unwrap();
    assert!(!log.contains("p'a"), "{log}");
}

#[tokio::test]
async fn a_reader_reads_and_changes_nothing_also_on_the_leader() {
    let vm = started().await;
    let (owner, reader) = (user("o"), User { access: Access::ReadOnly, ..user("r") });
    vm.client.put_user("owner", &owner).await.unwrap();
    let mut session = vm.connect("owner", &owner).await.unwrap();
    run(&mut session, "CREATE TABLE t (i INT PRIMARY KEY); INSERT INTO t VALUES (1)").await.unwrap();
    run(&mut session, "CREATE VIEW v AS SELECT i FROM t; CREATE PROCEDURE p() DELETE FROM t").await.unwrap();

    vm.client.put_user("reader", &reader).await.unwrap();
    let mut session = vm.connect("reader", &reader).await.unwrap();

    for statement in ["SELECT * FROM t", "SELECT * FROM v", "SHOW CREATE TABLE t", "SHOW CREATE VIEW v", "SHOW TABLES"]
    {
        run(&mut session, statement).await.unwrap();
    }
    for statement in [
        "INSERT INTO t VALUES (2)",
        "UPDATE t SET i=3",
        "DELETE FROM t",
        "LOCK TABLES t READ",
        "TRUNCATE t",
        "DROP TABLE t",
        "CREATE TABLE u (i INT)",
        "CREATE TEMPORARY TABLE u (i INT)",
        "CREATE INDEX x ON t (i)",
        "CREATE DATABASE d",
        "CALL p()",
        "SELECT * FROM mysql.user",
    ] {
        assert!(run(&mut session, statement).await.is_err(), "{statement}");
    }
    assert_eq!(vm.number("SELECT COUNT(*) FROM service_db.t WHERE i=1").await, 1);
}

#[tokio::test]
async fn the_schema_is_made_where_it_is_missing_and_is_the_only_one() {
    let vm = started().await;
    let (first, second) = (user("1"), User { schema: "Other$_9".into(), ..user("2") });

    vm.client.put_user("first", &first).await.unwrap();
    vm.client.put_user("second", &second).await.unwrap();

    let mut session = vm.connect("second", &second).await.unwrap();
    run(&mut session, "CREATE TABLE t (i INT)").await.unwrap();
    assert_eq!(vm.number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='Other$_9'").await, 1);
    assert!(run(&mut session, "USE service_db").await.is_err());
    assert!(vm.connect("first", &User { schema: "Other$_9".into(), ..first }).await.is_err());
    for schema in ["mysql", "sys", "replication_monitoring", "a-b"] {
        let refused = vm.client.put_user("third", &User { schema: schema.into(), ..user("3") }).await.unwrap_err();
        assert!(refused.is_of_request(), "{refused}");
    }
}

#[tokio::test]
async fn what_a_crash_cut_off_is_finished_and_the_user_of_another_is_left_alone() {
    let vm = started().await;
    let (ours, others) = (user("ours"), user("others"));
    vm.sql("CREATE USER 'begun'@'%' IDENTIFIED BY 'ours'; CREATE USER 'bob'@'%' IDENTIFIED BY 'others'").await;

    let finished = vm.client.put_user("begun", &ours).await.unwrap();
    let taken = vm.client.put_user("bob", &User { schema: "new".into(), ..ours.clone() }).await.unwrap_err();

    assert!(!finished.created);
    vm.connect("begun", &ours).await.unwrap();
    assert!(taken.is_of_request() && taken.to_string().contains("there is a user bob already"), "{taken}");
    assert_eq!(vm.number("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='new'").await, 0);
    let is_his = User { schema: "information_schema".into(), ..others };
    vm.connect("bob", &is_his).await.unwrap();
}
