//! A service instance as a platform and an application see it: provision, bind, use, unbind, deprovision.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tests::broker::{self, DB_LEADER_FOLLOWER, DB_SINGLE, provision_body};
use tests::stack::Wiring;
use tests::wait::until;
use tests::{Service, Stack, eventually, mysql, processes};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(30);
/// So many requests at once.
const MANY: usize = 50;
/// What a server answers to a write while it is read-only.
const READ_ONLY: Option<u16> = Some(1290);

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Direct)).await
}

#[tokio::test]
async fn a_pair_has_a_leader_and_a_follower_in_two_zones_behind_one_address() -> Result<()> {
    let stack = stack().await?;

    let service = Service::pair_on(stack).await?;
    let credentials = service.bind().await?.credentials;

    let pair = service.pair().await?;
    assert_ne!(pair.leader.az, pair.follower.az);
    let address = format!("127.{}.100.", stack.block);
    ensure!(credentials.hostname.starts_with(&address), "{} is no client address", credentials.hostname);
    assert_eq!((credentials.port, credentials.name.as_str()), (3306, "service_instance_db"));
    let mut client = credentials.connect().await?;
    let leader_port = mysql::text(&mut client, "SELECT @@bind_address").await?;
    assert_eq!(leader_port, pair.leader.ip());
    service.delete().await
}

#[tokio::test]
async fn what_a_binding_writes_on_the_leader_is_read_on_the_follower() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let credentials = service.bind().await?.credentials;
    let pair = service.pair().await?;
    let mut writer = credentials.connect().await?;

    mysql::execute(&mut writer, "CREATE TABLE fruit (name VARCHAR(20)); INSERT INTO fruit VALUES ('quince')").await?;

    let reader = credentials.at(pair.follower.ip());
    let fruit = eventually("the follower has the row", LIMIT, async || {
        mysql::text(&mut reader.connect().await?, "SELECT name FROM fruit").await.map(Some)
    });
    assert_eq!(fruit.await?, "quince");
    service.delete().await
}

#[tokio::test]
async fn a_follower_refuses_the_writes_of_a_binding_whatever_its_privileges() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let credentials = service.bind().await?.credentials;
    let pair = service.pair().await?;
    let mut writer = credentials.connect().await?;
    mysql::execute(&mut writer, "CREATE TABLE t (n INT PRIMARY KEY)").await?;
    let mut client = eventually("the follower knows the user and the table", LIMIT, async || {
        let mut client = credentials.at(pair.follower.ip()).connect().await?;
        mysql::text(&mut client, "SELECT COUNT(*) FROM t").await.map(|_| Some(client))
    })
    .await?;

    let writes = [
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE u (n INT)",
        "DROP TABLE t",
        "CREATE VIEW v AS SELECT 1",
        "CREATE PROCEDURE p() SELECT 1",
        "TRUNCATE t",
    ];
    for sql in writes {
        let refusal = mysql::execute(&mut client, sql).await.err().with_context(|| format!("{sql} was accepted"))?;
        assert_eq!(mysql::error_number(&refusal), READ_ONLY, "{sql}: {refusal:#}");
    }
    let sets_read_only = mysql::execute(&mut client, "SET GLOBAL read_only = OFF").await;

    assert_eq!(sets_read_only.err().as_ref().and_then(mysql::error_number), Some(1227), "a privilege is missing");
    let grants =
        mysql::text(&mut client, "SELECT GROUP_CONCAT(privilege_type) FROM information_schema.user_privileges");
    assert!(!grants.await?.contains("READ_ONLY ADMIN"));
    service.delete().await
}

