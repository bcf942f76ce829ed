//! Deployments through the API of the running program: made, changed, refused, deleted.

use crate::fixture::manifest;
use crate::world::World;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn of(instances: &[Value], key: &str) -> Vec<Value> {
    instances.iter().map(|instance| instance[key].clone()).collect()
}

#[tokio::test]
async fn two_vms_are_made_side_by_side_and_the_same_manifest_changes_nothing() {
    let world = World::new().await;
    let text = manifest(2, "{secret: ((password))}");
    let path = "/deployments?canaries=0&max_in_flight=100%25";
    let request = world.request(Method::POST, path).header("content-type", "text/yaml; charset=utf-8");
    let request = request.header("x-bosh-context-id", "a-context").body(text.clone());

    let task = world.task(world.finish(request).await).await;

    assert_eq!((task.state.as_str(), task.text.as_str()), ("done", "/deployments/d"), "{}", task.events);
    let instances = world.instances().await;
    assert_eq!(of(&instances, "az"), ["z1", "z2"]);
    assert_eq!(of(&instances, "ips"), [json!([world.address(2)]), json!([world.address(33)])]);
    assert_eq!(of(&instances, "job_state"), ["running", "running"]);
    assert_eq!(of(&instances, "bootstrap"), [true, false]);
    assert_eq!(world.get("/deployments/d").await["manifest"], text);
    assert_eq!(world.get("/tasks?context_id=a-context").await[0]["id"], task.id);
    let config = std::fs::read(world.vm(&instances[0]).join("jobs/server/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["spec"]["root"], json!(world.vm(&instances[0])));
    assert_eq!(config["links"]["mysql"]["instances"][1]["address"], world.address(33));
    assert_eq!(config["properties"]["secret"].as_str().map(str::is_empty), Some(false));

    let again = world.deploy(&text).await;

    assert_eq!((again.state.as_str(), again.stages()), ("done", vec!["Preparing deployment".to_owned()]));
    assert_eq!(of(&world.instances().await, "vm_cid"), of(&instances, "vm_cid"));
}

#[tokio::test]
async fn a_change_touches_what_it_must_and_no_more() {
    let world = World::new().await;
    world.deploy(&manifest(2, "{p: 1}")).await;
    let before = world.instances().await;

    let configured = world.deploy(&manifest(2, "{p: 2}")).await;
    let after = world.instances().await;
    assert_eq!(configured.stages(), ["Preparing deployment", "Updating instance", "Updating instance"]);
    assert!(configured.events.contains("(0) (canary)"), "{}", configured.events);
    assert_eq!(of(&after, "vm_cid"), of(&before, "vm_cid"));
    let config = std::fs::read_to_string(world.vm(&after[1]).join("jobs/server/config.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["properties"], json!({"p": 2}));

    std::fs::write(world.vm(&after[0]).join("store/row"), "kept").unwrap();
    let resized = manifest(2, "{p: 2}").replace("vm_type: small", "vm_type: large").replace("5GB", "10GB");
    assert_eq!(world.deploy(&resized).await.state, "done");
    let replaced = world.instances().await;
    assert_ne!(of(&replaced, "vm_cid"), of(&before, "vm_cid"));
    assert_ne!(of(&replaced, "agent_id"), of(&before, "agent_id"));
    for key in ["id", "index", "az", "ips", "disk_cids"] {
        assert_eq!(of(&replaced, key), of(&before, key), "{key}");
    }
    assert_eq!(std::fs::read_to_string(world.vm(&replaced[0]).join("store/row")).unwrap(), "kept");

    let shrunk = world.deploy(&resized.replace("instances: 2", "instances: 1")).await;
    assert_eq!(shrunk.stages()[1], "Deleting unneeded instances");
    assert_eq!(of(&world.instances().await, "id"), of(&before[..1], "id"));
    let orphans = world.get("/disks").await;
    assert_eq!((&orphans[0]["disk_cid"], &orphans[0]["size"]), (&before[1]["disk_cid"], &json!(10240)));
}

#[tokio::test]
async fn a_deleted_deployment_leaves_its_disks_and_nothing_else() {
    let world = World::new().await;
    world.deploy(&manifest(2, "{}")).await;
    let disks = of(&world.instances().await, "disk_cid");

    let task = world.run(Method::DELETE, "/deployments/d?force=true").await;

    assert_eq!((task.state.as_str(), task.text.as_str()), ("done", "/deployments/d"), "{}", task.events);
    assert_eq!(world.get("/deployments").await, json!([]));
    assert_eq!(std::fs::read_dir(world.path("state/vms")).unwrap().count(), 0);
    let orphans = world.get("/disks").await;
    let mut orphaned: Vec<&Value> = orphans.as_array().unwrap().iter().map(|orphan| &orphan["disk_cid"]).collect();
    orphaned.sort_by_key(|cid| disks.iter().position(|disk| disk == *cid));
    assert_eq!(orphaned, disks.iter().collect::<Vec<_>>());
    let missing = world.send(Method::DELETE, "/deployments/d").await;
    assert_eq!((missing.status, &missing.json()["code"]), (StatusCode::NOT_FOUND, &json!(70000)));

    let one = world.run(Method::DELETE, &format!("/disks/{}", disks[0].as_str().unwrap())).await;
    assert_eq!(one.state, "done", "{}", one.events);
    let rest = world.request(Method::POST, "/cleanup").body(r#"{"config":{"remove_all":true}}"#);
    let rest = world.task(world.finish(rest).await).await;
    assert_eq!(rest.state, "done", "{}", rest.events);
    assert_eq!(world.get("/disks").await, json!([]));
    assert_eq!(std::fs::read_dir(world.path("state/disks")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_failed_first_deploy_leaves_a_deployment_without_a_manifest_and_a_failed_update_keeps_the_old_one() {
    let world = World::new().await;
    let good = manifest(1, "{}");
    let bad = good.replace("vm_type: small", "vm_type: huge");

    let first = world.deploy(&bad).await;

    let message = "Instance group 'mysql' references an unknown vm type 'huge': there is 'small', 'large'";
    assert_eq!((first.state.as_str(), first.error()), ("error", (140_004, message.to_owned())));
    assert_eq!(world.get("/deployments/d").await, json!({"manifest": null}));
    assert_eq!(world.get("/deployments").await[0]["name"], "d");
    assert_eq!(std::fs::read_dir(world.path("state/vms")).map_or(0, Iterator::count), 0);

    world.deploy(&good).await;
    let broken = good
        .replace("{name: fix, release: tandem}", "{name: broken, release: tandem}")
        .replace("canary_watch_time: 1-20000", "canary_watch_time: 1-300");
    let update = world.deploy(&broken).await;

    let (code, message) = update.error();
    assert_eq!((update.state.as_str(), code), ("error", 400_007));
    assert!(message.ends_with("is not running after update. Review logs for failed jobs: broken"), "{message}");
    assert_eq!(world.get("/deployments/d").await["manifest"], good);
    assert_eq!(world.deploy(&good).await.state, "done");
    assert_eq!(world.instances().await[0]["job_state"], "running");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_at_once() {
    let world = World::new().await;
    let post = |content_type: &str, context: &str, body: &str| {
        let request = world.request(Method::POST, "/deployments").header("content-type", content_type);
        world.finish(request.header("x-bosh-context-id", context).body(body.to_owned()))
    };
    let table = [
        (post("application/x-yaml", "c", "name: d").await, 404, "Endpoint '/deployments' not found."),
        (post("text/yaml", "c", "").await, 400, r#"{"code":440001,"#),
        (post("text/yaml", "c", "a: [").await, 400, r#"{"code":440001,"#),
        (post("text/yaml", "c", "a: b").await, 400, r#"{"code":40001,"#),
        (post("text/yaml", &"c".repeat(65), "name: d").await, 400, r#"{"code":70010,"#),
        (world.send(Method::GET, "/deployments/nope").await, 404, "Deployment 'nope' doesn't exist"),
        (world.send(Method::GET, "/tasks/99999").await, 404, r#"{"code":10000,"description":"Task 99999 not found"}"#),
        (world.send(Method::GET, "/nothing").await, 404, "Endpoint '/nothing' not found."),
        (world.send(Method::PATCH, "/deployments").await, 404, "Endpoint '/deployments' not found."),
        (
            world.send(Method::GET, "/tasks?limit=a").await,
            400,
            r#"{"code":40002,"description":"Failed to deserialize query"#,
        ),
        (world.send(Method::DELETE, "/deployments/d?force=yes").await, 400, r#"{"code":40002,"#),
        (world.send(Method::GET, "/link_providers").await, 400, r#"{"code":190024,"#),
    ];
    for (answer, status, expected) in table {
        assert_eq!(answer.status.as_u16(), status, "{expected}: {}", answer.text);
        assert!(answer.text.contains(expected), "{expected}: {}", answer.text);
    }
    assert_eq!(world.get("/deployments").await, json!([]));

    let nobody = world.client.get(format!("{}/deployments", world.url)).basic_auth("admin", Some("wrong"));
    let nobody = world.finish(nobody).await;
    assert_eq!((nobody.status, nobody.text.trim()), (StatusCode::UNAUTHORIZED, "Not authorized: '/deployments'"));
    let info = world.finish(world.client.get(format!("{}/info", world.url))).await;
    assert_eq!(info.json()["user"], Value::Null);
    assert_eq!(world.get("/info").await["user"], "admin");
}

#[tokio::test]
async fn a_deploy_that_is_asked_for_while_the_deployment_is_deleted_makes_it_anew() {
    let world = World::new().await;
    world.deploy(&manifest(1, "{}")).await;

    let delete = world.send(Method::DELETE, "/deployments/d").await;
    let deploy = world.send_yaml(Method::POST, "/deployments", &manifest(1, "{}")).await;

    assert_eq!(world.task(delete).await.state, "done");
    let deploy = world.task(deploy).await;
    assert_eq!(deploy.state, "done", "{}", deploy.events);
    assert_eq!(world.instances().await[0]["job_state"], "running");
}

#[tokio::test]
async fn a_second_director_is_refused_with_the_reason() {
    let mut world = World::new().await;

    let port = world.start_another("");
    let state = world.start_another("listen: '127.0.0.1:0'");
    let key = world.start_another("workers: 3");

    assert!(port.contains("if something else has this port, choose another one with `listen`"), "{port}");
    assert!(state.contains("another director uses the state directory"), "{state}");
    assert!(key.contains("unknown field `workers`"), "{key}");
    assert!(world.stop().success());
}

#[tokio::test]
async fn a_link_from_outside_leads_to_the_stable_client_address() {
    let world = World::new().await;
    world.deploy(&manifest(1, "{}")).await;
    let providers = world.get("/link_providers?deployment=d").await;
    let body = json!({"link_provider_id": providers[0]["id"],
        "link_consumer": {"owner_object": {"name": "a-binding", "type": "external"}}});
    let create = || world.finish(world.request(Method::POST, "/links").body(body.to_string()));

    let (link, again) = (create().await.json(), create().await.json());

    assert_eq!(link["id"], again["id"]);
    let address = format!("/link_address?link_id={}&status=healthy", link["id"].as_str().unwrap());
    assert_eq!(world.get(&address).await, json!({"address": world.address(65)}));
    world.deploy(&manifest(1, "{p: 1}")).await;
    assert_eq!(world.get(&address).await, json!({"address": world.address(65)}));
    let path = format!("/links/{}", link["id"].as_str().unwrap());
    assert_eq!(world.send(Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
    let gone = world.send(Method::DELETE, &path).await;
    assert_eq!((gone.status, &gone.json()["code"]), (StatusCode::NOT_FOUND, &json!(810000)));
}
