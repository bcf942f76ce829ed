//! Single instances and errands through the API of the running program: stopped, recreated, killed, resurrected.

use crate::answer::task_id;
use crate::fixture::manifest;
use crate::world::{World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const JOBS: &str = "/deployments/d/jobs/mysql";
const GROUP: &str = "/deployments/d/instance_groups/mysql";

async fn pair() -> World {
    let world = World::new().await;
    let task = world.deploy(&manifest(2, "{}")).await;
    assert_eq!(task.state, "done", "{}", task.events);
    world
}

async fn states(world: &World) -> Vec<(Value, Value)> {
    world.instances().await.iter().map(|i| (i["state"].clone(), i["job_state"].clone())).collect()
}

#[tokio::test]
async fn an_instance_is_stopped_started_and_recreated_in_both_forms() {
    let world = pair().await;
    let before = world.instances().await;
    let running = (json!("started"), json!("running"));
    let table = [
        (Method::PUT, format!("{JOBS}/1?state=stopped"), "/deployments/d", ("stopped", json!("stopped"))),
        (Method::PUT, format!("{JOBS}/1?state=started"), "/deployments/d", ("started", json!("running"))),
        (Method::PUT, format!("{JOBS}/1?state=detached"), "/deployments/d", ("detached", Value::Null)),
        (Method::PUT, format!("{JOBS}/1?state=recreate"), "/deployments/d", ("started", json!("running"))),
        (Method::POST, format!("{GROUP}/1/actions/stop"), "mysql/", ("stopped", json!("stopped"))),
        (Method::POST, format!("{GROUP}/1/actions/restart"), "mysql/", ("started", json!("running"))),
        (Method::POST, format!("{GROUP}/1/actions/stop?hard=true"), "mysql/", ("detached", Value::Null)),
        (Method::POST, format!("{GROUP}/1/actions/start"), "mysql/", ("started", json!("running"))),
    ];
    for (method, path, result, (state, job_state)) in table {
        let task = world.run(method, &path).await;
        assert_eq!(task.state, "done", "{path}: {}", task.events);
        assert!(task.text.starts_with(result), "{path}: {}", task.text);
        assert_eq!(states(&world).await, [running.clone(), (json!(state), job_state)], "{path}");
    }
    let between = world.instances().await;
    let id = before[1]["id"].as_str().unwrap();
    assert_eq!(world.run(Method::POST, &format!("{GROUP}/{id}/actions/recreate")).await.state, "done");
    let after = world.instances().await;
    assert_eq!(after[0]["vm_cid"], between[0]["vm_cid"]);
    assert_ne!(after[1]["vm_cid"], between[1]["vm_cid"]);
    for key in ["id", "index", "az", "ips", "disk_cids"] {
        assert_eq!(after[1][key], before[1][key], "{key}");
    }
    assert_eq!(world.run(Method::PUT, "/deployments/d/jobs/*?state=restart").await.state, "done");

    let unknown = world.send_yaml(Method::PUT, &format!("{JOBS}/9?state=stopped"), "").await;
    assert_eq!(unknown.json(), json!({"code": 70001, "description": "'d/mysql/9' doesn't exist"}));
    let malformed = world.send_yaml(Method::PUT, &format!("{JOBS}/nine?state=stopped"), "").await;
    assert_eq!((malformed.status, &malformed.json()["code"]), (StatusCode::BAD_REQUEST, &json!(70002)));
}

#[tokio::test]
async fn errands_run_on_the_chosen_instances_and_an_exit_code_is_a_result() {
    let world = pair().await;
    assert_eq!(world.get("/deployments/d/errands").await, json!([{"name": "fail"}, {"name": "fix"}, {"name": "slow"}]));

    let all = world.errand("fix", "[]").await;
    assert_eq!((all.state.as_str(), all.text.as_str()), ("done", "2 succeeded, 0 errored, 0 canceled"));
    assert_eq!(all.lines().len(), 2);
    assert!(all.events.contains(r#""type":"warning""#), "{}", all.events);

    let one = world.errand("fail", r#"[{"group":"mysql","id":"1"}]"#).await;
    assert_eq!((one.state.as_str(), one.text.as_str()), ("done", "0 succeeded, 1 errored, 0 canceled"));
    let line = &one.lines()[0];
    assert_eq!(
        (&line["exit_code"], &line["stdout"], &line["errand_name"]),
        (&json!(7), &json!("not today\n"), &json!("fail"))
    );
    assert_eq!(line["instance"]["group"], "mysql");

    let unknown = world.errand("nope", "[]").await;
    assert_eq!((unknown.state.as_str(), unknown.error()), ("error", (70_009, "Errand 'nope' doesn't exist".into())));
    let nobody = world.errand("fix", r#"[{"group":"mysql","id":"9"}]"#).await;
    assert_eq!(nobody.error(), (100, "No instances match selection criteria".into()));
    world.run(Method::PUT, &format!("{JOBS}/1?state=stopped")).await;
    assert_eq!(world.errand("fix", "[]").await.error().0, 510_000);
    assert_eq!(world.errand("fix", r#"[{"group":"mysql","id":"first"}]"#).await.state, "done");
    let garbage = world.request(Method::POST, "/deployments/d/errands/fix/runs").body("{");
    let garbage = world.finish(garbage).await;
    assert_eq!((garbage.status, garbage.text.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, ""));
}

#[tokio::test]
async fn a_running_errand_holds_the_lock_and_is_cancelled() {
    let world = pair().await;
    let begun = world.vm(&world.instances().await[0]).join("data/slow-has-begun");
    let errand = world.begin_errand("slow", r#"[{"group":"mysql","id":"0"}]"#).await;
    let id = task_id(&errand);
    until("the errand runs", || begun.exists()).await;
    let locks = world.get("/locks").await;
    assert_eq!((&locks[0]["resource"], &locks[0]["task_id"]), (&json!(["d"]), &json!(id.to_string())));

    let second = world.deploy(&manifest(2, "{p: 1}")).await;
    let (code, message) = second.error();
    assert_eq!(code, 100);
    assert!(message.starts_with("Failed to acquire lock for lock:deployment:d uid: "), "{message}");
    let tail = format!("Locking task id is {id}, description: 'run errand slow from deployment d'");
    assert!(message.ends_with(&tail), "{message}");

    assert_eq!(world.send(Method::DELETE, &format!("/task/{id}")).await.status, StatusCode::NO_CONTENT);
    let cancelled = world.task(errand).await;
    assert_eq!((cancelled.state.as_str(), cancelled.text.as_str()), ("cancelled", "task cancelled"));
    assert_eq!(cancelled.lines()[0]["exit_code"], 143);
    assert_eq!(cancelled.error().0, 10_001);
    assert_eq!(world.get("/locks").await, json!([]));
    let again = world.send(Method::DELETE, &format!("/task/{id}")).await;
    assert_eq!(again.text, format!("Cannot cancel task {id}: invalid state (cancelled)"));
}

#[tokio::test]
async fn a_dead_vm_fails_what_is_aimed_at_it_at_once_and_an_errand_on_the_other_works() {
    let world = pair().await;
    world.pause_resurrection(true).await;
    let before = world.instances().await;
    std::fs::write(world.vm(&before[0]).join("store/row"), "kept").unwrap();

    world.kill_vm(&before[0]);

    let slug = format!("mysql/{}", before[0]["id"].as_str().unwrap());
    let agent = before[0]["agent_id"].as_str().unwrap();
    let expected = format!("Timed out sending 'get_state' to instance: '{slug}', agent-id: '{agent}' after 45 seconds");
    assert_eq!(states(&world).await[0], (json!("started"), json!("unresponsive agent")));
    assert_eq!(world.deploy(&manifest(2, "{}")).await.error(), (450_002, expected.clone()));
    assert_eq!(world.errand("fix", "[]").await.error(), (450_002, expected.clone()));
    assert_eq!(world.errand("fix", r#"[{"group":"mysql","id":"1"}]"#).await.text, "1 succeeded, 0 errored, 0 canceled");
    assert_eq!(world.run(Method::POST, &format!("{GROUP}/0/actions/recreate")).await.error(), (450_002, expected));
    let path = format!("{GROUP}/0/actions/recreate?ignore_unresponsive_agent=true");
    assert_eq!(world.run(Method::POST, &path).await.state, "done");
    let after = world.instances().await;
    assert_eq!((&after[0]["ips"], &after[0]["job_state"]), (&before[0]["ips"], &json!("running")));
    assert_eq!(std::fs::read_to_string(world.vm(&after[0]).join("store/row")).unwrap(), "kept");

    world.kill_vm(&after[1]);
    assert_eq!(world.run(Method::PUT, &format!("{JOBS}/1?state=recreate&fix=true")).await.state, "done");
    world.kill_vm(&world.instances().await[1]);
    assert_eq!(world.run(Method::DELETE, "/deployments/d").await.error().0, 450_002);
    assert_eq!(world.run(Method::DELETE, "/deployments/d?force=true").await.state, "done");
}

#[tokio::test]
async fn a_lost_vm_is_resurrected_with_its_disk_and_address() {
    let world = pair().await;
    let before = world.instances().await;
    std::fs::write(world.vm(&before[1]).join("store/row"), "kept").unwrap();

    world.kill_vm(&before[1]);
    let cid = before[0]["vm_cid"].as_str().unwrap();
    let deleted = world.run(Method::DELETE, &format!("/vms/{cid}")).await;
    assert_eq!((deleted.state.as_str(), deleted.text), ("done", format!("vm {cid} deleted")));

    let old: Vec<_> = before.iter().map(|instance| world.vm(instance)).collect();
    until("the old VMs are gone", || old.iter().all(|directory| !directory.exists())).await;
    let after = world.instances_when(|after| after.iter().all(|instance| instance["job_state"] == "running")).await;
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before["vm_cid"], after["vm_cid"]);
        assert_eq!(
            (&before["id"], &before["ips"], &before["disk_cid"]),
            (&after["id"], &after["ips"], &after["disk_cid"])
        );
    }
    assert_eq!(std::fs::read_to_string(world.vm(&after[1]).join("store/row")).unwrap(), "kept");
    assert!(world.get("/tasks?verbose=2").await.to_string().contains("scan and fix"));
}

#[tokio::test]
async fn a_director_that_was_killed_finds_its_vms_again_and_its_tasks_are_errors() {
    let mut world = pair().await;
    let before = world.instances().await;
    let begun = world.vm(&before[0]).join("data/slow-has-begun");
    let id = task_id(&world.begin_errand("slow", r#"[{"group":"mysql","id":"0"}]"#).await);
    until("the errand runs", || begun.exists()).await;

    assert!(!world.errand_processes().is_empty());
    world.kill();
    let half_made = world.path("state/vms/vm-half-made");
    std::fs::create_dir(&half_made).unwrap();
    world.start().await;

    let task = world.get(&format!("/tasks/{id}")).await;
    assert_eq!((&task["state"], &task["deployment"]), (&json!("error"), &json!("d")));
    assert_eq!(world.errand_processes(), [0; 0], "an errand does not outlive its task");
    assert_eq!(world.get("/locks").await, json!([]));
    assert!(!half_made.exists());
    let after = world.instances().await;
    for key in ["vm_cid", "agent_id", "job_state", "ips"] {
        assert_eq!(after[0][key], before[0][key], "{key}");
    }
    assert!(world.stop().success());
    world.start().await;
    assert_eq!(world.instances().await[1]["vm_cid"], before[1]["vm_cid"]);
}

#[tokio::test]
async fn the_output_of_a_task_is_read_piece_by_piece() {
    let world = pair().await;
    let task = world.errand("fix", r#"[{"group":"mysql","id":"0"}]"#).await;
    let read = |range: String| {
        let path = format!("/tasks/{}/output?type=event", task.id);
        world.finish(world.request(Method::GET, &path).header("range", range))
    };

    let (part, end) = (read("bytes=10-".into()).await, read(format!("bytes={}-", task.events.len())).await);

    assert_eq!((part.status, part.text.as_str()), (StatusCode::PARTIAL_CONTENT, &task.events[10..]));
    assert_eq!(end.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(end.headers["content-range"], format!("bytes */{}", task.events.len()));
    let debug = world.send(Method::GET, &format!("/tasks/{}/output", task.id)).await;
    assert_eq!((debug.status, &debug.headers["content-type"].to_str().unwrap()[..10]), (StatusCode::OK, "text/plain"));
    let none = world.send(Method::GET, &format!("/tasks/{}/output?type=cpi", task.id)).await;
    assert_eq!(none.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_deploy_that_the_directors_end_broke_off_is_an_error_without_a_result_and_without_an_error_event() {
    let mut world = pair().await;
    // The resurrector would work on the stuck instance first, with the deployment's lock.
    world.pause_resurrection(true).await;
    let stuck = manifest(2, "{}").replace("{name: fix, release: tandem}", "{name: broken, release: tandem}");
    let id = task_id(&world.send_yaml(Method::POST, "/deployments", &stuck).await);
    let events = world.path(&format!("state/tasks/{id}/event"));
    until("it updates an instance", || std::fs::read_to_string(&events).unwrap().contains("(canary)")).await;

    world.kill();
    world.start().await;

    let task = world.get(&format!("/tasks/{id}")).await;
    assert_eq!((&task["state"], &task["result"]), (&json!("error"), &Value::Null));
    let events = world.send(Method::GET, &format!("/tasks/{id}/output?type=event")).await.text;
    assert!(!events.contains("error"), "{events}");
    assert_eq!(world.deploy(&manifest(2, "{}")).await.state, "done", "it may be asked for again");
}

#[tokio::test]
async fn jobs_that_a_broken_off_restart_left_stopped_are_started_and_stopped_ones_are_not() {
    let mut world = pair().await;
    assert_eq!(world.run(Method::POST, &format!("{GROUP}/1/actions/stop")).await.state, "done");
    let vm = world.vm(&world.instances().await[0]);
    std::fs::write(vm.join("data/slow-to-end"), "").unwrap();
    world.send_yaml(Method::POST, &format!("{GROUP}/0/actions/restart"), "").await;
    until("its job is being stopped", || vm.join("data/is-ending").exists()).await;

    world.kill();
    std::fs::remove_file(vm.join("data/slow-to-end")).unwrap();
    world.start().await;

    world.instances_when(|now| now[0]["job_state"] == "running").await;
    let (started, stopped) = ((json!("started"), json!("running")), (json!("stopped"), json!("stopped")));
    assert_eq!(states(&world).await, [started, stopped]);
    assert!(world.get("/tasks?verbose=2").await.to_string().contains("scan and fix"));
}
