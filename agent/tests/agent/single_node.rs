//! A single node: it serves, keeps its server, and obeys nobody else.

use agent::Client;
use agent::api::{BROKER_NAME, Command, Role};

use crate::authority::{Authority, authority};
use crate::vm::{DEPLOYMENT, NAME, Vm, deployment};

async fn started() -> Vm {
    let mut vm = deployment(1).pop().unwrap();
    vm.start();
    vm.until("a writable leader", |status| status.role == Role::Leader).await;
    vm
}

#[tokio::test]
async fn a_new_server_is_writable_with_an_empty_history() {
    let vm = started().await;

    let status = vm.status().await.unwrap();

    assert_eq!((status.instance.as_str(), status.gtid_executed.as_str()), ("mysql/id-0", ""));
    assert!(!status.has_data && !status.replication_configured);
    let accounts = "SELECT COUNT(*) FROM mysql.user WHERE User IN ('', 'root') OR (User='admin' AND Host<>'localhost')";
    assert_eq!(vm.number(accounts).await, 0);
    assert!(!vm.root().join("sys/run/mysql/init.sql").exists());
}

#[tokio::test]
async fn only_the_deployment_and_the_broker_are_obeyed() {
    let vm = started().await;
    let address = vm.address.parse().unwrap();
    let status = async |tls| {
        let client = Client::new(address, DEPLOYMENT, &tls).unwrap();
        client.status().await.map_err(|error| error.to_string())
    };

    assert!(status(authority().issue(NAME)).await.is_ok());
    assert!(status(authority().issue(BROKER_NAME)).await.is_ok());
    let other = status(authority().issue("service-instance-other")).await.unwrap_err();
    assert!(other.contains("certificate for service-instance-test or mysql-broker"), "{other}");
    let mut foreign = Authority::new().issue(NAME);
    foreign.ca = authority().issue(NAME).ca;
    assert!(status(foreign).await.is_err());

    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let get = async |path: &str| http.get(format!("https://{address}:8008{path}")).send().await.unwrap();
    assert_eq!(get("/v1/leader").await.status(), 200);
    for path in ["/v1/status", "/v1/inspection", "/metrics", "/v1/backup", "/nothing"] {
        let answer = get(path).await;
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.text().await.unwrap().contains("NotAllowed"));
    }
    assert_eq!(http.post(format!("https://{address}:8008/v1/leader")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn pair_commands_are_refused() {
    let vm = started().await;

    for command in [Command::MakeLeader, Command::MakeReadOnly, Command::ConfigureLeaderFollower, Command::Switchover] {
        let refusal = vm.client.command(command, |_| {}).await.unwrap_err().to_string();
        assert!(refusal.contains("is for a pair"), "{refusal}");
    }
    assert!(!vm.status().await.unwrap().read_only);
}

#[tokio::test]
async fn the_server_outlives_its_agent_and_the_agent_its_server() {
    let mut vm = started().await;
    vm.sql("CREATE DATABASE d; CREATE TABLE d.t (i INT); INSERT INTO d.t VALUES (1)").await;
    let first = vm.server_pid().unwrap();

    vm.kill_agent();
    vm.start();
    vm.until("a writable leader", |status| status.role == Role::Leader).await;
    assert_eq!(vm.server_pid(), Some(first), "the running server is adopted");

    vm.kill_server();
    vm.until("another server", |status| status.role == Role::Leader && vm.server_pid() != Some(first)).await;
    assert_eq!(vm.number("SELECT COUNT(*) FROM d.t").await, 1);

    vm.stop();
    assert_eq!(vm.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_deep_directory_does_not_matter() {
    let mut vm = deployment(1).pop().unwrap();
    vm.move_down(&"a_long_name_of_a_directory/".repeat(3));
    vm.start();
    vm.until("a writable leader", |status| status.role == Role::Leader).await;

    vm.kill_agent();
    vm.start();
    vm.until("a writable leader", |status| status.role == Role::Leader).await;
    vm.stop();
}

#[test]
fn a_configuration_that_cannot_be_used_is_named() {
    let vm = deployment(1).pop().unwrap();
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(vm.config()).unwrap()).unwrap();
    let taken = std::net::TcpListener::bind((vm.address.as_str(), 8008)).unwrap();
    let said = |config: String| {
        std::fs::write(vm.config(), config).unwrap();
        let output = vm.run_to_the_end();
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let with = |path: &str, value: serde_json::Value| {
        let mut config = good.clone();
        *config.pointer_mut(path).unwrap() = value;
        config.to_string()
    };

    for (config, expected) in [
        ("{".to_owned(), "is not usable: EOF while parsing"),
        (
            with("/properties", serde_json::json!({"topologie": 1})),
            "unknown field `topologie`, expected one of `topology`",
        ),
        (with("/properties/tls/ca", "no PEM".into()), "property tls is not usable"),
        (
            with("/spec/ip", "192.0.2.7".into()),
            "cannot listen on 192.0.2.7:8008: the VM's address must be on this machine",
        ),
        (good.to_string(), "8008 free: Address already in use"),
    ] {
        let said = said(config);
        assert!(said.contains(expected), "{said}");
    }
    drop(taken);
    assert!(!vm.root().join("store/mysql").exists(), "nothing is begun");
}
