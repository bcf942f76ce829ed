//! Each errand's success and each refusal, on real servers; and each of them twice.

use std::time::Duration;

use agent::api::{Inspection, Role};
use anyhow::{Context, Result, ensure};
use tests::broker::DB_SINGLE;
use tests::director::Instance;
use tests::service::Pair;
use tests::stack::Wiring;
use tests::{Service, Stack, Writer, eventually, mysql};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(2);

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Direct)).await
}

/// Both servers hold the same rows, and every acknowledged one.
async fn nothing_is_lost(service: &Service<'_>, user: &mysql::Credentials, writer: Writer) -> Result<()> {
    let record = writer.finish().await?;
    let pair = service.pair().await?;
    let on_leader = mysql::numbers(&mut user.at(pair.leader.ip()).connect().await?).await?;
    let lost: Vec<_> = record.promised().difference(&on_leader).copied().collect();
    ensure!(lost.is_empty(), "acknowledged and not on the leader: {lost:?}");
    let mut follower = user.at(pair.follower.ip()).connect().await?;
    eventually("the follower has every row", LIMIT, async || {
        Ok((mysql::numbers(&mut follower).await? == on_leader).then_some(()))
    })
    .await?;
    let on_leader = mysql::checksum(&mut user.at(pair.leader.ip()).connect().await?).await?;
    assert_eq!(on_leader, mysql::checksum(&mut follower).await?);
    Ok(())
}

/// Make a server forget that it follows, behind its agent's back.
async fn detach(service: &Service<'_>, follower: &Instance) -> Result<sqlx::mysql::MySqlConnection> {
    let mut administrator = service.administrator(follower).await?;
    mysql::execute(&mut administrator, "STOP SLAVE; RESET SLAVE ALL").await?;
    Ok(administrator)
}

#[tokio::test]
async fn the_runbook_of_a_planned_failover_loses_no_row_and_each_step_may_be_run_twice() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let user = service.bind().await?.credentials;
    let Pair { leader: old, follower: new } = service.pair().await?;
    let writer = Writer::start(&user, PAUSE).await?;
    writer.goes_on(100, LIMIT).await?;

    for _ in 0..2 {
        service.errand("make-read-only", &old).await?.succeeded()?;
    }
    service.act("stop", &old).await?;
    for _ in 0..2 {
        service.errand("make-leader", &new).await?.succeeded()?;
    }
    writer.goes_on(100, LIMIT).await?;
    service.act("start", &old).await?;
    for _ in 0..2 {
        service.errand("configure-leader-follower", &old).await?.succeeded()?;
    }

    assert_eq!(service.pair().await?.leader.id, new.id);
    writer.goes_on(100, LIMIT).await?;
    nothing_is_lost(&service, &user, writer).await?;
    service.delete().await
}

#[tokio::test]
async fn switchover_hands_over_there_and_back_without_losing_a_row() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let user = service.bind().await?.credentials;
    let Pair { leader, follower } = service.pair().await?;
    let writer = Writer::start(&user, PAUSE).await?;
    writer.goes_on(100, LIMIT).await?;

    let refusal = service.errand("switchover", &follower).await?.refused()?;
    service.errand("switchover", &leader).await?.succeeded()?;
    let between = service.pair().await?.leader.id;
    writer.goes_on(100, LIMIT).await?;
    service.errand("switchover", &follower).await?.succeeded()?;
    writer.goes_on(100, LIMIT).await?;

    ensure!(refusal.contains("leader"), "{refusal}");
    assert_eq!((between, service.pair().await?.leader.id), (follower.id, leader.id));
    nothing_is_lost(&service, &user, writer).await?;
    service.delete().await
}

