//! Several brokers on one PostgreSQL, and a PostgreSQL that goes away: the built program, a director by script, and the
//! server of `tests/with-postgres.sh`.

#![cfg(test)]

mod director;
mod program;
mod silent;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use director::Director;
use futures_util::future::join_all;
use program::{Broker, Database};
use silent::Postgres;
use sqlx::Executor;
use wire::Wire;

fn ids() -> Vec<String> {
    (0..20).map(|number| format!("i{number}")).collect()
}

/// Who asked for the tasks of each operation.
fn senders(director: &Director) -> BTreeMap<String, Vec<String>> {
    let mut senders = BTreeMap::<String, Vec<String>>::new();
    for task in director.tasks() {
        senders.entry(task.context).or_default().push(task.client);
    }
    senders
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_share_the_work_and_nothing_is_sent_twice() {
    let Some(database) = Database::new("share").await else { return };
    let director = Director::start().await;
    let property = database.property(&database.authority);
    let (mut one, two) =
        tokio::join!(Broker::start("one", &director, &property), Broker::start("two", &director, &property));

    // Both are asked for everything.
    let answers = join_all(ids().iter().map(async |id| tokio::join!(one.create(id), two.create(id)))).await;
    for ((first, body), (second, same)) in answers {
        assert_eq!((first, second, &body["operation"]), (202, 202, &same["operation"]));
    }
    one.until("every creation was sent", async || director.tasks().len() == 20).await;
    // A crash of the one, a deletion at the other of what either works on.
    one.restart();
    two.until("the one is back", async || one.poll("i0").await.0 == 200).await;
    for id in &ids()[..5] {
        assert_eq!(two.delete(id).await.0, 202);
    }
    for id in &ids()[..5] {
        one.until("the deletion ends", async || one.poll(id).await.0 == 410).await;
    }
    for id in &ids()[5..] {
        two.until("the creation ends", async || two.poll(id).await.1["state"] == "failed").await;
    }

    let senders = senders(&director);
    assert!(senders.values().all(|senders| senders.len() == 1), "{senders:?}");
    assert_eq!((senders.len(), director.deployments()), (25, 15));
    let workers: BTreeSet<&String> = senders.values().flatten().collect();
    assert_eq!(workers.len(), 2, "{senders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_state_database_is_away_every_answer_says_so_and_afterwards_all_goes_on() {
    let Some(database) = Database::new("away").await else { return };
    let director = Director::start().await;
    let wire = Wire::to(&database.authority).await;
    let broker = Broker::start("one", &director, &database.property(wire.authority())).await;
    assert_eq!(broker.create("i").await.0, 202);
    broker.until("the creation is sent", async || director.tasks().len() == 1).await;

    wire.cut();

    for answer in [broker.poll("i").await, broker.create("j").await, broker.delete("i").await] {
        assert_eq!(answer.0, 503, "{answer:?} {}", broker.log());
        assert!(answer.1["description"].as_str().unwrap().contains("state database"), "{answer:?}");
    }
    assert_eq!(broker.call(reqwest::Method::GET, "/v2/catalog", None).await.0, 200);

    wire.mend();

    broker.until("the creation ends", async || broker.poll("i").await.1["state"] == "failed").await;
    assert_eq!(broker.create("j").await.0, 202);
    assert_eq!(senders(&director).values().map(Vec::len).max(), Some(1));
    assert!(!broker.log().contains(&database.password), "{}", broker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_database_that_falls_silent_holds_nobody_for_long_and_everything_goes_on_with_it() {
    let Some(postgres) = Postgres::start().await else { return };
    let director = Director::start().await;
    let broker = Broker::start("one", &director, &postgres.property()).await;
    assert_eq!(broker.create("i").await.0, 202);
    broker.until("the creation is sent", async || director.tasks().len() == 1).await;

    // Some requests and the reconciler are in the middle of a transaction, and others come when the server is silent.
    let mut turn = postgres.connect().await;
    turn.execute("SELECT pg_advisory_lock(1952542308, 1)").await.unwrap();
    let waiting = join_all((0..20).map(|number| broker.create(["j", "k", "l", "m"][number % 4])));
    let then_silent = async {
        postgres.wait_for(16, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await;
        postgres.fall_silent();
        let started = Instant::now();
        let polled = join_all((0..20).map(|_| broker.poll("i"))).await;
        assert_eq!(broker.call(reqwest::Method::GET, "/v2/catalog", None).await.0, 200);
        (started, polled)
    };
    let (waited, (started, polled)) = tokio::join!(waiting, then_silent);
    assert!(started.elapsed() < Duration::from_secs(20), "after {:?}", started.elapsed());
    for answer in waited.into_iter().chain(polled) {
        assert_eq!(answer.0, 503, "{answer:?} {}", broker.log());
        assert!(answer.1["description"].as_str().unwrap().contains("state database"), "{answer:?}");
    }

    postgres.go_on();
    drop(turn);

    broker.until("the creation ends", async || broker.poll("i").await.1["state"] == "failed").await;
    assert_eq!(broker.create("j").await.0, 202);
    assert_eq!(senders(&director).values().map(Vec::len).max(), Some(1));
}
