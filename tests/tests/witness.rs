//! The broker as the witness of its pairs, asked with the keys that the director gave their agents. What the pairs make of
//! the answers is tested elsewhere; here a single node's keys ask, whose agent asks for nothing itself.

use std::time::{Duration, Instant};

use agent::VoterClient;
use agent::client::Error;
use agent::config::Tls;
use agent::quorum::{Answer, Ballot, Renewal};
use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tests::broker::{self, DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, provision_body};
use tests::processes;
use tests::stack::Wiring;
use tests::wait::until;
use tests::{Stack, eventually};
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(2);

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Direct)).await
}

/// The properties of an instance's agent.
async fn properties(stack: &Stack, id: &str) -> Result<Value> {
    let instances = stack.director.instances(&deployment_of(id)).await?;
    let first = instances.first().context("the deployment has no instance")?;
    Ok(stack.director.instance_config(first, "mysql-agent")?["properties"].take())
}

/// A client of the witness with the keys of the instance's agents.
async fn client(stack: &Stack, id: &str) -> Result<VoterClient> {
    let tls: Tls = serde_json::from_value(properties(stack, id).await?["tls"].take()).context("read the keys")?;
    let host = stack.broker.url.trim_start_matches("http://").split(':').next().context("read the broker's URL")?;
    VoterClient::witness(host, agent::api::WITNESS_PORT, &tls).context("make a client of the witness")
}

fn ballot(epoch: u64, leader: &str) -> Ballot {
    Ballot { epoch, leader: leader.into(), is_canvass: false }
}

async fn restart_broker(stack: &Stack) -> Result<()> {
    let all = processes::of_stack(stack.directory());
    let broker = all.iter().find(|process| process.program == "mysql-broker").context("no broker runs")?.pid;
    processes::kill(broker);
    until("the broker is dead", LIMIT, || !processes::is_alive(broker)).await?;
    eventually("a new broker answers", LIMIT, async || {
        Ok((stack.broker.get("/v2/catalog").await?.status == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_witness_keeps_its_word_when_it_is_killed_and_forgets_a_deleted_instance() -> Result<()> {
    let stack = stack().await?;
    let id = broker::new_id();
    stack.broker.provisioned(&id, DB_SINGLE).await?;
    let witness = client(stack, &id).await?;
    let lease_ms = u64::try_from(LEASE.as_millis())?;
    let renewal = Renewal { epoch: 3, leader: "mysql/a".into(), lease_ms, in_sync: false, withdrawals: 0 };
    let granted = witness.renew(&renewal, LIMIT).await?;
    assert!(matches!(granted, Answer::Granted(_)), "{granted:?}");
    let killed = Instant::now();

    restart_broker(stack).await?;

    let refused = witness.vote(&ballot(3, "mysql/b"), LIMIT).await?;
    assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    eventually("the lease has run out", LIMIT, async || match witness.vote(&ballot(4, "mysql/b"), LIMIT).await? {
        Answer::Granted(_) => Ok(Some(())),
        Answer::Leased { .. } => Ok(None),
        refused @ Answer::Refused(_) => bail!("{refused:?}"),
    })
    .await?;
    assert!(killed.elapsed() >= LEASE, "the new broker did not wait: {:?}", killed.elapsed());
    stack.broker.deprovisioned(&id, DB_SINGLE).await?;
    match witness.vote(&ballot(5, "mysql/b"), LIMIT).await {
        Err(Error::Problem(problem)) => assert_eq!(problem.error, "NotFound"),
        other => bail!("the deleted instance is still known: {other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_pair_is_told_its_witness_and_how_the_user_wants_it_to_replicate() -> Result<()> {
    let stack = stack().await?;
    let id = broker::new_id();
    let path = format!("/v2/service_instances/{id}?accepts_incomplete=true");
    let mut body = provision_body(DB_LEADER_FOLLOWER);
    body["parameters"] = json!({"replication_mode": "semi-sync", "semi_sync_ack_timeout_in_ms": 5000});

    let accepted = stack.broker.call(Method::PUT, &path, Some(&body)).await?;

    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let end = stack.broker.settled(&id).await?;
    assert_eq!(end["state"], "succeeded", "{end}");
    let told = properties(stack, &id).await?;
    assert_eq!((&told["replication_mode"], &told["semi_sync_ack_timeout_in_ms"]), (&json!("semi-sync"), &json!(5000)));
    assert_eq!(told["lease_ttl_in_ms"], 10_000);
    let place = |value: &Value| -> Result<String> {
        let host = value["host"].as_str().context("the witness has no host")?;
        Ok(format!("http://{host}:8080"))
    };
    assert_eq!((place(&told["witness"])?, &told["witness"]["port"]), (stack.broker.url.clone(), &json!(8009)));
    let canvass = Ballot { is_canvass: true, ..ballot(1000, "mysql/nobody") };
    client(stack, &id).await?.vote(&canvass, LIMIT).await.context("ask the witness with the pair's keys")?;
    stack.broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await
}

#[tokio::test]
async fn a_parameter_that_cannot_be_used_is_named_before_anything_is_made() -> Result<()> {
    let stack = stack().await?;
    let path = format!("/v2/service_instances/{}?accepts_incomplete=true", broker::new_id());
    for (plan, parameters, words) in [
        (DB_SINGLE, json!({"replication_mode": "async"}), "'replication_mode' is not a valid option"),
        (DB_LEADER_FOLLOWER, json!({"replication_mode": "sync"}), "must be \"async\" or \"semi-sync\""),
        (DB_LEADER_FOLLOWER, json!({"semi_sync_ack_timeout_in_ms": 0}), "must be an integer from 1 to"),
    ] {
        let mut body = provision_body(plan);
        body["parameters"] = parameters;
        let answer = stack.broker.call(Method::PUT, &path, Some(&body)).await?;
        let description = answer.body["description"].as_str().unwrap_or_default();
        assert!(answer.status == 400 && description.contains(words), "{} {}", answer.status, answer.body);
    }
    Ok(())
}