#[tokio::test]
async fn inspect_prints_the_references_lines_on_every_instance() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let pair = service.pair().await?;

    let runs = service.stack.director.errand(&service.deployment(), "inspect", None).await?;

    assert_eq!(runs.len(), 2);
    for (instance, role, read_only) in [(&pair.leader, "leader", "false"), (&pair.follower, "follower", "true")] {
        let run = runs.iter().find(|run| run.instance.id == instance.id).context("an instance was left out")?;
        for line in [
            "Started executing command: inspect".to_owned(),
            format!("IP Address: {}", instance.ip()),
            format!("Role: {role}"),
            format!("Read Only: {read_only}"),
            "Replication Mode: async".to_owned(),
            format!("Verdict: healthy: mysql/{} at {} leads", pair.leader.id, pair.leader.ip()),
            "Successfully executed command: inspect".to_owned(),
        ] {
            ensure!(run.stdout.contains(&line), "{line} is not in\n{}", run.stdout);
        }
        assert_eq!(run.exit_code, 0);
    }
    service.delete().await
}

#[tokio::test]
async fn inspect_ends_with_2_and_names_the_next_action_when_the_leader_is_not_redundant() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let Pair { leader, follower } = service.pair().await?;
    let config = service.stack.director.vm_root(&leader)?.join("jobs/inspect/config.json");
    let json = async || {
        let mut inspect = tokio::process::Command::new(tests::stack::programs()?.join("inspect"));
        let output = inspect.arg("--json").arg("--config").arg(&config).kill_on_drop(true).output().await?;
        anyhow::Ok((output.status.code(), serde_json::from_slice::<Inspection>(&output.stdout)?))
    };
    let (code, before) = json().await?;
    service.act("stop", &follower).await?;

    let run = service.errand("inspect", &leader).await?;
    let (code_of_json, after) = json().await?;

    ensure!(code == Some(0) && before.verdict.healthy && before.peer.is_some(), "{before:?}");
    assert_eq!((run.exit_code, code_of_json), (2, Some(2)));
    for words in
        ["Role: leader", "so the leader is not redundant", "Next Action: Start its VM", "Successfully executed"]
    {
        ensure!(run.stdout.contains(words), "{words} is not in\n{}", run.stdout);
    }
    ensure!(!after.verdict.healthy && after.peer.is_none() && after.status.role == Role::Leader, "{after:?}");
    let stopped = service.act("start", &follower).await;
    service.delete().await.and(stopped)
}

#[tokio::test]
async fn make_leader_is_refused_while_the_leader_is_connected_and_harmless_on_the_leader() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let Pair { leader, follower } = service.pair().await?;

    let refusal = service.errand("make-leader", &follower).await?.refused()?;
    service.errand("make-leader", &leader).await?.succeeded()?;

    ensure!(refusal.to_lowercase().contains("leader"), "{refusal}");
    assert_eq!(service.pair().await?.leader.id, leader.id);
    service.delete().await
}

#[tokio::test]
async fn configure_is_refused_while_the_peer_is_down_and_names_it() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let Pair { leader, follower } = service.pair().await?;
    service.act("stop", &follower).await?;

    let refusal = service.errand("configure-leader-follower", &leader).await?.refused()?;

    for words in [
        format!("Failed to get server status for {}: ", follower.ip()),
        "start the other VM, or run make-leader on the one that is left. State: ".to_owned(),
        format!("at {} (writable, GTID executed ", leader.ip()),
        format!("; {} gives no status (", follower.ip()),
    ] {
        ensure!(refusal.contains(&words), "{words} is not in {refusal}");
    }
    ensure!(!service.status(&leader).await?.read_only, "the leader must stay writable");
    service.act("start", &follower).await?;
    service.errand("configure-leader-follower", &leader).await?.succeeded()?;
    assert_eq!(service.pair().await?.leader.id, leader.id);
    service.delete().await
}

