//! What goes wrong for ever: the operation fails at its deadline, with a sentence, and has not sent anything twice.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::broker::{Answer, DB_LEADER_FOLLOWER, DB_SINGLE, deployment_of, new_id};
use tests::simulation::{self, count, fault};
use tests::stack::Wiring;
use tests::{Broker, OwnBroker, Stack};

use crate::ending::{DELETE, POST, TASKS, denied, failed_with, nothing_twice};
use crate::faults;
use crate::operators::{at_work, cancel, errand};

const LATE: &str = "It did not finish in time.";
const ONCE: RangeInclusive<u64> = 1..=1;

/// A fault that never ends.
struct Endless {
    name: &'static str,
    act: &'static str,
    kind: &'static str,
    more: Value,
    words: &'static str,
    /// How often the director may be asked for the deployment, or for its deletion.
    sent: RangeInclusive<u64>,
}

fn endless(name: &'static str, (act, kind, more): (&'static str, &'static str, Value)) -> Endless {
    Endless { name, act, kind, more, words: LATE, sent: ONCE }
}

fn creations() -> Vec<Endless> {
    let for_ever = || json!({"latency_ms": 600_000});
    let away = "The director of the virtual machines could not be reached in time.";
    let mut denied = denied(1);
    denied["count"] = Value::Null;
    vec![
        // At the deadline it waits, or is just refused again.
        Endless {
            words: "in time.",
            sent: 2..=u64::MAX,
            ..endless("F2.2 the deployment is not allowed", (POST, "answer", denied.clone()))
        },
        Endless { words: away, sent: 0..=0, ..endless("F2.2 looks are not allowed", (TASKS, "answer", denied)) },
        endless("F4.3 the deployment is being cancelled", ("deploy", "linger", for_ever())),
        endless("F4.5 the deployment", ("deploy", "queue", for_ever())),
        endless("F6.1 the agents", ("agent", "lose_answer", json!({}))),
    ]
}

#[tokio::test]
async fn what_never_ends_fails_at_the_deadline_with_a_sentence() -> Result<()> {
    let stack = Stack::start(Wiring::Simulated).await?;
    let one_minute = |config: &mut Value| config["properties"]["operation_timeout_minutes"] = 1.into();
    let own = OwnBroker::start_with(&stack, one_minute).await?;
    let (updated, deleted) = (new_id(), new_id());
    own.broker.provisioned(&updated, DB_SINGLE).await?;
    own.broker.provisioned(&deleted, DB_SINGLE).await?;
    simulation::clear(&stack.director).await?;

    let creations: Vec<_> = creations().into_iter().map(|endless| (new_id(), endless)).collect();
    let created = join_all(creations.iter().map(|(id, endless)| fails_late(&stack, &own.broker, id, endless)));
    let queue = endless("F4.5 the deletion", ("delete", "queue", json!({"latency_ms": 600_000})));
    let ended = tokio::join!(
        created,
        waits_in_vain_for_an_errand(&stack, &own.broker, &updated),
        deletion_fails_late(&stack, &own.broker, &deleted, &queue),
    );

    let ended = ended.0.into_iter().chain([ended.1, ended.2]);
    let wrong: Vec<String> = ended.filter_map(|ended| ended.err().map(|why| format!("{why:#}"))).collect();
    assert_eq!(wrong, Vec::<String>::new());
    simulation::clear(&stack.director).await?;
    for id in creations.iter().map(|(id, _)| id).chain([&updated, &deleted]) {
        nothing_twice(&stack.director, id).await?;
    }
    stack.shutdown()
}

async fn fails_late(stack: &Stack, broker: &Broker, id: &str, endless: &Endless) -> Result<()> {
    let answer = begin(stack, id, endless, async || broker.provision(id, DB_LEADER_FOLLOWER).await).await?;
    ensure!(answer.status == 202, "{}: {answer:?}", endless.name);
    if endless.kind == "linger" {
        cancel(&stack.director, at_work(&stack.director, id, "create deployment").await?).await?;
    }
    ends_late(stack, broker, id, endless, POST).await
}

async fn deletion_fails_late(stack: &Stack, broker: &Broker, id: &str, endless: &Endless) -> Result<()> {
    let answer = begin(stack, id, endless, async || broker.deprovision(id, DB_SINGLE).await).await?;
    ensure!(answer.status == 202, "{}: {answer:?}", endless.name);
    ends_late(stack, broker, id, endless, DELETE).await
}

async fn waits_in_vain_for_an_errand(stack: &Stack, broker: &Broker, id: &str) -> Result<()> {
    let name = "F5.2 an errand";
    let slow = ("run_errand", "delay", json!({"latency_ms": 600_000}));
    let endless = Endless { sent: 0..=0, ..endless(name, slow) };
    let change = json!({"parameters": {"workload": "read-heavy"}});
    let act = async || {
        errand(&stack.director, id).await?;
        broker.update(id, &change).await
    };
    let answer = begin(stack, id, &endless, act).await?;
    ensure!(answer.status == 202, "{name}: {answer:?}");
    ends_late(stack, broker, id, &endless, POST).await
}

async fn begin(stack: &Stack, id: &str, endless: &Endless, act: impl AsyncFn() -> Result<Answer>) -> Result<Answer> {
    ensure!(faults::are_known(endless.name), "{}: there is no such fault", endless.name);
    let wrong = fault(&deployment_of(id), endless.act, endless.kind, endless.more.clone());
    simulation::add_fault(&stack.director, &wrong).await.context(endless.name)?;
    if endless.kind == "linger" {
        let slow = fault(&deployment_of(id), "create_vm", "delay", json!({"latency_ms": 4000}));
        simulation::add_fault(&stack.director, &slow).await.context(endless.name)?;
    }
    act().await.context(endless.name)
}

async fn ends_late(stack: &Stack, broker: &Broker, id: &str, endless: &Endless, act: &str) -> Result<()> {
    let end = broker.settled(id).await.context(endless.name)?;
    failed_with(&end, id, endless.words).context(endless.name)?;
    let requests = simulation::requests(&stack.director, Some(&deployment_of(id))).await?;
    ensure!(endless.sent.contains(&count(&requests, act)), "{}: {requests}", endless.name);
    Ok(())
}