#[tokio::test]
async fn unbind_cuts_the_open_session_and_leaves_the_other_binding_alone() -> Result<()> {
    let service = Service::provision(stack().await?, DB_SINGLE).await?;
    let (first, second) = (service.bind().await?, service.bind().await?);
    let mut session = first.credentials.connect().await?;
    let mut other = second.credentials.connect().await?;

    service.unbind(&first).await?;

    assert!(mysql::text(&mut session, "SELECT 1").await.is_err());
    assert!(first.credentials.connect().await.is_err());
    assert_eq!(mysql::text(&mut other, "SELECT 'still here'").await?, "still here");
    let again = service.stack.broker.unbind(&service.id(), DB_SINGLE, &first.id).await?;
    assert_eq!(again.status, 410);
    service.delete().await
}

#[tokio::test]
async fn a_deprovisioned_instance_leaves_nothing_but_its_orphaned_disk() -> Result<()> {
    let stack = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let (id, deployment) = (service.id(), service.deployment());
    let instance = service.instances().await?.pop().context("no instance")?;
    let (root, cid) = (stack.director.vm_root(&instance)?, instance.cid.clone().context("no VM")?);
    let credentials = service.bind().await?.credentials;

    service.delete().await?;

    assert!(!stack.director.deployments().await?.contains(&deployment));
    until("no process of the VM is left", LIMIT, || processes::of_vm(stack.directory(), &cid).is_empty()).await?;
    assert!(!root.exists());
    let listeners = || tests::stack::block::listeners(stack.block);
    let unused = |ip: &str| !listeners().iter().any(|address| address.starts_with(&format!("{ip}:")));
    until("no address is in use", LIMIT, || unused(instance.ip()) && unused(&credentials.hostname)).await?;
    let disks = stack.director.get("/disks").await?;
    let ours = disks.as_array().into_iter().flatten().filter(|disk| disk["deployment_name"] == deployment.as_str());
    assert_eq!(ours.count(), 1);
    assert_eq!(stack.broker.deprovision(&id, DB_SINGLE).await?.status, 410);
    Ok(())
}

#[tokio::test]
async fn two_instances_are_provisioned_at_the_same_time() -> Result<()> {
    let stack = stack().await?;
    let ids = [broker::new_id(), broker::new_id()];

    for id in &ids {
        assert_eq!(stack.broker.provision(id, DB_SINGLE).await?.status, 202);
    }
    let both_at_work = eventually("the director works on both", LIMIT, async || {
        let tasks = stack.director.get("/tasks?state=queued,processing&verbose=1").await?;
        let works_on = |id: &String| {
            tasks.as_array().into_iter().flatten().any(|task| task["deployment"] == broker::deployment_of(id).as_str())
        };
        Ok(ids.iter().all(works_on).then_some(()))
    });

    both_at_work.await?;
    for id in &ids {
        assert_eq!(stack.broker.settled(id).await?["state"], "succeeded");
        stack.broker.deprovisioned(id, DB_SINGLE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn fifty_identical_provisions_at_once_make_one_instance_that_is_bound_when_it_is_ready() -> Result<()> {
    let stack = stack().await?;
    let (id, binding) = (broker::new_id(), broker::new_id());

    let answers = try_join_all((0..MANY).map(|_| stack.broker.provision(&id, DB_SINGLE))).await?;
    let other = stack.broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    let early = stack.broker.bind(&id, DB_SINGLE, &binding).await?;
    let end = stack.broker.settled(&id).await?;

    assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == answers[0].body), "{answers:?}");
    assert_eq!((other.status, early.status, &early.body["error"]), (409, 422, &"ConcurrencyError".into()));
    assert_eq!(end["state"], "succeeded");
    let deployment = broker::deployment_of(&id);
    let tasks = stack.director.get(&format!("/tasks?deployment={deployment}&limit=100&verbose=1")).await?;
    let is_creation = |task: &&serde_json::Value| task["description"] == "create deployment";
    assert_eq!(tasks.as_array().into_iter().flatten().filter(is_creation).count(), 1, "{tasks}");
    assert_eq!(stack.broker.provision(&id, DB_SINGLE).await?.status, 200);
    assert_eq!(stack.broker.get(&format!("/v2/service_instances/{id}")).await?.body["plan_id"], DB_SINGLE);
    assert_eq!(stack.broker.bind(&id, DB_SINGLE, &binding).await?.status, 201);
    stack.broker.deprovisioned(&id, DB_SINGLE).await
}

#[tokio::test]
async fn a_deletion_during_the_creation_halts_it_and_leaves_no_server() -> Result<()> {
    let (stack, id) = (stack().await?, broker::new_id());
    let deployment = broker::deployment_of(&id);
    assert_eq!(stack.broker.provision(&id, DB_SINGLE).await?.status, 202);
    eventually("the director makes the server", LIMIT, async || {
        let tasks = stack.director.get(&format!("/tasks?deployment={deployment}&state=processing&verbose=1")).await?;
        Ok(tasks.as_array().is_some_and(|tasks| !tasks.is_empty()).then_some(()))
    })
    .await?;

    let answers = try_join_all((0..MANY).map(|_| stack.broker.deprovision(&id, DB_SINGLE))).await?;
    let end = stack.broker.settled(&id).await?;

    assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == answers[0].body), "{answers:?}");
    ensure!(end["state"] == "gone" || end["state"] == "succeeded", "{end}");
    assert!(!stack.director.deployments().await?.contains(&deployment));
    let left = stack.director.get(&format!("/tasks?deployment={deployment}&state=queued,processing&verbose=1")).await?;
    assert_eq!(left, serde_json::json!([]), "nothing is made or removed any more");
    Ok(())
}

