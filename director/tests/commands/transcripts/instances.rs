//! `ignore`, `unignore`, `logs`, `orphan-disk`, `attach-disk`.

use std::io::Write;
use std::process::{Command, Stdio};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{deployed, instances, pause_resurrection};
use crate::api::{Answer, Api, Body, column};
use crate::lab::Lab;

const IGNORE: &str = "/deployments/lab/instance_groups/mysql/0/ignore";

async fn events(api: &Api, query: &str) -> Value {
    serde_json::from_slice(&api.get(&format!("/events?{query}")).await.bytes).unwrap()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

#[tokio::test]
async fn an_ignored_instance_is_left_alone_until_it_is_ignored_no_more() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    deployed(&lab, &api).await;
    let before = instances(&api).await;
    api.put(IGNORE, Body::Json(json!({"ignore": true}))).await.is_empty_with(200);
    let rows = instances(&api).await;
    assert_eq!((&rows[0]["ignore"], &rows[1]["ignore"]), (&json!(true), &json!(false)));

    passes_it_over(&lab, &api).await;
    refuses_to_touch_it(&api, &before[0]).await;
    assert_eq!(instances(&api).await[0]["vm_cid"], before[0]["vm_cid"]);

    api.put(IGNORE, Body::Json(json!({"ignore": false}))).await.is_empty_with(200);
    let other = lab.manifest().replace("given: 5", "given: 6");
    let task = api.wait(api.post("/deployments", Body::Yaml(&other)).await).await.done();
    let changed = events(&api, &format!("task={}&object_type=instance", task.id)).await;
    let slug = format!("mysql/{}", text(&before[0], "id"));
    assert_eq!(column(&changed, "object_name"), [&slug, &slug], "only the change that it had missed is left");
}

async fn passes_it_over(lab: &Lab, api: &Api) {
    let rows = instances(api).await;
    let slug = format!("mysql/{}", text(&rows[1], "id"));
    let other = lab.manifest().replace("given: 5", "given: 6");
    let deploy = api.wait(api.post("/deployments", Body::Yaml(&other)).await).await.done();
    let restart = api.wait(api.put("/deployments/lab/jobs/*?state=restart", Body::Yaml("")).await).await.done();
    for (task, action) in [(deploy, "update"), (restart, "restart")] {
        let changed = events(api, &format!("task={}&object_type=instance", task.id)).await;
        assert_eq!(
            (column(&changed, "object_name"), column(&changed, "action")),
            (vec![slug.as_str(); 2], vec![action; 2])
        );
    }
    let scan = api.wait(api.post("/deployments/lab/scans", Body::Empty).await).await.done();
    assert_eq!(scan.finished()[1], "Scanning 2 VMs: 1 OK, 0 unresponsive, 0 missing, 0 unbound, 1 ignored");
    let none = lab.manifest().replace("instances: 2", "instances: 0");
    let shrunk = api.wait(api.post("/deployments", Body::Yaml(&none)).await).await;
    assert_eq!(shrunk.error().0, 190_020);
}

async fn refuses_to_touch_it(api: &Api, instance: &Value) {
    let id = text(instance, "id");
    let sentence = format!("You are trying to change the state of the ignored instance 'mysql/{id}'.");
    let isolated = format!("/deployments/lab/instance_groups/mysql/{id}/actions/recreate");
    let isolated = api.wait(api.post(&isolated, Body::Empty).await).await;
    let converging = api.put(&format!("/deployments/lab/jobs/mysql/{id}?state=stopped"), Body::Yaml("")).await;
    let converging = api.wait(converging).await;
    assert_eq!((isolated.error().0, converging.error().0), (190_020, 140_021));
    assert!(isolated.error().1.starts_with(&sentence) && converging.error().1.starts_with(&sentence));
    for path in ["/deployments/lab", "/deployments/lab?force=true"] {
        let task = api.wait(api.delete(path).await).await;
        let expected = "You are trying to delete deployment 'lab', which contains ignored instance(s). \
            Operation not allowed.";
        assert_eq!(task.error(), (190_021, expected));
    }
    let other = "/deployments/lab/instance_groups/mysql/9/ignore";
    api.put(other, Body::Json(json!({"ignore": true}))).await.refusal(404, 70_001);
    api.put("/deployments/lab/instance_groups/mysql/x/ignore", Body::Json(json!({"ignore": true})))
        .await
        .refusal(400, 70_002);
    api.put(IGNORE, Body::Json(json!({"ignore": "yes"}))).await.is_empty_with(500);
}

#[tokio::test]
async fn logs_are_fetched_as_a_blob() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    deployed(&lab, &api).await;
    let rows = instances(&api).await;
    for row in &rows {
        let log = lab.directory().join("state/vms").join(text(row, "vm_cid")).join("sys/log/daemon/own.log");
        std::fs::write(log, format!("of {}\n", row["index"])).unwrap();
    }

    let id = text(&rows[0], "id");
    let one = logs(&api, &format!("/deployments/lab/jobs/mysql/{id}/logs?type=job")).await;
    let agent = logs(&api, "/deployments/lab/jobs/mysql/0/logs?type=agent,system").await;
    let filtered = logs(&api, "/deployments/lab/jobs/mysql/0/logs?type=job&filters=daemon/o*.log,none").await;
    let all = logs(&api, "/deployments/lab/jobs/*/*/logs?type=job").await;

    assert_eq!(unpacked(&one, "./daemon/own.log"), "of 0\n");
    assert!(!names(&one).contains(&"./supervisor.log".to_owned()), "{:?}", names(&one));
    assert_eq!(names(&agent), ["./", "./supervisor.log"]);
    assert_eq!(names(&filtered), ["./", "./daemon/", "./daemon/own.log"]);
    let mut archives: Vec<String> = rows.iter().map(|row| format!("./mysql.{}.tgz", text(row, "id"))).collect();
    archives.sort();
    let mut found = names(&all);
    found.sort();
    assert_eq!(found[1..], archives);
    refuses_other_logs(&api).await;
}

