//! `instances`, `vms`, `stop`, `start`, `restart`, `recreate`, `ignore`, `unignore`, `cck --report`, `errands`, `run-errand`.

use serde_json::{Value, json};

use super::Check;
use crate::api::{Answer, Body, Ended, FULL, column, has_keys};

const PLAIN: [&str; 8] = ["agent_id", "cid", "job", "index", "id", "az", "ips", "vm_created_at"];

pub(super) async fn lists_them(check: &Check) {
    let plain = check.get("/instances").await.shown();
    let count = plain.as_array().unwrap().len();
    assert!(count as u64 >= check.manifest.instances(), "{plain}");
    for row in plain.as_array().unwrap() {
        has_keys(row, &PLAIN);
        has_keys(row, &["expects_vm"]);
    }
    let vms = check.get("/vms").await.shown();
    for row in vms.as_array().unwrap() {
        has_keys(row, &PLAIN);
        has_keys(row, &["active", "permanent_nats_credentials"]);
    }
    let full_vms = check.director.wait(check.get("/vms?format=full").await).await.done();
    assert_eq!(full_vms.result.lines().count(), vms.as_array().unwrap().len());

    let rows = check.instances().await;
    assert_eq!(rows.len(), count);
    rows.iter().for_each(|row| has_keys(row, &FULL));
    let running: Vec<&Value> = rows.iter().filter(|row| !row["vm_cid"].is_null()).collect();
    assert!(running.len() as u64 >= check.manifest.instances());
    for row in running {
        assert_eq!((&row["job_state"], &row["state"]), (&json!("running"), &json!("started")), "{row}");
        assert!(row["vitals"]["mem"]["kb"].is_string(), "numbers of the VM are texts: {row}");
        for process in row["processes"].as_array().unwrap() {
            assert!(process["name"].is_string() && process["state"] == "running", "{process}");
        }
    }
    let of_group = rows.iter().filter(|row| row["job_name"] == check.manifest.group());
    assert_eq!(of_group.filter(|row| row["bootstrap"] == true).count(), 1);
}

fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap()
}

/// The converging form, which deploys the stored manifest again.
pub(super) async fn put(check: &Check, id: &str, state: &str) -> Answer {
    let path = check.path(&format!("/jobs/{}/{id}?state={state}", check.manifest.group()));
    check.director.put(&path, Body::Yaml("")).await
}

/// The isolated form. The CLI leaves the bare question mark.
async fn act(check: &Check, id: &str, action: &str) -> Answer {
    check.director.post(&check.instance(id, &format!("actions/{action}?")), Body::Empty).await
}

fn is_converging(check: &Check, task: &Ended) {
    let expected = (json!("create deployment"), json!(format!("/deployments/{}", check.deployment)));
    assert_eq!((&task.record["description"], &task.record["result"]), (&expected.0, &expected.1));
}

fn is_isolated(check: &Check, task: &Ended, action: &str, id: &str) {
    let slug = format!("{}/{id}", check.manifest.group());
    let expected = (json!(format!("{action} instance")), json!(slug));
    assert_eq!((&task.record["description"], &task.record["result"]), (&expected.0, &expected.1));
}

pub(super) async fn moves_one(check: &Check) {
    let before = check.first().await;
    let id = id(&before);

    is_converging(check, &check.director.wait(put(check, id, "stopped").await).await.done());
    let stopped = check.first().await;
    assert_eq!((&stopped["state"], &stopped["job_state"]), (&json!("stopped"), &json!("stopped")));
    is_isolated(check, &check.director.wait(act(check, id, "start").await).await.done(), "start", id);
    is_converging(check, &check.director.wait(put(check, id, "restart").await).await.done());
    let restarted = check.first().await;
    assert_eq!((&restarted["state"], &restarted["job_state"]), (&json!("started"), &json!("running")));
    assert_eq!(restarted["vm_cid"], before["vm_cid"]);
    is_isolated(check, &check.director.wait(act(check, id, "stop").await).await.done(), "stop", id);
    is_converging(check, &check.director.wait(put(check, id, "started").await).await.done());
    is_isolated(check, &check.director.wait(act(check, id, "restart").await).await.done(), "restart", id);

    is_isolated(check, &check.director.wait(act(check, id, "recreate").await).await.done(), "recreate", id);
    let recreated = check.first().await;
    assert_eq!((&recreated["state"], &recreated["job_state"]), (&json!("started"), &json!("running")));
    for kept in ["id", "index", "az", "ips", "disk_cids"] {
        assert_eq!(recreated[kept], before[kept], "{kept}");
    }
    assert!(recreated["vm_cid"] != before["vm_cid"] && recreated["agent_id"] != before["agent_id"], "{recreated}");
    let job = check.get(&format!("/jobs/{}/{id}", check.manifest.group())).await.shown();
    has_keys(&job, &["deployment", "job", "index", "id", "state", "disks"]);
    refuses_other_instances(check, id).await;
}

