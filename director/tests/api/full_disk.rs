//! A full disk: the director says so, every task ends, and once there is room again nothing is lost.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::answer::{Answer, task_id};
use crate::fixture::manifest;
use crate::world::{World, until};

const FULL: &str = "No space left on device (os error 28)";

fn with_chatty() -> String {
    manifest(2, "{}").replace("{name: fail, release: tandem}", "{name: chatty, release: tandem}")
}

/// None where nothing can be mounted.
async fn pair(text: &str) -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: no disk can be filled without the rights of root");
        return None;
    }
    let world = World::on_small_disk().await;
    world.deploy(text).await.done();
    Some(world)
}

fn fill(world: &World, room: u64) {
    world.disk.as_ref().unwrap().fill(room);
}

fn empty(world: &World) {
    world.disk.as_ref().unwrap().empty();
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", answer.text);
    assert!(answer.text.contains(FULL), "{}", answer.text);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_the_rest_goes_on_also_after_a_crash() {
    let Some(mut world) = pair(&manifest(2, "{}")).await else { return };
    let before = world.instances().await;
    let begun = world.vm(&before[0]).join("data/slow-has-begun");
    let running = task_id(&world.begin_errand("slow", r#"[{"group":"mysql","id":"0"}]"#).await);
    until("the errand runs", || begun.exists()).await;

    fill(&world, 0);

    is_refused(&world.begin_errand("fix", "[]").await);
    is_refused(&world.send_yaml(Method::POST, "/deployments", &manifest(2, "{p: 1}")).await);
    let new = manifest(1, "{}").replace("name: d\n", "name: e\n");
    is_refused(&world.send_yaml(Method::POST, "/deployments", &new).await);
    assert_eq!(world.get("/deployments?exclude_configs=true").await.as_array().unwrap().len(), 1);

    world.crash().await;

    world.was_broken_off(running).await;
    world.is_at_rest().await;
    assert_eq!(world.get("/deployments/d").await["manifest"], manifest(2, "{}"));
    is_refused(&world.begin_errand("fix", "[]").await);

    empty(&world);
    assert_eq!(world.errand("fix", "[]").await.done().text, "2 succeeded, 0 errored, 0 canceled");
    world.deploy(&manifest(2, "{p: 1}")).await.done();
    world.deploy(&new).await.done();
    world.is_whole().await;
    assert_eq!(world.instances().await[0]["vm_cid"], before[0]["vm_cid"]);
    world.crash().await;
    world.is_whole().await;
}

#[tokio::test]
async fn an_errand_whose_result_has_no_room_is_an_error_and_leaves_no_half_line() {
    let Some(world) = pair(&with_chatty()).await else { return };
    let one = r#"[{"group":"mysql","id":"0"}]"#;
    fill(&world, 100_000);

    let task = world.errand("chatty", one).await;

    assert_eq!((task.state.as_str(), task.result.as_str()), ("error", ""));
    assert!(task.error().1.contains(FULL), "{}", task.events);
    world.is_at_rest().await;
    empty(&world);
    assert_eq!(world.errand("chatty", one).await.done().lines()[0]["stdout"].as_str().unwrap().len(), 300_000);
    world.is_whole().await;
}

#[tokio::test]
async fn a_vm_that_cannot_be_remembered_does_not_stay() {
    // The director writes the manifest down with the VM.
    let text = format!("{}# {}\n", manifest(2, "{}"), "x".repeat(300_000));
    let Some(world) = pair(&text).await else { return };
    let action = |verb: &str| format!("/deployments/d/instance_groups/mysql/1/actions/{verb}");
    world.run(Method::POST, &action("stop?hard=true")).await.done();
    fill(&world, 200_000);

    let task = world.run(Method::POST, &action("start")).await;

    assert_eq!(task.state, "error");
    assert!(task.error().1.contains(FULL) && task.error().1.contains("d.json"), "{}", task.events);
    world.is_at_rest().await;
    empty(&world);
    world.run(Method::POST, &action("start")).await.done();
    world.is_whole().await;
}

#[tokio::test]
async fn the_end_of_a_task_is_stored_as_soon_as_there_is_room() {
    let Some(mut world) = pair(&manifest(2, "{}")).await else { return };
    let begun = world.vm(&world.instances().await[0]).join("data/slow-has-begun");
    let errand = world.begin_errand("slow", r#"[{"group":"mysql","id":"0"}]"#).await;
    let id = task_id(&errand);
    until("the errand runs", || begun.exists()).await;
    fill(&world, 0);

    assert_eq!(world.send(Method::DELETE, &format!("/task/{id}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.task(errand).await.state, "cancelled");
    world.is_at_rest().await;
    empty(&world);
    let record = world.path(&format!("state/tasks/{id}/task.json"));
    until("its end is on the disk", || std::fs::read_to_string(&record).unwrap().contains("cancelled")).await;

    world.crash().await;
    let task = world.get(&format!("/tasks/{id}")).await;
    assert_eq!((&task["state"], &task["result"]), (&json!("cancelled"), &json!("task cancelled")));
}
