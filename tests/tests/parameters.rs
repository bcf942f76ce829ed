//! What a developer may ask of a service instance and of a binding, from the request to the servers.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::broker::{Answer, DB_LEADER_FOLLOWER, DB_SINGLE, SERVICE_ID, new_id, provision_body};
use tests::mysql::Credentials;
use tests::stack::Wiring;
use tests::{Service, Stack, mysql};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Direct)).await
}

async fn bind(service: &Service<'_>, id: &str, parameters: &Value) -> Result<Answer> {
    let body = json!({"service_id": SERVICE_ID, "plan_id": DB_SINGLE, "parameters": parameters});
    service.stack.broker.call(Method::PUT, &path(service, id), Some(&body)).await
}

fn path(service: &Service<'_>, id: &str) -> String {
    format!("/v2/service_instances/{}/service_bindings/{id}", service.id())
}

#[tokio::test]
async fn a_binding_has_the_name_the_schema_and_the_rights_that_were_asked_for() -> Result<()> {
    let stack = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let (owner, reader, other) = (new_id(), new_id(), new_id());
    let asked = json!({"username": "bob", "schema": "orders"});

    let first = bind(&service, &owner, &asked).await?;
    let again = bind(&service, &owner, &asked).await?;
    let shown = stack.broker.get(&path(&service, &owner)).await?;
    let reading = bind(&service, &reader, &json!({"read-only": true, "schema": "orders"})).await?;
    let taken = bind(&service, &other, &json!({"username": "bob"})).await?;

    assert_eq!((first.status, again.status, reading.status, taken.status), (201, 200, 201, 400), "{}", taken.body);
    assert_eq!(first.body, again.body);
    assert_eq!((&shown.body["credentials"], &shown.body["parameters"]), (&first.body["credentials"], &asked));
    let description = taken.body["description"].as_str().context("a description")?;
    ensure!(description.contains("there is a user bob already"), "{description}");
    let credentials = Credentials::from_answer(&first.body)?;
    assert_eq!((credentials.username.as_str(), credentials.name.as_str()), ("bob", "orders"));
    let mut writer = credentials.connect().await?;
    mysql::execute(&mut writer, "CREATE TABLE fruit (name VARCHAR(20)); INSERT INTO fruit VALUES ('quince')").await?;
    let mut session = Credentials::from_answer(&reading.body)?.connect().await?;
    assert_eq!(mysql::text(&mut session, "SELECT name FROM fruit").await?, "quince");
    ensure!(mysql::execute(&mut session, "DELETE FROM fruit").await.is_err(), "a reader deletes");

    // The refused binding has no row, so its end is not the end of the user that has the name.
    assert_eq!(stack.broker.unbind(&service.id(), DB_SINGLE, &other).await?.status, 410);
    assert_eq!(mysql::text(&mut writer, "SELECT name FROM fruit").await?, "quince");
    assert_eq!(stack.broker.unbind(&service.id(), DB_SINGLE, &owner).await?.status, 200);
    ensure!(mysql::text(&mut writer, "SELECT 1").await.is_err(), "the session is cut");
    ensure!(credentials.connect().await.is_err(), "the user is gone");
    assert_eq!(bind(&service, &other, &json!({"username": "bob"})).await?.status, 201);
    service.delete().await
}

#[tokio::test]
async fn a_successor_works_beside_its_predecessor_and_after_it() -> Result<()> {
    let stack = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let (old, new) = (new_id(), new_id());
    let asked = json!({"username": "bob", "schema": "orders"});
    let first = Credentials::from_answer(&bind(&service, &old, &asked).await?.body)?;
    let mut writer = first.connect().await?;
    mysql::execute(&mut writer, "CREATE TABLE fruit (name VARCHAR(20)); INSERT INTO fruit VALUES ('quince')").await?;
    let rotate = async || {
        let body = json!({"predecessor_binding_id": old});
        stack.broker.call(Method::PUT, &path(&service, &new), Some(&body)).await
    };

    let made = rotate().await?;
    let second = Credentials::from_answer(&made.body)?;

    assert_eq!((made.status, second.name.as_str()), (201, "orders"), "{}", made.body);
    assert_ne!(second.username, first.username);
    assert_eq!(mysql::text(&mut second.connect().await?, "SELECT name FROM fruit").await?, "quince");
    assert_eq!(mysql::text(&mut first.connect().await?, "SELECT name FROM fruit").await?, "quince");
    assert_eq!(stack.broker.unbind(&service.id(), DB_SINGLE, &old).await?.status, 200);
    let again = rotate().await?;
    assert_eq!((again.status, &again.body), (200, &made.body));
    assert_eq!(stack.broker.get(&path(&service, &new)).await?.body["parameters"], json!({"schema": "orders"}));
    assert_eq!(mysql::text(&mut second.connect().await?, "SELECT name FROM fruit").await?, "quince");
    assert_eq!(stack.broker.unbind(&service.id(), DB_SINGLE, &new).await?.status, 200);
    ensure!(second.connect().await.is_err(), "the user is gone");
    service.delete().await
}

