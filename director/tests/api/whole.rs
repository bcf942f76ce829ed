//! Whether a director and what it rules are whole: nothing is lost, nothing is there twice, nothing is stuck.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Task;
use crate::world::{World, file_names};

impl World {
    /// Every task has ended, and no lock is held.
    pub(crate) async fn is_at_rest(&self) {
        let tasks = self.get("/tasks?verbose=2&limit=1000").await;
        let has_ended = |task: &Value| ["done", "error", "cancelled"].contains(&task["state"].as_str().unwrap());
        assert!(tasks.as_array().unwrap().iter().all(has_ended), "{tasks}");
        assert_eq!(self.get("/locks").await, json!([]));
    }

    /// Every instance runs in a VM of its own with an address of its own, there is no other VM and no other process, and
    /// every disk has one owner or is an orphan.
    pub(crate) async fn is_whole(&self) {
        self.is_at_rest().await;
        let mut instances = Vec::new();
        for deployment in self.get("/deployments").await.as_array().unwrap() {
            instances.extend(self.instances_of(deployment["name"].as_str().unwrap()).await);
        }
        assert!(instances.iter().all(|instance| instance["job_state"] == "running"), "{instances:?}");
        let vms = distinct(instances.iter().map(|instance| &instance["vm_cid"]));
        distinct(instances.iter().map(|instance| &instance["ips"][0]));
        let orphans = self.get("/disks").await;
        let orphans = orphans.as_array().unwrap().iter().map(|orphan| &orphan["disk_cid"]);
        let disks = distinct(instances.iter().map(|instance| &instance["disk_cid"]).chain(orphans));

        assert_eq!(files(self, "state/vms"), vms);
        assert_eq!(files(self, "state/disks"), disks);
        let residents = self.residents();
        let those = |what: &str| {
            let meant = residents.iter().filter(|(_, arguments)| arguments.contains(what));
            let mut cids: Vec<String> = meant.map(|(cid, _)| cid.clone()).collect();
            cids.sort();
            cids
        };
        let expected: Vec<String> = vms.iter().cloned().collect();
        assert_eq!(those(" vm --dir "), expected, "one supervisor for each VM: {residents:?}");
        assert_eq!(those("programs/server "), expected, "one program for each VM: {residents:?}");
        assert!(residents.iter().all(|(cid, _)| vms.contains(cid)), "{residents:?}");
    }

    /// `cck` of `d`: what is found, by type, and that a new VM for each mends it.
    pub(crate) async fn check_cloud(&self) -> Vec<String> {
        let scan = async || {
            let task = self.run(Method::POST, "/deployments/d/scans").await;
            assert_eq!(task.state, "done", "{}", task.events);
            self.get("/deployments/d/problems").await.as_array().unwrap().clone()
        };
        let problems = scan().await;
        let new_vm = |problem: &Value| (problem["id"].to_string(), json!("recreate_vm"));
        let resolutions: serde_json::Map<String, Value> = problems.iter().map(new_vm).collect();
        let request = self.request(Method::PUT, "/deployments/d/problems").header("content-type", "application/json");
        let answer = self.finish(request.body(json!({"resolutions": resolutions}).to_string())).await;
        let task = self.task(answer).await;
        assert_eq!(task.text, format!("{} resolved", problems.len()), "{}", task.events);
        assert_eq!(scan().await, Vec::<Value>::new());
        problems.iter().map(|problem| problem["type"].as_str().unwrap().to_owned()).collect()
    }

    /// What a task is that the director's end broke off: an error without a result and without a word of why.
    pub(crate) async fn was_broken_off(&self, task: u64) {
        let record = self.get(&format!("/tasks/{task}")).await;
        assert_eq!((&record["state"], &record["result"]), (&json!("error"), &Value::Null), "{record}");
        assert_eq!(self.get("/locks").await, json!([]));
    }

    pub(crate) fn events_of(&self, task: u64) -> String {
        std::fs::read_to_string(self.path(&format!("state/tasks/{task}/event"))).unwrap_or_default()
    }
}

impl Task {
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.state, "done", "{}", self.events);
        self
    }
}

fn distinct<'a>(values: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for value in values {
        let value = value.as_str().expect("everybody has one");
        assert!(all.insert(value.to_owned()), "{value} is there twice");
    }
    all
}

fn files(world: &World, directory: &str) -> BTreeSet<String> {
    file_names(&world.path(directory)).into_iter().collect()
}