#[tokio::test]
async fn a_server_that_somebody_makes_writable_beside_the_leader_is_closed_by_its_agent() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let Pair { leader, follower } = service.pair().await?;
    let mut administrator = detach(&service, &follower).await?;
    mysql::execute(&mut administrator, "SET GLOBAL read_only = OFF").await?;

    eventually("the agent closes its server", LIMIT, async || {
        Ok(service.status(&follower).await?.read_only.then_some(()))
    })
    .await?;

    service.errand("configure-leader-follower", &leader).await?.succeeded()?;
    assert_eq!(service.pair().await?.leader.id, leader.id);
    service.delete().await
}

#[tokio::test]
async fn configure_is_refused_when_the_histories_have_diverged() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let Pair { leader, follower } = service.pair().await?;
    let mut administrator = detach(&service, &follower).await?;
    let errant = "SET GLOBAL read_only = OFF; CREATE DATABASE errant; SET GLOBAL read_only = ON";
    mysql::execute(&mut administrator, errant).await?;

    let refusal = service.errand("configure-leader-follower", &leader).await?.refused()?;

    ensure!(refusal.contains("diverged"), "{refusal}");
    ensure!(!service.status(&leader).await?.read_only, "the leader must stay writable");
    let kept = mysql::text(
        &mut administrator,
        "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'errant'",
    );
    assert_eq!(kept.await.ok().as_deref(), Some("1"), "the errant transaction must be kept for a look");
    service.delete().await
}

#[tokio::test]
async fn a_follower_with_an_empty_disk_is_seeded_from_a_leader_with_50_mb() -> Result<()> {
    let service = Service::pair_on(stack().await?).await?;
    let user = service.bind().await?.credentials;
    let Pair { leader, follower } = service.pair().await?;
    let mut client = user.connect().await?;
    mysql::execute(&mut client, "CREATE TABLE big (n INT PRIMARY KEY, body LONGBLOB)").await?;
    for row in 0..50 {
        let insert = format!("INSERT INTO big VALUES ({row}, REPEAT(RANDOM_BYTES(1024), 1024))");
        mysql::execute(&mut client, &insert).await?;
    }
    service.act("stop", &follower).await?;
    std::fs::remove_dir_all(service.stack.director.vm_root(&follower)?.join("store/mysql"))
        .context("empty the disk")?;
    service.act("start", &follower).await?;
    let writer = Writer::start(&user, PAUSE).await?;

    service.errand("configure-leader-follower", &follower).await?.succeeded()?;

    assert_eq!(service.pair().await?.leader.id, leader.id);
    writer.goes_on(100, LIMIT).await?;
    nothing_is_lost(&service, &user, writer).await?;
    let sum = "SELECT CONCAT(COUNT(*), ' ', BIT_XOR(CRC32(body))) FROM big";
    let on_leader = mysql::text(&mut client, sum).await?;
    let on_follower = mysql::text(&mut user.at(follower.ip()).connect().await?, sum).await?;
    assert_eq!(on_leader, on_follower);
    service.delete().await
}

#[tokio::test]
async fn an_errand_against_the_wrong_instance_says_what_is_wrong() -> Result<()> {
    let service = Service::provision(stack().await?, DB_SINGLE).await?;
    let director = &service.stack.director;
    let here = service.instances().await?.pop().context("no instance")?;
    let nowhere = Instance { id: "00000000-0000-4000-8000-000000000000".into(), ..here.clone() };
    let words = async |name: &str, on: &Instance| {
        let outcome = director.errand_on(&service.deployment(), name, on).await;
        outcome.err().map(|cause| format!("{cause:#}")).unwrap_or_default()
    };

    let no_instance = words("inspect", &nowhere).await;
    let no_errand = words("make-leader", &here).await;
    let no_deployment = director.errand_on("nope", "inspect", &here).await.err().map(|cause| format!("{cause:#}"));

    ensure!(no_instance.contains("No instances match selection criteria"), "{no_instance}");
    ensure!(no_errand.contains("Errand 'make-leader' doesn't exist") && no_errand.contains("70009"), "{no_errand}");
    ensure!(no_deployment.as_deref().is_some_and(|text| text.contains("70000")), "{no_deployment:?}");
    service.delete().await
}
