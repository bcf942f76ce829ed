//! `cck --report`, `cck`, and what it leaves.

use serde_json::{Value, json};

use super::{begin, deployed, instances, pause_resurrection};
use crate::api::{Api, Body, Ended, column, keys};
use crate::lab::Lab;

async fn scanned(api: &Api) -> (Ended, Value) {
    let task = api.wait(api.post("/deployments/lab/scans", Body::Empty).await).await.done();
    assert_eq!((&task.record["description"], &task.record["result"]), (&json!("scan cloud"), &json!("scan complete")));
    (task, api.get("/deployments/lab/problems").await.json(200))
}

async fn resolved(api: &Api, resolutions: Value) -> Ended {
    let task =
        api.wait(api.put("/deployments/lab/problems", Body::Json(json!({"resolutions": resolutions}))).await).await;
    assert_eq!(task.record["description"], "apply resolutions");
    task
}

fn cid(row: &Value) -> &str {
    row["vm_cid"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_cloud_check_finds_what_is_lost_and_mends_it_as_it_is_told() {
    let mut lab = Lab::start();
    let api = Api::of(&lab);
    begin(&lab).await;
    deployed(&lab, &api).await;
    pause_resurrection(&api, true).await.is_empty_with(200);
    let (healthy, problems) = scanned(&api).await;
    assert_eq!(healthy.finished()[1], "Scanning 2 VMs: 2 OK, 0 unresponsive, 0 missing, 0 unbound");
    assert_eq!(problems, json!([]));

    mends_each_as_chosen(&lab, &api).await;
    refuses_what_cannot_be_done(&lab, &api).await;
    forgets_a_vm(&mut lab, &api).await;
}

async fn mends_each_as_chosen(lab: &Lab, api: &Api) {
    let before = instances(api).await;
    lab.kill_supervisor(cid(&before[0]));
    api.wait(api.delete(&format!("/vms/{}", cid(&before[1]))).await).await.done();

    let (scan, problems) = scanned(api).await;
    assert_eq!(scan.finished()[1], "Scanning 2 VMs: 0 OK, 1 unresponsive, 1 missing, 0 unbound");
    assert_eq!(keys(&problems[0]), ["data", "description", "id", "instance_group", "resolutions", "type"]);
    assert_eq!(column(&problems, "type"), ["unresponsive_agent", "missing_vm"]);
    let title = format!("mysql/{} (0)", before[0]["id"].as_str().unwrap());
    let sentence = format!("VM for '{title}' with cloud ID '{}' is not responding.", cid(&before[0]));
    assert_eq!(problems[0]["description"], sentence);
    assert_eq!(
        column(&problems[0]["resolutions"], "name"),
        ["ignore", "recreate_vm", "delete_vm", "delete_vm_reference"]
    );
    assert_eq!(column(&problems[1]["resolutions"], "name"), ["ignore", "recreate_vm", "delete_vm_reference"]);

    let [first, second] = [0, 1].map(|at| problems[at]["id"].to_string());
    let task = resolved(api, json!({first: "recreate_vm", second.clone(): "ignore"})).await.done();
    assert_eq!(task.record["result"], "2 resolved");
    let after = instances(api).await;
    assert_eq!((&after[0]["job_state"], &after[1]["vm_cid"]), (&json!("running"), &Value::Null));
    assert_ne!(after[0]["vm_cid"], before[0]["vm_cid"]);
    for kept in ["id", "disk_cids", "ips"] {
        assert_eq!(after[0][kept], before[0][kept], "{kept}");
    }
    assert_eq!(api.get("/deployments/lab/problems").await.json(200), json!([]));

    let (_, problems) = scanned(api).await;
    assert_eq!(column(&problems, "type"), ["missing_vm"], "what is passed over is found again");
    resolved(api, json!({problems[0]["id"].to_string(): null})).await.done();
    assert_eq!(instances(api).await[1]["job_state"], "running", "nobody chose: BOSH makes a missing VM anew");
}

async fn refuses_what_cannot_be_done(lab: &Lab, api: &Api) {
    let before = instances(api).await;
    lab.kill_supervisor(cid(&before[0]));
    let (_, problems) = scanned(api).await;
    let id = problems[0]["id"].to_string();

    let unknown = resolved(api, json!({id.clone(): "reboot_vm"})).await;
    let expected =
        format!("Error resolving problem '{id}': Cannot find 'reboot_vm' resolution for 'unresponsive_agent'");
    assert_eq!(unknown.error(), (100, expected.as_str()));
    let action = "/deployments/lab/instance_groups/mysql/0/actions/recreate?ignore_unresponsive_agent=true";
    api.wait(api.post(action, Body::Empty).await).await.done();
    let late = resolved(api, json!({id: "recreate_vm"})).await;
    assert!(late.error().1.ends_with("Agent is responding now, skipping resolution"), "{}", late.error().1);

    let wrong = Body::Json(json!({"resolutions": ["recreate_vm"]}));
    api.put("/deployments/lab/problems", wrong).await.refusal(400, 410_003);
    api.put("/deployments/nope/problems", Body::Json(json!({"resolutions": {}}))).await.refusal(404, 70_000);
    api.post("/deployments/nope/scans", Body::Empty).await.refusal(404, 70_000);
}

/// What is left of the VM is nobody's, until the director starts again.
async fn forgets_a_vm(lab: &mut Lab, api: &Api) {
    let before = instances(api).await;
    lab.kill_supervisor(cid(&before[0]));
    let (_, problems) = scanned(api).await;

    resolved(api, json!({problems[0]["id"].to_string(): "delete_vm_reference"})).await.done();

    assert_eq!(instances(api).await[0]["vm_cid"], Value::Null);
    let rest = lab.directory().join("state/vms").join(cid(&before[0]));
    assert!(rest.exists());
    lab.restart();
    assert!(!rest.exists());
}
