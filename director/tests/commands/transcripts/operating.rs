//! `env`, `login`, `instances`, `vms`, `errands`, `run-errand`, `tasks`, `cancel-task`, `stop` to `recreate`, `variables`, `locks`,
//! `disks`, `delete-disk`, `clean-up`.

use std::time::{Duration, Instant};

use reqwest::header::WWW_AUTHENTICATE;
use serde_json::{Value, json};

use super::{begin, deployed, instances};
use crate::api::{Api, Body, Ended, FULL, column, has_keys, keys};
use crate::lab::Lab;

#[tokio::test]
async fn the_commands_of_every_day_are_answered_as_by_a_real_director() {
    let lab = Lab::start();
    let api = Api::of(&lab);
    knows_who_asks(&lab, &api).await;
    deployed(&lab, &api).await;

    lists_instances(&api).await;
    runs_errands(&api).await;
    cancels_a_task(&api).await;
    moves_instances(&api).await;
    lists_tasks(&api).await;
    cleans_up(&api).await;
}

async fn knows_who_asks(lab: &Lab, api: &Api) {
    let info = begin(lab).await;
    let expected = [
        "cpi",
        "features",
        "name",
        "stemcell_os",
        "stemcell_version",
        "user",
        "user_authentication",
        "uuid",
        "version",
    ];
    assert_eq!((keys(&info), &info["user"]), (expected.to_vec(), &Value::Null));
    assert_eq!(api.get("/info").await.json(200)["user"], "admin");
    let wrong = Api::anonymous(lab).with("Basic YWRtaW46d3Jvbmc=");
    assert_eq!(wrong.get("/info").await.json(200)["user"], Value::Null);
    for stranger in [Api::anonymous(lab), wrong] {
        let refusal = stranger.get("/deployments?exclude_configs=true").await;
        assert_eq!((refusal.status, refusal.text()), (401, "Not authorized: '/deployments'\n"));
        assert_eq!(refusal.header(WWW_AUTHENTICATE), r#"Basic realm="BOSH Director""#);
    }
    api.get("/deployments/lab").await.refusal(404, 70_000);
    let long = "c".repeat(65);
    let refused = api.deploy("/deployments", &long, "name: never").await;
    assert_eq!(refused.refusal(400, 70_010), "X-Bosh-Context-Id cannot be more than 64 characters in length");
}

async fn lists_instances(api: &Api) {
    let rows = api.get("/deployments/lab/instances").await.json(200);
    let expected = ["agent_id", "az", "cid", "expects_vm", "id", "index", "ips", "job", "vm_created_at"];
    assert_eq!(keys(&rows[0]), expected);
    let vms = api.get("/deployments/lab/vms").await.json(200);
    assert!(keys(&vms[0]).contains(&"active") && keys(&vms[0]).contains(&"permanent_nats_credentials"), "{vms}");
    let vms = api.wait(api.get("/deployments/lab/vms?format=full").await).await.done();
    assert_eq!(vms.result.lines().count(), 2);

    let row = &instances(api).await[0];
    has_keys(row, &FULL);
    assert_eq!((&row["job_state"], &row["state"], &row["az"]), (&json!("running"), &json!("started"), &json!("z1")));
    assert!(row["vitals"]["mem"]["kb"].is_string() && row["processes"][0]["mem"]["kb"].is_number(), "{row}");
    let variables = api.get("/deployments/lab/variables").await.json(200);
    assert_eq!((keys(&variables[0]), column(&variables, "name")), (vec!["id", "name"], vec!["/tandem/lab/password"]));
}

async fn run(api: &Api, errand: &str, instances: Value) -> Ended {
    let body = json!({"instances": instances, "keep-alive": false, "when-changed": false});
    let task = api.wait(api.post(&format!("/deployments/lab/errands/{errand}/runs"), Body::Json(body)).await).await;
    assert_eq!(task.record["description"], format!("run errand {errand} from deployment lab"));
    task
}

async fn runs_errands(api: &Api) {
    let errands = api.get("/deployments/lab/errands").await.json(200);
    assert_eq!(errands, json!([{"name": "fails"}, {"name": "hello"}, {"name": "slow"}]));
    let id = instances(api).await[1]["id"].clone();

    let hello = run(api, "hello", json!([{"group": "mysql", "id": id}])).await.done();
    assert_eq!(hello.record["result"], "1 succeeded, 0 errored, 0 canceled");
    let line: Value = serde_json::from_str(&hello.result).unwrap();
    assert_eq!(keys(&line), ["errand_name", "exit_code", "instance", "logs", "stderr", "stdout"]);
    assert_eq!(
        (&line["instance"]["id"], &line["exit_code"], &line["stdout"]),
        (&id, &json!(0), &json!("hello\nagain\n"))
    );
    let fails = run(api, "fails", json!([])).await.done();
    assert_eq!(fails.record["result"], "0 succeeded, 2 errored, 0 canceled");
    assert!(fails.events.iter().any(|event| event["type"] == "warning"), "{:?}", fails.events);

    assert_eq!(run(api, "nope", json!([])).await.error(), (70_009, "Errand 'nope' doesn't exist"));
    let none = run(api, "hello", json!([{"group": "mysql", "id": "9"}])).await;
    assert_eq!(none.error(), (100, "No instances match selection criteria"));
    api.post("/deployments/lab/errands/hello/runs", Body::Yaml("{")).await.is_empty_with(500);
    api.post("/deployments/nope/errands/hello/runs", Body::Json(json!({}))).await.refusal(404, 70_000);
}

async fn cancels_a_task(api: &Api) {
    let body = Body::Json(json!({"instances": [{"group": "mysql", "id": "0"}]}));
    let slow = api.post("/deployments/lab/errands/slow/runs", body).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let task = loop {
        let tasks = api.get("/tasks?state=processing%2Ccancelling%2Cqueued&verbose=2").await.json(200);
        if tasks[0]["state"] == "processing" && api.get("/locks").await.json(200) != json!([]) {
            break tasks[0].clone();
        }
        assert!(Instant::now() < deadline, "{tasks}");
    };
    assert_eq!((&task["timestamp"], &task["result"]), (&Value::Null, &Value::Null));
    let locks = api.get("/locks").await.json(200);
    assert_eq!(
        (keys(&locks[0]), &locks[0]["resource"]),
        (vec!["resource", "task_id", "timeout", "type"], &json!(["lab"]))
    );
    assert_eq!((locks[0]["task_id"].clone(), locks[0]["timeout"].is_string()), (json!(task["id"].to_string()), true));

    api.delete(&format!("/task/{}", task["id"])).await.is_empty_with(204);

    let ended = api.wait(slow).await;
    assert_eq!((ended.state(), &ended.record["result"]), ("cancelled", &json!("task cancelled")));
    assert_eq!(ended.events.last().unwrap()["error"]["code"], 10_001);
    assert_eq!(serde_json::from_str::<Value>(&ended.result).unwrap()["exit_code"], 143);
    let late = api.delete(&format!("/task/{}", task["id"])).await;
    let expected = format!("Cannot cancel task {}: invalid state (cancelled)", task["id"]);
    assert_eq!((late.status, late.text()), (400, expected.as_str()));
    api.post("/tasks/cancel", Body::Json(json!({}))).await.is_empty_with(204);
}

async fn moves_instances(api: &Api) {
    let before = instances(api).await;
    let id = before[0]["id"].as_str().unwrap();
    let converging = |state: &str| format!("/deployments/lab/jobs/mysql/{id}?state={state}");
    let stopped = api.wait(api.put(&converging("stopped"), Body::Yaml("")).await).await.done();
    assert_eq!(
        (&stopped.record["description"], &stopped.record["result"]),
        (&json!("create deployment"), &json!("/deployments/lab"))
    );
    let row = &instances(api).await[0];
    assert_eq!((&row["state"], &row["job_state"]), (&json!("stopped"), &json!("stopped")));
    assert_eq!(run(api, "hello", json!([{"group": "mysql", "id": id}])).await.error().0, 510_000);
    let isolated = |action: &str| format!("/deployments/lab/instance_groups/mysql/{id}/actions/{action}?");
    let started = api.wait(api.post(&isolated("start"), Body::Empty).await).await.done();
    assert_eq!(
        (&started.record["description"], &started.record["result"]),
        (&json!("start instance"), &json!(format!("mysql/{id}")))
    );

    api.wait(api.put("/deployments/lab/jobs/*?state=recreate", Body::Yaml("")).await).await.done();
    for (before, after) in before.iter().zip(instances(api).await) {
        assert!(before["vm_cid"] != after["vm_cid"] && before["agent_id"] != after["agent_id"], "{after}");
        assert!(["id", "index", "az", "ips", "disk_cids"].iter().all(|key| before[key] == after[key]), "{after}");
    }
    let wrong_type = api.put(&converging("started"), Body::Json(json!({}))).await;
    assert_eq!(wrong_type.status, 404);
    api.put(&converging("sleeping"), Body::Yaml("")).await.refusal(400, 140_007);
    api.post("/deployments/lab/instance_groups/mysql/9/actions/stop", Body::Empty).await.refusal(404, 70_001);
    api.post("/deployments/lab/instance_groups/mysql/x/actions/stop", Body::Empty).await.refusal(400, 70_002);
}

async fn lists_tasks(api: &Api) {
    let tasks = api.get("/tasks?limit=3&verbose=1").await.json(200);
    let expected =
        ["context_id", "deployment", "description", "id", "result", "started_at", "state", "timestamp", "user"];
    assert_eq!((tasks.as_array().unwrap().len(), keys(&tasks[0])), (3, expected.to_vec()));
    let all = api.get("/tasks?limit=1000&verbose=2").await.json(200);
    assert!(column(&all, "description").contains(&"retrieve vm-stats"));
    assert!(!column(&tasks, "description").contains(&"retrieve vm-stats"));
    assert_eq!(api.get("/tasks/99999").await.refusal(404, 10_000), "Task 99999 not found");
}

async fn cleans_up(api: &Api) {
    api.wait(api.delete("/deployments/lab?").await).await.done();
    let disks = api.get("/disks").await.json(200);
    let expected = ["az", "cloud_properties", "deployment_name", "disk_cid", "instance_name", "orphaned_at", "size"];
    assert_eq!((disks.as_array().unwrap().len(), keys(&disks[0])), (2, expected.to_vec()));
    let disk = disks[0]["disk_cid"].as_str().unwrap();
    let deleted = api.wait(api.delete(&format!("/disks/{disk}")).await).await.done();
    assert_eq!(deleted.record["description"], "delete orphan disks");
    let body = Body::Json(json!({"config": {"remove_all": true, "keep_orphaned_disks": false}}));
    api.wait(api.post("/cleanup", body).await).await.done();
    assert_eq!(api.get("/disks").await.json(200), json!([]));
    assert_eq!(api.get("/locks").await.json(200), json!([]));
}
