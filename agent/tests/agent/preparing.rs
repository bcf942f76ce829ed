//! An agent that is told to end while it prepares its server's data directory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::vm::{Vm, deployment};

const PATIENCE: Duration = Duration::from_secs(30);

/// A VM that no template is made for yet, and the directory for it.
fn without_template() -> (Vm, PathBuf) {
    let vm = deployment(1).pop().unwrap();
    let cache = vm.root().join("packages/cache");
    std::fs::remove_file(&cache).unwrap();
    std::fs::create_dir(&cache).unwrap();
    (vm, cache)
}

fn names(cache: &PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(cache).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn an_agent_ends_while_another_one_makes_the_template() {
    let (mut vm, cache) = without_template();
    let lock = std::fs::File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    vm.start();
    let run = vm.root().join("sys/run/mysql");
    until("the preparation", || run.is_dir()).await;

    vm.stop();

    assert!(vm.processes().is_empty() && names(&cache) == ["lock"]);
}

/// What is made anew at the next start.
fn is_unfinished(name: &str) -> bool {
    name == "lock" || name.ends_with(".new") || name.ends_with(".tmp")
}

#[tokio::test]
async fn an_agent_ends_while_it_makes_the_template_and_makes_it_at_its_next_start() {
    let (mut vm, cache) = without_template();
    vm.start();
    until("a half template", || names(&cache).iter().any(|name| name.ends_with(".new"))).await;

    vm.stop();

    until("the end of all programs", || vm.processes().is_empty()).await;
    assert!(names(&cache).iter().all(|name| is_unfinished(name)), "{:?}", names(&cache));
    vm.start();
    vm.until("a writable leader", |status| status.role == agent::api::Role::Leader).await;
}
