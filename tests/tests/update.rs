//! Updates with real servers: the plan, the machines and the parameters change, and the data stay.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE};
use tests::stack::Wiring;
use tests::{Service, Stack, Writer, eventually, mysql};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(30);
const LARGER_PAIR: &str = "3f0d7a52-6c1b-4e0f-8a77-1b9a5f0c2d11";

async fn stack() -> Result<&'static Stack> {
    let larger = json!({
        "id": LARGER_PAIR, "name": "larger-pair", "description": "Two larger servers",
        "deployment": {"topology": "leader-follower", "azs": ["z1", "z2"], "vm_type": "medium", "disk_type": "10GB",
                       "disk_size_in_mb": 10240},
    });
    STACK.get_or_try_init(|| Stack::start_offering(Wiring::Direct, std::slice::from_ref(&larger))).await
}

/// What the applications of a service instance see.
async fn fruit(credentials: &mysql::Credentials) -> Result<String> {
    let read = eventually("the rows are read at the stable address", LIMIT, async || {
        let Ok(mut reader) = credentials.connect().await else { return Ok(None) };
        Ok(mysql::text(&mut reader, "SELECT GROUP_CONCAT(name ORDER BY name) FROM fruit").await.ok())
    });
    read.await
}

async fn grow(credentials: &mysql::Credentials, name: &str) -> Result<()> {
    let sql = format!("CREATE TABLE IF NOT EXISTS fruit (name VARCHAR(20)); INSERT INTO fruit VALUES ('{name}')");
    mysql::execute(&mut credentials.connect().await?, &sql).await.map(drop)
}

#[tokio::test]
async fn a_single_server_becomes_a_pair_with_its_data() -> Result<()> {
    let stack = stack().await?;
    let service = Service::provision(stack, DB_SINGLE).await?;
    let credentials = service.bind().await?.credentials;
    grow(&credentials, "quince").await?;
    let before = service.instances().await?;

    let change = json!({"plan_id": DB_LEADER_FOLLOWER, "parameters": {}});
    let accepted = stack.broker.update(&service.id(), &change).await?;
    let again = stack.broker.update(&service.id(), &change).await?;
    let meanwhile = stack.broker.get(&format!("/v2/service_instances/{}", service.id())).await?;
    let end = stack.broker.settled(&service.id()).await?;

    assert_eq!((accepted.status, again.status, meanwhile.status), (202, 202, 422));
    assert_eq!(accepted.body["operation"], again.body["operation"]);
    ensure!(end["state"] == "succeeded", "the update ended as {end}");
    let service = Service::of(stack, &service.id(), DB_LEADER_FOLLOWER)?;
    let pair = service.pair().await?;
    assert_eq!(pair.leader.id, before[0].id, "who has the data leads");
    assert_eq!(fruit(&credentials).await?, "quince");
    grow(&credentials, "sloe").await?;
    let follower = credentials.at(pair.follower.ip());
    let copied = eventually("the follower has the old and the new row", LIMIT, async || {
        Ok((fruit(&follower).await? == "quince,sloe").then_some(()))
    });
    copied.await?;
    service.errand("switchover", &pair.leader).await?.succeeded()?;
    assert_eq!(fruit(&credentials).await?, "quince,sloe");
    assert_eq!(stack.broker.update(&service.id(), &change).await?.status, 200, "nothing is left to do");
    service.delete().await
}