async fn refuses_other_instances(check: &Check, id: &str) {
    act(check, "9999", "stop").await.refusal(404, 70_001);
    act(check, "no-id", "stop").await.refusal(400, 70_002);
    let path = check.path(&format!("/jobs/{}/{id}?state=started", check.manifest.group()));
    let wrong_type = check.director.put(&path, Body::Json(json!({}))).await;
    assert_eq!(wrong_type.status, 404, "{}", wrong_type.text());
}

pub(super) async fn leaves_an_ignored_one_alone(check: &Check) {
    let before = check.first().await;
    let path = check.instance(id(&before), "ignore");
    check.director.put(&path, Body::Json(json!({"ignore": true}))).await.is_empty_with(200);
    assert_eq!(check.first().await["ignore"], true);

    let restart = act(check, id(&before), "restart").await;
    assert_eq!(code_of(check, restart).await, 190_020);
    let delete = check.director.wait(check.director.delete(&check.path("?")).await).await;
    assert_eq!(delete.error().0, 190_021);
    let after = check.first().await;
    assert_eq!((&after["vm_cid"], &after["job_state"]), (&before["vm_cid"], &json!("running")));

    check.director.put(&path, Body::Json(json!({"ignore": false}))).await.is_empty_with(200);
    assert_eq!(check.first().await["ignore"], false);
}

/// A refusal, at once or in its task.
async fn code_of(check: &Check, answer: Answer) -> u64 {
    match answer.status {
        302 => check.director.wait(answer).await.error().0,
        _ => serde_json::from_slice::<Value>(&answer.bytes).unwrap()["code"].as_u64().unwrap(),
    }
}

pub(super) async fn finds_no_problems(check: &Check) {
    let task = check.director.wait(check.director.post(&check.path("/scans"), Body::Empty).await).await.done();
    assert_eq!(task.record["description"], "scan cloud");
    assert_eq!(check.get("/problems").await.shown(), json!([]));
}

pub(super) async fn runs_errands(check: &Check) {
    let errands = check.get("/errands").await.shown();
    let unknown = run(check, "tandem-check-nothing").await;
    assert_eq!(unknown.error(), (70_009, "Errand 'tandem-check-nothing' doesn't exist"));
    check.director.post(&check.path("/errands/any/runs"), Body::Yaml("{")).await.is_empty_with(500);

    // Others might reach beyond this deployment.
    let Some(errand) = &check.errand else { return };
    assert!(column(&errands, "name").contains(&errand.as_str()), "no errand {errand} in {errands}");
    let task = run(check, errand).await.done();
    let (mut succeeded, mut errored, mut canceled) = (0, 0, 0);
    for line in task.result.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        has_keys(&line, &["instance", "errand_name", "exit_code", "stdout", "stderr", "logs"]);
        has_keys(&line["instance"], &["group", "id"]);
        has_keys(&line["logs"], &["blobstore_id", "sha1"]);
        assert_eq!(line["errand_name"], json!(errand));
        *match line["exit_code"].as_u64() {
            Some(0) => &mut succeeded,
            Some(129..) => &mut canceled,
            _ => &mut errored,
        } += 1;
    }
    assert!(succeeded + errored + canceled > 0, "{}", task.record);
    // Whatever came out of it: the task did what it should.
    let sum = format!("{succeeded} succeeded, {errored} errored, {canceled} canceled");
    assert_eq!(task.record["result"], json!(sum));
}

/// On every instance that has it.
async fn run(check: &Check, errand: &str) -> Ended {
    let body = Body::Json(json!({"instances": [], "keep-alive": false, "when-changed": false}));
    let redirect = check.director.post(&check.path(&format!("/errands/{errand}/runs")), body).await;
    let task = check.director.wait(redirect).await;
    let expected = format!("run errand {errand} from deployment {}", check.deployment);
    assert_eq!(task.record["description"], json!(expected));
    task
}
