//! The client subcommands as an operator uses them, from the first deploy to the end.

use std::process::Stdio;

use crate::lab::Lab;

/// Whether a line of a table has all these words.
fn has_row(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

fn is_running_twice(instances: &str) -> bool {
    instances.matches(" running ").count() == 2
}

#[test]
fn an_operator_drives_a_deployment_from_its_first_deploy_to_its_end() {
    let mut director = Lab::start();
    assert!(has_row(&director.run("env"), &["User", "admin"]));
    assert!(director.run("update-cloud-config cloud.yml").ends_with("\nSucceeded\n"));
    assert_eq!(director.run("cloud-config"), std::fs::read_to_string(director.directory().join("cloud.yml")).unwrap());
    refuses_what_is_wrong(&director);

    let deployed = director.run("deploy manifest.yml -v given=5");
    assert!(deployed.contains(" | Updating instance mysql: mysql/") && deployed.contains(" done\n"), "{deployed}");
    assert!(has_row(&director.run("deployments"), &["lab", "lab/1.0.0", "ubuntu-jammy/1.930"]));
    assert!(director.run("manifest").contains("given: 5"), "given values are part of the manifest");
    assert!(director.run("variables").contains("/tandem/lab/password"));
    assert!(director.run("link-address").contains(&director.address(65)));
    let instances = director.run("instances --ps --details");
    assert!(has_row(&instances, &["mysql/", "z2", &director.address(34), "disk-", "false"]), "{instances}");
    assert!(has_row(&instances, &["~", "daemon", "running"]), "{instances}");

    runs_errands(&director);
    moves_instances(&director);
    survives_losses(&mut director);

    assert!(director.run("delete-deployment").contains("done"));
    assert!(director.run("delete-deployment").ends_with("\nSucceeded\n"), "there is nothing left to delete");
    let orphans = director.run("disks --orphaned");
    assert!(orphans.contains("2 disks"), "{orphans}");
    let disk = orphans.split_whitespace().find(|word| word.starts_with("disk-")).unwrap();
    director.run(&format!("delete-disk {disk}"));
    director.run("clean-up --all");
    assert!(director.run("disks --orphaned").contains("0 disks"));
    for name in ["state/vms", "state/disks"] {
        assert_eq!(std::fs::read_dir(director.directory().join(name)).unwrap().count(), 0, "{name}");
    }
}

fn refuses_what_is_wrong(director: &Lab) {
    let cases = [
        ("deploy manifest.yml", "the variable given is not defined in `variables:` and was not given"),
        ("deploy manifest.yml -v given", "a variable is given as -v NAME=VALUE"),
        ("deploy nothing.yml", "read the manifest nothing.yml"),
        ("deploy manifest.yml -d other", "Expected manifest to specify deployment name 'other' but was 'lab'"),
        ("errands -d nope", "Deployment 'nope' doesn't exist"),
        ("task 99", "Task 99 not found"),
        ("restart --no-converge", "--no-converge needs one instance"),
        ("env -e https://127.0.0.1:1", "cannot reach the director at https://127.0.0.1:1"),
        ("deployments --client nobody", "the director does not know this user"),
    ];
    for (arguments, expected) in cases {
        let text = director.fail(arguments);
        assert!(text.contains(expected), "{arguments}: {text}");
    }
}

fn runs_errands(director: &Lab) {
    assert!(director.run("errands").contains("\nfails\nhello\nslow\n"));
    let hello = director.run("run-errand hello --instance=mysql/1");
    let expected = "\nExit Code  0\nStdout     hello\n           again\nStderr     1\n\n1 errand(s)\n\nSucceeded\n";
    assert!(hello.ends_with(expected), "{hello}");
    assert!(director.run("run-errand hello").contains("2 errand(s)"));
    let fails = director.fail("run-errand fails --instance=mysql/0");
    assert!(fails.contains("Exit Code  7\nStdout     -\nStderr     no way\n"), "{fails}");
    assert!(director.fail("run-errand nope").contains("Errand 'nope' doesn't exist"));

    let mut slow = director.command("run-errand slow --instance=mysql/0");
    let slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let tasks = director.until("tasks", |tasks| has_row(tasks, &["processing", "run errand slow"]));
    let id = tasks.lines().find(|line| line.contains("processing")).unwrap().split(' ').next().unwrap();
    assert!(has_row(&director.run("locks"), &["deployment", "lab", id]));
    director.run(&format!("cancel-task {id}"));
    let slow = slow.wait_with_output().unwrap();
    let text = String::from_utf8(slow.stdout).unwrap();
    assert!(!slow.status.success() && text.contains("Exit Code  143\n"), "{text}");
    assert!(has_row(&director.run("tasks --recent=1"), &[id, "cancelled", "admin"]));
    assert!(director.run(&format!("task {id} --result")).contains(r#""exit_code":143"#));
}

fn moves_instances(director: &Lab) {
    let first = director.cid("z1");
    director.run("stop mysql/0");
    assert!(has_row(&director.run("instances"), &["z1", "stopped"]));
    director.run("start mysql/0");
    director.run("restart mysql/0 --no-converge");
    assert_eq!(director.cid("z1"), first);
    director.run("recreate mysql/0");
    assert_ne!(director.cid("z1"), first);
    director.run("stop mysql/1 --hard");
    assert!(director.run("vms").contains("1 vms"));
    director.run("start mysql/1");
    assert!(is_running_twice(&director.run("instances")));
    changes_a_disk(director);
    ignores_an_instance(director);
}

fn changes_a_disk(director: &Lab) {
    let old = director.disk("z2");
    let refusal = director.fail(&format!("orphan-disk {old}"));
    assert!(
        refusal.contains("is attached to VM") && refusal.contains("`stop --hard` or `delete-vm` first"),
        "{refusal}"
    );
    director.run("stop mysql/1 --hard");
    director.run(&format!("orphan-disk {old}"));
    assert!(has_row(&director.run("disks --orphaned"), &[&old, "mysql/"]));
    assert!(director.run(&format!("orphan-disk {old}")).contains("is an orphan already"));
    director.run("start mysql/1");
    let new = director.disk("z2");
    assert_ne!(new, old);
    director.run("stop mysql/1 --hard");
    director.run(&format!("attach-disk {} {old}", director.word("z2", "mysql/")));
    director.run("start mysql/1");
    assert_eq!(director.disk("z2"), old);
    director.run(&format!("delete-disk {new}"));
}

fn ignores_an_instance(director: &Lab) {
    director.run("ignore mysql/0");
    let refusal = director.fail("recreate mysql/0 --no-converge");
    assert!(refusal.contains("You need to unignore it first"), "{refusal}");
    director.run("unignore mysql/0");
    director.run("recreate mysql/0 --no-converge");
    assert!(director.fail("ignore mysql").contains("name one instance"));
    let events = director.run("events");
    assert!(has_row(&events, &[" <- ", "admin", "recreate", "instance", "mysql/", "lab"]), "{events}");
    assert!(has_row(&events, &["attach", "disk", "disk-"]), "{events}");
}

fn survives_losses(director: &mut Lab) {
    let vm = director.cid("z1");
    director.restart();
    assert!(is_running_twice(&director.run("instances")), "VMs outlive the director");
    assert_eq!(director.cid("z1"), vm);

    director.run("update-resurrection off");
    director.run(&format!("delete-vm {vm}"));
    assert!(director.run("vms").contains("1 vms"));
    checks_the_cloud(director);
    director.run(&format!("delete-vm {}", director.cid("z1")));
    director.run("update-resurrection on");
    let instances = director.until("instances", is_running_twice);
    assert!(has_row(&instances, &["z1", &director.address(2)]), "{instances}");
}

fn checks_the_cloud(director: &Lab) {
    let report = director.fail("cck --report");
    assert!(report.contains("missing_vm") && report.contains("1 problem(s) found"), "{report}");
    let refusal = director.fail("cloud-check --resolution delete_vm");
    assert!(refusal.contains("cannot be resolved with 'delete_vm', but with ignore, recreate_vm"), "{refusal}");
    assert!(director.run("vms").contains("1 vms"));
    director.run("cck --auto");
    assert!(is_running_twice(&director.run("instances")));
    assert!(director.run("cck --report").contains("0 problems"));
}