async fn refuses_other_logs(api: &Api) {
    for missing in ["7c7e4a6c-0000-4000-8000-000000000000", "..%2Fdirector.json"] {
        api.get(&format!("/resources/{missing}")).await.refusal(404, 100_002);
    }
    api.get("/deployments/lab/jobs/mysql/9/logs?type=job").await.refusal(404, 70_001);
    api.get("/deployments/lab/jobs/other/*/logs").await.refusal(404, 70_001);
    api.get("/deployments/lab/jobs/mysql/0/logs?type=jobs").await.refusal(400, 40_002);
    api.wait(api.put("/deployments/lab/jobs/mysql/0?state=detached", Body::Yaml("")).await).await.done();
    let without_vm = api.wait(api.get("/deployments/lab/jobs/mysql/0/logs?type=job").await).await;
    assert_eq!(without_vm.error().0, 70_004);
}

/// The task's result is the id of the blob.
async fn logs(api: &Api, path: &str) -> Answer {
    let task = api.wait(api.get(path).await).await.done();
    assert_eq!((&task.record["description"], task.result.as_str()), (&json!("fetch logs"), ""));
    let again = api.get(&format!("/tasks/{}", task.id)).await.json(200);
    let blob = api.get(&format!("/resources/{}", text(&again, "result"))).await;
    assert_eq!((blob.status, blob.header(CONTENT_TYPE)), (200, "application/x-gzip"));
    blob
}

fn names(blob: &Answer) -> Vec<String> {
    tar(&["--list", "--gzip"], blob).lines().map(str::to_owned).collect()
}

fn unpacked(blob: &Answer, name: &str) -> String {
    tar(&["--extract", "--gzip", "--to-stdout", name], blob)
}

fn tar(arguments: &[&str], blob: &Answer) -> String {
    let mut tar = Command::new("tar").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&blob.bytes).unwrap();
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_orphaned_disk_comes_back_to_its_instance_with_what_is_on_it() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    deployed(&lab, &api).await;
    let before = instances(&api).await;
    let (id, disk) = (text(&before[1], "id"), text(&before[1], "disk_cid"));
    std::fs::write(lab.directory().join("state/disks").join(disk).join("own"), "kept").unwrap();
    let attach = |disk: &str, id: &str| format!("/disks/{disk}/attachments?deployment=lab&job=mysql&instance_id={id}");
    pause_resurrection(&api, true).await.is_empty_with(200);

    let running = api.wait(api.put(&attach(disk, id), Body::Empty).await).await;
    assert_eq!(running.error().0, 520_003);
    api.wait(api.put(&format!("/deployments/lab/jobs/mysql/{id}?state=detached"), Body::Yaml("")).await).await.done();
    api.wait(api.delete(&format!("/disks/{disk}?orphan=true")).await).await.done();
    api.wait(api.put(&format!("/deployments/lab/jobs/mysql/{id}?state=started"), Body::Yaml("")).await).await.done();
    let new = text(&instances(&api).await[1], "disk_cid").to_owned();
    assert_ne!(new, disk);
    api.wait(api.put(&format!("/deployments/lab/jobs/mysql/{id}?state=detached"), Body::Yaml("")).await).await.done();

    let task = api.wait(api.put(&attach(disk, id), Body::Empty).await).await.done();

    assert_eq!(task.record["description"], format!("attach disk '{disk}' to 'mysql/{id}'"));
    assert_eq!(task.record["result"], format!("attached disk '{disk}' to 'mysql/{id}' in deployment 'lab'"));
    assert_eq!(
        column(&api.get("/disks").await.json(200), "disk_cid"),
        [new.as_str()],
        "the one that it had is an orphan"
    );
    assert_eq!(column(&events(&api, "action=attach").await, "object_name"), [disk; 4]);
    api.wait(api.put(&format!("/deployments/lab/jobs/mysql/{id}?state=started"), Body::Yaml("")).await).await.done();
    let after = instances(&api).await;
    assert_eq!(text(&after[1], "disk_cid"), disk);
    let store = lab.directory().join("state/vms").join(text(&after[1], "vm_cid")).join("store/own");
    assert_eq!(std::fs::read_to_string(store).unwrap(), "kept");
    refuses_other_disks(&api, &attach("disk-none", id), &attach(disk, "nobody")).await;
}

async fn refuses_other_disks(api: &Api, no_disk: &str, nobody: &str) {
    assert_eq!(api.wait(api.put(nobody, Body::Empty).await).await.error().0, 520_001);
    api.put(&nobody.replace("=lab", "=other"), Body::Empty).await.refusal(404, 70_000);
    api.wait(api.put("/deployments/lab/jobs/mysql/1?state=detached", Body::Yaml("")).await).await.done();
    assert_eq!(api.wait(api.put(no_disk, Body::Empty).await).await.error().0, 390_002);
}
