//! Clients that hang up, and clients that say nothing: a request is carried out to its end or was never begun, and
//! connections are limited.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::world::{World, until};
use reqwest::Method;
use serde_json::Value;

const REQUESTS: u32 = 120;
/// As many as a director takes.
const CONNECTIONS: usize = 512;

fn values(rows: &Value, key: &str) -> BTreeSet<String> {
    rows.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

/// The deployments that have a task, once every task has ended.
fn settled(tasks: &Value) -> Option<BTreeSet<String>> {
    let has_ended = |task: &Value| task["state"] == "error";
    tasks.as_array().unwrap().iter().all(has_ended).then(|| values(tasks, "deployment"))
}

/// The deployments that the disk knows.
fn on_disk(world: &World) -> BTreeSet<String> {
    let files = std::fs::read_dir(world.path("state/deployments")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
}

#[tokio::test]
async fn requests_that_are_cut_in_flight_leave_no_stuck_task_and_no_ghost() {
    let mut world = World::new().await;

    for number in 0..REQUESTS {
        // A connection is there already, so that the cut falls into the request and not into the handshake.
        world.get("/info").await;
        let request = world.request(Method::POST, "/deployments").header("content-type", "text/yaml");
        let request = request.body(format!("name: cut{number}"));
        let answered = tokio::time::timeout(Duration::from_micros(100 * u64::from(number)), request.send()).await;
        drop(answered);
    }

    let deadline = Instant::now() + Duration::from_secs(30);
    let remembered = loop {
        let (tasks, deployments) = (world.get("/tasks?verbose=2").await, world.get("/deployments").await);
        let (tasks, remembered, stored) = (settled(&tasks), values(&deployments, "name"), on_disk(&world));
        if tasks.as_ref() == Some(&remembered) && remembered == stored {
            break remembered;
        }
        assert!(Instant::now() < deadline, "tasks {tasks:?}, in memory {remembered:?}, on disk {stored:?}");
    };
    assert!(!remembered.is_empty(), "some requests were not cut");

    world.kill();
    world.start().await;
    assert_eq!(values(&world.get("/deployments").await, "name"), remembered);
}

#[tokio::test]
async fn idle_connections_are_limited_and_who_has_one_is_served() {
    let world = World::new().await;
    let address = world.url.strip_prefix("https://").unwrap();
    let connect = || {
        let connection = TcpStream::connect(address).unwrap();
        connection.set_nonblocking(true).unwrap();
        connection
    };

    // One more than there are places, together with the one that the client of the test has.
    let idle: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();

    let is_refused = |mut connection: &TcpStream| match connection.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(cause) => cause.kind() == ErrorKind::ConnectionReset,
    };
    until("one is refused", || idle.iter().any(is_refused)).await;
    assert_eq!(world.get("/info").await["user"], "admin");
}
