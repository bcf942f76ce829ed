//! The director's own faults: it is killed in the middle of its work, it makes VMs that never become healthy, and it is
//! asked for much at once. Every task ends, every lock is free again, and a cloud check or the same request again mends
//! what is left. The resurrector is paused where it would mend it first.

use std::collections::BTreeSet;
use std::net::TcpListener;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::task_id;
use crate::fixture::manifest;
use crate::world::{World, file_names, until};

const AT_ONCE: usize = 20;

/// The manifest with one more job, in the place of an errand.
fn with(job: &str) -> String {
    manifest(2, "{}").replace("{name: fix, release: tandem}", &format!("{{name: {job}, release: tandem}}"))
}

async fn pair() -> World {
    let world = World::new().await;
    world.pause_resurrection(true).await;
    world.deploy(&manifest(2, "{}")).await.done();
    for instance in world.instances().await {
        std::fs::write(world.vm(&instance).join("store/row"), instance["id"].to_string()).unwrap();
    }
    world
}

/// Each instance still has the disk that it wrote on.
async fn rows_are_kept(world: &World) {
    for instance in world.instances().await {
        let row = std::fs::read_to_string(world.vm(&instance).join("store/row")).unwrap();
        assert_eq!(row, instance["id"].to_string());
    }
}

#[tokio::test]
async fn a_first_deploy_that_is_killed_is_asked_for_again() {
    let mut world = World::new().await;
    world.pause_resurrection(true).await;
    let kill = async |world: &mut World, task: u64| {
        world.crash().await;
        world.was_broken_off(task).await;
        assert_eq!(world.get("/deployments/d").await, json!({"manifest": null}));
        world.check_cloud().await;
        world.deploy(&manifest(2, "{}")).await.done();
        world.is_whole().await;
        world.run(Method::DELETE, "/deployments/d").await.done();
    };

    let task = task_id(&world.send_yaml(Method::POST, "/deployments", &with("deaf")).await);
    until("a VM is being made", || !file_names(&world.path("state/vms")).is_empty()).await;
    kill(&mut world, task).await;

    let task = task_id(&world.send_yaml(Method::POST, "/deployments", &with("deaf")).await);
    until("the first instance is started", || world.events_of(task).contains("(canary)")).await;
    kill(&mut world, task).await;

    let task = task_id(&world.send_yaml(Method::POST, "/deployments", &with("deaf")).await);
    until("the first instance is started", || world.events_of(task).contains("(canary)")).await;
    let health = TcpListener::bind((world.address(2), 8008)).unwrap();
    until("the second one is started", || world.events_of(task).matches("Updating instance").count() == 3).await;
    drop(health);
    kill(&mut world, task).await;
}

#[tokio::test]
async fn an_update_that_is_killed_while_it_stops_jobs_is_asked_for_again() {
    let mut world = pair().await;
    let vm = world.vm(&world.instances().await[0]);
    std::fs::write(vm.join("data/slow-to-end"), "").unwrap();
    let task = task_id(&world.send_yaml(Method::POST, "/deployments", &manifest(2, "{p: 2}")).await);
    until("its jobs are being stopped", || vm.join("data/is-ending").exists()).await;

    world.kill();
    std::fs::remove_file(vm.join("data/slow-to-end")).unwrap();
    world.start().await;

    world.was_broken_off(task).await;
    assert_eq!(world.check_cloud().await, [""; 0], "jobs that are stopped are no VM that is lost");
    world.deploy(&manifest(2, "{p: 2}")).await.done();
    world.is_whole().await;
    rows_are_kept(&world).await;
}

#[tokio::test]
async fn an_errand_that_is_killed_ends_everywhere_and_runs_again() {
    let mut world = pair().await;
    let vms: Vec<_> = world.instances().await.iter().map(|instance| world.vm(instance)).collect();
    let task = task_id(&world.begin_errand("slow", "[]").await);
    until("it runs on both", || vms.iter().all(|vm| vm.join("data/slow-has-begun").exists())).await;

    world.crash().await;

    world.was_broken_off(task).await;
    assert_eq!(world.errand_processes(), [0; 0]);
    world.is_whole().await;
    assert_eq!(world.errand("fix", "[]").await.done().text, "2 succeeded, 0 errored, 0 canceled");
    assert_eq!(world.check_cloud().await, [""; 0]);
    rows_are_kept(&world).await;
}

#[tokio::test]
async fn a_recreate_that_is_killed_is_mended_by_a_cloud_check() {
    let mut world = pair().await;
    let before = world.instances().await;
    let vm = world.vm(&before[0]);
    std::fs::write(vm.join("data/slow-to-end"), "").unwrap();
    let recreate = "/deployments/d/jobs/mysql/0?state=recreate";
    let task = task_id(&world.send_yaml(Method::PUT, recreate, "").await);
    until("its jobs are being stopped", || vm.join("data/is-ending").exists()).await;

    world.kill();
    std::fs::remove_file(vm.join("data/slow-to-end")).unwrap();
    world.start().await;

    world.was_broken_off(task).await;
    world.deploy(&manifest(2, "{}")).await.done();
    world.is_whole().await;

    // A new VM cannot be made as long as somebody has its port: the director dies while there is none.
    let vm = world.vm(&world.instances().await[0]);
    let task = task_id(&world.send_yaml(Method::PUT, recreate, "").await);
    until("the old VM is gone", || !vm.exists()).await;
    world.kill();
    let (left, known) = (file_names(&world.path("state/vms")).len(), stored_vms(&world));
    world.start().await;

    assert_ne!(world.get(&format!("/tasks/{task}")).await["state"], "processing");
    let lost = 2 - known;
    assert_eq!(world.check_cloud().await, vec!["missing_vm"; lost], "{left} VMs were there");
    world.deploy(&manifest(2, "{}")).await.done();
    world.is_whole().await;
    rows_are_kept(&world).await;
    assert_ne!(world.instances().await[0]["vm_cid"], before[0]["vm_cid"]);
}