#[tokio::test]
async fn the_servers_of_an_instance_are_as_was_asked_for() -> Result<()> {
    let stack = stack().await?;
    let id = new_id();
    let path = format!("/v2/service_instances/{id}");
    let mut body = provision_body(DB_LEADER_FOLLOWER);
    body["parameters"] = json!({
        "workload": "read-heavy", "default-collation": "utf8mb4_unicode_ci", "enable_lower_case_table_names": true,
        "optimize_for_short_words": true, "replication_mode": "semi-sync", "semi_sync_ack_timeout_in_ms": 4000,
    });

    let accepted = stack.broker.call(Method::PUT, &format!("{path}?accepts_incomplete=true"), Some(&body)).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    assert_eq!(stack.broker.settled(&id).await?["state"], "succeeded");

    let service = Service::of(stack, &id, DB_LEADER_FOLLOWER)?;
    assert_eq!(stack.broker.get(&path).await?.body["parameters"], body["parameters"]);
    let mut client = service.bind().await?.credentials.connect().await?;
    let said = "SELECT CONCAT_WS(' ', @@innodb_flush_method, @@character_set_database, @@collation_database, \
                @@lower_case_table_names, @@innodb_ft_min_token_size, @@rpl_semi_sync_master_timeout)";
    assert_eq!(mysql::text(&mut client, said).await?, "O_DIRECT utf8mb4 utf8mb4_unicode_ci 1 1 4000");
    mysql::execute(&mut client, "CREATE TABLE Fruit (name VARCHAR(20)); INSERT INTO FRUIT VALUES ('quince')").await?;
    service.delete().await
}

#[tokio::test]
async fn parameters_are_changed_on_the_running_server_and_bad_ones_change_nothing() -> Result<()> {
    let service = Service::provision(stack().await?, DB_SINGLE).await?;
    let (broker, id) = (&service.stack.broker, service.id());
    let mut writer = service.bind().await?.credentials.connect().await?;
    mysql::execute(&mut writer, "CREATE TABLE fruit (name VARCHAR(20)); INSERT INTO fruit VALUES ('quince')").await?;
    let word = "the configuration parameter";

    for (parameters, words) in [
        (json!({"colour": "red"}), format!("1 error occurred:\n    * {word} 'colour' is not a valid option")),
        (json!({"replication_mode": "async"}), format!("{word} 'replication_mode' is not a valid option")),
        (json!({"optimize_for_short_words": 1}), format!("{word} 'optimize_for_short_words' must be true or false")),
        (
            json!({"enable_lower_case_table_names": true, "optimize_for_short_words": true}),
            format!("{word} 'enable_lower_case_table_names' holds for the life of a service instance"),
        ),
        (json!({"colour": 1, "workload": "idle"}), "2 errors occurred:\n".into()),
    ] {
        let answer = broker.update(&id, &json!({"parameters": parameters})).await?;
        let description = answer.body["description"].as_str().unwrap_or_default();
        ensure!(answer.status == 400 && description.contains(&words), "{parameters}: {answer:?}");
    }
    // Nobody has restarted the server.
    assert_eq!(mysql::text(&mut writer, "SELECT @@innodb_ft_min_token_size").await?, "3");

    let good = json!({"optimize_for_short_words": true, "workload": "read-heavy"});
    let service = service.updated(DB_SINGLE, &json!({"parameters": good})).await?;

    let mut reader = service.bind().await?.credentials.connect().await?;
    let said = "SELECT CONCAT_WS(' ', name, @@innodb_ft_min_token_size, @@innodb_flush_method) FROM fruit";
    assert_eq!(mysql::text(&mut reader, said).await?, "quince 1 O_DIRECT");
    let shown = service.stack.broker.get(&format!("/v2/service_instances/{}", service.id())).await?;
    assert_eq!(shown.body["parameters"], good);
    service.delete().await
}
