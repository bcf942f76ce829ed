//! A task that is cancelled while a job prepares to be stopped.

use crate::answer::task_id;
use crate::fixture::manifest;
use crate::world::{World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// All that a stop or another configuration would change.
fn state(instance: &Value) -> Vec<Value> {
    let keys = ["vm_cid", "agent_id", "state", "job_state", "ips"];
    let names = instance["processes"].as_array().unwrap().iter().map(|process| process["state"].clone());
    keys.iter().map(|key| instance[*key].clone()).chain(names).collect()
}

#[tokio::test]
async fn a_task_that_is_cancelled_while_a_job_prepares_to_be_stopped_leaves_the_instance_as_it_was() {
    let world = World::new().await;
    assert_eq!(world.deploy(&manifest(1, "{}")).await.state, "done");
    let before = world.instances().await;
    let vm = world.vm(&before[0]);
    let (prepares, is_preparing) = (vm.join("data/prepares"), vm.join("data/is-preparing"));
    let config = std::fs::read_to_string(vm.join("jobs/server/config.json")).unwrap();
    let (restart, change) = ("/deployments/d/instance_groups/mysql/0/actions/restart", manifest(1, "{p: 1}"));

    // The second program minds no SIGTERM, and is killed.
    for (program, path, body) in [(":", restart, ""), ("trap '' TERM", "/deployments", change.as_str())] {
        std::fs::write(&prepares, program).unwrap();
        let begun = world.send_yaml(Method::POST, path, body).await;
        let id = task_id(&begun);
        until("a job prepares", || is_preparing.exists()).await;
        assert_eq!(world.get("/locks").await[0]["task_id"], json!(id.to_string()));
        assert_eq!(world.errand_processes().len(), 1);

        assert_eq!(world.send(Method::DELETE, &format!("/task/{id}")).await.status, StatusCode::NO_CONTENT);

        let task = world.task(begun).await;
        assert_eq!((task.state.as_str(), task.error().0), ("cancelled", 10_001), "{}", task.events);
        assert_eq!(world.errand_processes(), [0; 0], "what prepares ends with the task");
        assert_eq!(world.get("/locks").await, json!([]));
        let asked = std::fs::read_to_string(&is_preparing).unwrap();
        assert_eq!(asked.lines().count(), 1, "the other job is not asked any more");
        assert!(!vm.join("data/is-ending").exists(), "a job was stopped");
        assert_eq!(state(&world.instances().await[0]), state(&before[0]));
        assert_eq!(std::fs::read_to_string(vm.join("jobs/server/config.json")).unwrap(), config);
        std::fs::remove_file(&is_preparing).unwrap();
    }

    std::fs::remove_file(&prepares).unwrap();
    assert_eq!(world.deploy(&change).await.state, "done");
}
