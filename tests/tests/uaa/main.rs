//! A director that takes nothing but the tokens of its UAA, as production has it: the broker lives with tokens that wear out,
//! with a UAA that is away, and with a client that lacks a scope. The director behind the gate is the one of simulated VMs.

mod gate;
mod program;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count};
use tests::stack::Wiring;
use tests::{Stack, eventually};
use tokio::sync::OnceCell;

use gate::{CLIENT_SECRET, Gate, TOKEN};
use program::Program;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await
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
    assert_eq!(count(&requests, "POST /deployments"), 1, "{requests}");
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
    let waits = "waiting for the director";
    eventually("the operation waits", LIMIT, async || {
        let told = broker.last_operation(&id).await?.body;
        Ok(told["description"].as_str().is_some_and(|text| text.contains(waits)).then_some(()))
    })
    .await?;
    gate.world().uaa_status = None;

    assert_eq!(accepted.status, 202, "{accepted:?}");
    let end = broker.settled(&id).await?;
    ensure!(end["state"] == "succeeded", "the provision ended as {end}");
    program.says("the director answers").await?;
    broker.deprovisioned(&id, DB_SINGLE).await?;
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
