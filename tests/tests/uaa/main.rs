//! A director that takes nothing but the tokens of its UAA, as production has it: the broker lives with tokens that wear out,
//! with a UAA that is away, and with a client that lacks a scope. The director behind the gate is the one of simulated VMs.

mod gate;
mod program;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::stack::Wiring;
use tests::{Broker, Stack, eventually};
use tokio::sync::OnceCell;

use gate::{CLIENT_SECRET, Gate, TOKEN};
use program::Program;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);
const POST: &str = "POST /deployments";
const ERRAND: &str = "POST /deployments/{deployment}/errands/{errand}/runs";

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await
}

fn set(gate: &Gate, uaa_status: Option<u16>, requests_per_token: Option<u64>) {
    let mut world = gate.world();
    (world.uaa_status, world.requests_per_token) = (uaa_status, requests_per_token);
}

async fn waits(broker: &Broker, id: &str) -> Result<()> {
    eventually("the operation waits for the director", LIMIT, async || {
        let told = broker.last_operation(id).await?.body;
        Ok(told["description"].as_str().is_some_and(|text| text.contains("waiting for the director")).then_some(()))
    })
    .await
}

/// What was granted is never said, and neither is what it was granted for.
fn keeps_quiet(program: &Program) -> Result<()> {
    let log = program.log()?;
    ensure!(!log.is_empty() && !log.contains(TOKEN) && !log.contains(CLIENT_SECRET), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_service_instance_outlives_the_tokens_that_it_is_made_with() -> Result<()> {
    let stack = stack().await?;
    let gate = Gate::before(stack).await?;
    let program = Program::start(stack, &gate).await?;
    let (broker, id, binding) = (&program.broker, new_id(), new_id());
    program.says("the director answers").await?;
    gate.world().requests_per_token = Some(7);

    broker.provisioned(&id, DB_LEADER_FOLLOWER).await?;
    let granted = gate.world().granted;
    gate.world().requests_per_token = None;
    let bound = broker.bind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    let unbound = broker.unbind(&id, DB_LEADER_FOLLOWER, &binding).await?;
    gate.world().requests_per_token = Some(7);
    broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;

    assert_eq!((bound.status, unbound.status), (201, 200), "{bound:?} {unbound:?}");
    ensure!(granted > 1 && gate.world().refused > 0, "no token was worn out: {:?}", gate.world());
    let requests = simulation::requests(&stack.director, Some(&deployment_of(&id))).await?;
    assert_eq!(count(&requests, POST), 1, "{requests}");
    assert_eq!(count(&requests, "DELETE /deployments/{deployment}"), 1, "{requests}");
    keeps_quiet(&program)
}

#[tokio::test]
async fn while_the_uaa_is_away_wishes_wait_and_the_log_says_why() -> Result<()> {
    let stack = stack().await?;
    let gate = Gate::before(stack).await?;
    gate.world().uaa_status = Some(503);
    let program = Program::start(stack, &gate).await?;
    let (broker, id) = (&program.broker, new_id());
    program.says("the UAA, or a proxy before it, is in trouble").await?;

    let accepted = broker.provision(&id, DB_SINGLE).await?;
    waits(broker, &id).await?;
    gate.world().uaa_status = None;

    assert_eq!(accepted.status, 202, "{accepted:?}");
    let end = broker.settled(&id).await?;
    ensure!(end["state"] == "succeeded", "the provision ended as {end}");
    program.says("the director answers").await?;
    broker.deprovisioned(&id, DB_SINGLE).await?;
    keeps_quiet(&program)
}

#[tokio::test]
async fn a_uaa_that_goes_away_in_the_middle_of_a_creation_delays_it() -> Result<()> {
    let stack = stack().await?;
    let gate = Gate::before(stack).await?;
    let program = Program::start(stack, &gate).await?;
    let (broker, id) = (&program.broker, new_id());
    let asked = async || simulation::requests(&stack.director, Some(&deployment_of(&id))).await;
    program.says("the director answers").await?;
    let slow = fault(&deployment_of(&id), "deploy", "delay", json!({"latency_ms": 2000}));
    simulation::add_fault(&stack.director, &slow).await?;

    broker.provision(&id, DB_LEADER_FOLLOWER).await?;
    eventually("the director is asked", LIMIT, async || Ok((count(&asked().await?, POST) > 0).then_some(()))).await?;
    // With the newest token nobody gets any further.
    set(&gate, Some(503), Some(0));
    waits(broker, &id).await?;
    set(&gate, None, None);
    let end = broker.settled(&id).await?;

    ensure!(end["state"] == "succeeded", "the provision ended as {end}");
    let requests = asked().await?;
    assert_eq!([POST, ERRAND].map(|act| count(&requests, act)), [1, 1], "{requests}");
    broker.deprovisioned(&id, DB_LEADER_FOLLOWER).await?;
    keeps_quiet(&program)
}

#[tokio::test]
async fn a_client_that_lacks_a_scope_waits_for_it_with_the_token_that_it_has() -> Result<()> {
    let stack = stack().await?;
    let gate = Gate::before(stack).await?;
    let program = Program::start(stack, &gate).await?;
    let (broker, id) = (&program.broker, new_id());
    program.says("the director answers").await?;
    let granted = gate.world().granted;
    gate.world().denies = true;

    broker.provision(&id, DB_SINGLE).await?;
    eventually("it was denied again and again", LIMIT, async || Ok((gate.world().denied > 3).then_some(()))).await?;
    let told = broker.last_operation(&id).await?.body;
    gate.world().denies = false;

    assert_eq!(told["state"], "in progress");
    assert_eq!(gate.world().granted, granted, "a refusal costs a token");
    let end = broker.settled(&id).await?;
    ensure!(end["state"] == "succeeded", "the provision ended as {end}");
    broker.deprovisioned(&id, DB_SINGLE).await.context("delete it")?;
    keeps_quiet(&program)
}