#[tokio::test]
async fn a_bad_request_is_told_what_would_be_right_and_leaves_nothing() -> Result<()> {
    let stack = stack().await?;
    let id = broker::new_id();
    let path = format!("/v2/service_instances/{id}?accepts_incomplete=true");
    let without = |field: &str| {
        let mut body = provision_body(DB_SINGLE);
        body.as_object_mut().map(|fields| fields.remove(field));
        body
    };
    let unknown_plan = provision_body("00000000-0000-4000-8000-000000000000");
    let bodies = [
        (without("service_id"), "service_id"),
        (without("plan_id"), "plan_id"),
        (without("organization_guid"), "organization_guid"),
        (unknown_plan, "plan"),
        (serde_json::json!(["not", "an", "object"]), ""),
    ];

    for (body, word) in bodies {
        let answer = stack.broker.call(reqwest::Method::PUT, &path, Some(&body)).await?;
        let description = answer.body["description"].as_str().unwrap_or_default();
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(description.contains(word) && !description.is_empty(), "{body}: {description}");
    }
    let synchronous = format!("/v2/service_instances/{id}");
    let answer = stack.broker.call(reqwest::Method::PUT, &synchronous, Some(&provision_body(DB_SINGLE))).await?;
    assert_eq!((answer.status, answer.body["error"].as_str()), (422, Some("AsyncRequired")));

    assert!(!stack.director.deployments().await?.contains(&broker::deployment_of(&id)));
    assert_eq!(stack.broker.get(&synchronous).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn every_request_needs_the_password_and_a_known_version() -> Result<()> {
    let broker = &stack().await?.broker;
    let request = || broker.request(reqwest::Method::GET, "/v2/catalog");

    let nobody = broker::send(request()?.header("X-Broker-API-Version", "2.17")).await?;
    let wrong = request()?.basic_auth(&broker.username, Some("wrong")).header("X-Broker-API-Version", "2.17");
    let wrong = broker::send(wrong).await?;
    let old = request()?.basic_auth(&broker.username, Some(&broker.password)).header("X-Broker-API-Version", "1.0");
    let old = broker::send(old).await?;

    assert_eq!((nobody.status, wrong.status, old.status), (401, 401, 412));
    assert!(old.body["description"].as_str().is_some_and(|text| text.contains("2.")), "{}", old.body);
    Ok(())
}