/// How many of the VMs that the director's file names are there.
fn stored_vms(world: &World) -> usize {
    let text = std::fs::read(world.path("state/deployments/d.json")).unwrap();
    let deployment: Value = serde_json::from_slice(&text).unwrap();
    let instances = deployment["instances"].as_array().unwrap().iter();
    instances
        .filter_map(|instance| instance["vm"]["cid"].as_str())
        .filter(|cid| world.path("state/vms").join(cid).exists())
        .count()
}

#[tokio::test]
async fn a_deletion_that_is_killed_is_asked_for_again_and_keeps_the_disks() {
    let mut world = pair().await;
    let before = world.instances().await;
    let (slow, quick) = (world.vm(&before[0]), world.vm(&before[1]));
    std::fs::write(slow.join("data/slow-to-end"), "").unwrap();
    let task = task_id(&world.send(Method::DELETE, "/deployments/d").await);
    until("one VM is gone, and the other one's jobs end", || !quick.exists() && slow.join("data/is-ending").exists())
        .await;

    world.kill();
    std::fs::remove_file(slow.join("data/slow-to-end")).unwrap();
    world.start().await;

    world.was_broken_off(task).await;
    world.run(Method::DELETE, "/deployments/d?force=true").await.done();
    world.is_whole().await;
    let cids = |rows: &[Value]| rows.iter().map(|row| row["disk_cid"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(cids(world.get("/disks").await.as_array().unwrap()), cids(&before));
}

#[tokio::test]
async fn a_vm_that_never_becomes_healthy_fails_the_deploy_with_its_name_and_a_corrected_deploy_heals_it() {
    let world = pair().await;
    let before = world.instances().await;
    let title = format!("'mysql/{} (0)'", before[0]["id"].as_str().unwrap());
    let hasty = |job: &str| with(job).replace("canary_watch_time: 1-20000", "canary_watch_time: 1-400");

    for (job, state) in [("broken", "failing"), ("deaf", "starting")] {
        let task = world.deploy(&hasty(job)).await;

        let expected = format!("{title} is not running after update. Review logs for failed jobs: {job}");
        assert_eq!((task.state.as_str(), task.error()), ("error", (400_007, expected)));
        world.is_at_rest().await;
        let now = world.instances().await;
        let states = [&now[0]["job_state"], &now[1]["job_state"]];
        assert!(states == [state, "running"] || job == "broken" && states == ["starting", "running"], "{states:?}");
        assert_eq!(now[1]["vm_cid"], before[1]["vm_cid"]);
        assert_eq!(world.check_cloud().await, [""; 0], "the VM itself is well");
        world.deploy(&manifest(2, "{}")).await.done();
        world.is_whole().await;
    }
    rows_are_kept(&world).await;
}

#[tokio::test]
async fn a_first_deploy_without_health_is_healed_by_a_corrected_one() {
    let world = World::new().await;
    let text = with("deaf").replace("canary_watch_time: 1-20000", "canary_watch_time: 1-400");

    let task = world.deploy(&text).await;

    assert_eq!((task.state.as_str(), task.error().0), ("error", 400_007));
    world.is_at_rest().await;
    assert_eq!(world.get("/deployments/d").await, json!({"manifest": null}));
    world.deploy(&manifest(2, "{}")).await.done();
    world.is_whole().await;
}

#[tokio::test]
async fn twenty_deployments_at_once_are_made_and_deleted() {
    let world = World::new().await;
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("d{number}")).collect();
    let deploys = names.iter().map(|name| {
        let text = manifest(2, "{}").replace("name: d\n", &format!("name: {name}\n"));
        let world = &world;
        async move { world.deploy(&text).await.done() }
    });

    let tasks = join_all(deploys).await;

    let ids: BTreeSet<u64> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids.len(), AT_ONCE);
    world.is_whole().await;
    assert_eq!(file_names(&world.path("state/vms")).len(), 2 * AT_ONCE);
    assert_eq!(client_addresses(&world, &names), AT_ONCE);

    let deletions = names.iter().map(|name| {
        let (world, path) = (&world, format!("/deployments/{name}"));
        async move { world.run(Method::DELETE, &path).await.done() }
    });
    join_all(deletions).await;

    world.is_whole().await;
    assert_eq!(world.residents(), []);
    assert_eq!(world.get("/disks").await.as_array().unwrap().len(), 2 * AT_ONCE);
}

/// How many different ones.
fn client_addresses(world: &World, names: &[String]) -> usize {
    let address = |name: &String| {
        let text = std::fs::read(world.path(&format!("state/deployments/{name}.json"))).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["client_address"]["address"].as_str().unwrap().to_owned()
    };
    names.iter().map(address).collect::<BTreeSet<_>>().len()
}