#[tokio::test]
async fn a_pair_gets_larger_machines_and_other_parameters_with_its_data() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let credentials = service.bind().await?.credentials;
    grow(&credentials, "medlar").await?;
    let before: Vec<_> = service.instances().await?.into_iter().map(|instance| (instance.id, instance.cid)).collect();

    let change = json!({"plan_id": LARGER_PAIR, "parameters": {"replication_mode": "semi-sync"}});
    let service = service.updated(LARGER_PAIR, &change).await?;

    let pair = service.pair().await?;
    for (instance, (id, cid)) in service.instances().await?.iter().zip(&before) {
        assert_eq!(&instance.id, id);
        assert_ne!(&instance.cid, cid, "a larger machine is another one");
        let config = service.stack.director.instance_config(instance, "mysql-agent")?;
        assert_eq!(config["properties"]["replication_mode"], "semi-sync");
    }
    assert_eq!(fruit(&credentials).await?, "medlar");
    let leader = service.agent(&pair.leader)?;
    let in_sync = eventually("commits wait for the follower", LIMIT, async || {
        Ok(leader.status().await?.semi_sync.is_some_and(|sync| sync.in_sync).then_some(()))
    });
    in_sync.await?;
    grow(&credentials, "rowan").await?;
    // A commit waits until the follower has received it, and not until it has applied it.
    let follower = credentials.at(pair.follower.ip());
    let applied = eventually("the follower has both rows", LIMIT, async || {
        Ok((fruit(&follower).await? == "medlar,rowan").then_some(()))
    });
    applied.await?;
    let smaller = service.stack.broker.update(&service.id(), &json!({"plan_id": DB_LEADER_FOLLOWER})).await?;
    assert_eq!(smaller.status, 422);
    ensure!(smaller.body["description"].as_str().is_some_and(|why| why.contains("shrink")), "{}", smaller.body);
    service.delete().await
}

#[tokio::test]
async fn a_pair_is_restarted_under_writes_and_whoever_leads_hands_over_first() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let credentials = service.bind().await?.credentials;
    let pair = service.pair().await?;
    let targets = [&pair.leader, &pair.follower].map(|instance| credentials.at(instance.ip()));
    let writer = Writer::start_at(&targets, Duration::from_millis(1)).await?;
    writer.goes_on(50, LIMIT).await?;

    let service = service.updated(DB_LEADER_FOLLOWER, &json!({"parameters": {"workload": "read-heavy"}})).await?;
    writer.goes_on(50, LIMIT).await?;

    let record = writer.finish().await?;
    ensure!(record.errors.is_empty(), "writes failed: {:?}", record.errors);
    let leader = service.pair().await?.leader;
    let mut reader = credentials.at(leader.ip()).connect().await?;
    let kept = mysql::numbers(&mut reader).await?;
    let lost: Vec<_> = record.promised().difference(&kept).copied().collect();
    ensure!(lost.is_empty(), "acknowledged rows are lost: {lost:?}");
    // The first one led, so it handed over before its restart; then the other one did.
    assert_eq!(leader.id, pair.leader.id);
    let mut administrator = service.administrator(&leader).await?;
    let promotions = "SELECT GROUP_CONCAT(kind ORDER BY epoch) FROM replication_monitoring.failovers";
    let promoted = eventually("both promotions are written down", LIMIT, async || {
        Ok((mysql::text(&mut administrator, promotions).await? == "planned,planned").then_some(()))
    });
    promoted.await?;
    service.delete().await
}

#[tokio::test]
async fn a_pair_becomes_the_one_server_that_leads_with_its_data_and_a_pair_again() -> Result<()> {
    let stack = stack().await?;
    let service = Service::pair_on(stack).await?;
    let credentials = service.bind().await?.credentials;
    grow(&credentials, "damson").await?;
    // The other one: a director left to itself would keep the first.
    let first = service.pair().await?;
    service.errand("switchover", &first.leader).await?.succeeded()?;
    grow(&credentials, "bullace").await?;
    let leader = service.pair().await?.leader;
    assert_eq!(leader.id, first.follower.id);

    let service = service.updated(DB_SINGLE, &json!({"plan_id": DB_SINGLE})).await?;

    let left: Vec<_> = service.instances().await?.into_iter().map(|instance| instance.id).collect();
    assert_eq!(left, [leader.id.as_str()]);
    assert_eq!(fruit(&credentials).await?, "bullace,damson");
    grow(&credentials, "cherry").await?;
    let service = service.updated(DB_LEADER_FOLLOWER, &json!({"plan_id": DB_LEADER_FOLLOWER})).await?;
    let pair = service.pair().await?;
    assert_eq!(pair.leader.id, leader.id);
    assert_ne!(pair.leader.az, pair.follower.az);
    assert_eq!(fruit(&credentials).await?, "bullace,cherry,damson");
    service.errand("switchover", &pair.leader).await?.succeeded()?;
    assert_eq!(fruit(&credentials).await?, "bullace,cherry,damson");
    service.delete().await
}
