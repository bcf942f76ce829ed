//! Several brokers on one PostgreSQL are one witness.

use super::*;
use crate::store::fixture::place;

/// Two witnesses on one database; none where the tests run on files.
async fn two() -> Option<(App, tempfile::TempDir, [Witness; 2])> {
    let (app, directory) = app().await;
    if !app.store.is_shared() {
        return None;
    }
    insert(&app, "i").await;
    let other = crate::store::Store::open(&place(directory.path()).await).await.unwrap();
    let witnesses = [Witness::new(app.store.clone(), Instant::now()), Witness::new(other, Instant::now())];
    Some((app, directory, witnesses))
}

async fn renew(witness: &Witness, epoch: u64, leader: &str) -> &'static str {
    let answer = witness.ask(&name("i"), |voter, now| voter.renew(&renewal(epoch, leader), now)).await.unwrap();
    let Outcome::Answered(answer) = answer else { panic!("no such instance") };
    word(&answer)
}

async fn vote(witness: &Witness, epoch: u64, leader: &str) -> &'static str {
    let answer = witness.ask(&name("i"), |voter, now| voter.vote(&ballot(epoch, leader), now)).await.unwrap();
    let Outcome::Answered(answer) = answer else { panic!("no such instance") };
    word(&answer)
}

#[tokio::test]
async fn a_lease_that_one_broker_granted_is_waited_out_by_the_other() {
    let Some((_app, _directory, [one, two])) = two().await else { return };
    assert_eq!(renew(&two, 1, "mysql/a").await, "granted");
    // The other has not been asked for long, and its own start is longer ago than a lease.
    tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
    assert_eq!(renew(&one, 1, "mysql/a").await, "granted");
    let granted = Instant::now();

    assert_eq!(vote(&two, 2, "mysql/b").await, "leased");
    while vote(&two, 2, "mysql/b").await == "leased" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert!(granted.elapsed() >= Duration::from_millis(LEASE_MS));
    assert_eq!(renew(&one, 1, "mysql/a").await, "refused", "it does not speak from memory");
    assert_eq!(renew(&one, 2, "mysql/b").await, "granted");
}

#[tokio::test]
async fn brokers_that_are_asked_in_turn_give_an_epoch_to_one_candidate() {
    let Some((app, _directory, witnesses)) = two().await else { return };
    for epoch in 1..=10 {
        let asked = join_all((0..8).map(|number| {
            let witness = &witnesses[number % 2];
            async move { vote(witness, epoch, if number < 4 { "mysql/a" } else { "mysql/b" }).await == "granted" }
        }));
        let granted = asked.await;
        let (a, b) = (granted[..4].contains(&true), granted[4..].contains(&true));
        assert!(!(a && b) && (a || b), "{epoch}: {granted:?}");
        assert_eq!(written(&app, "i").await.epoch, epoch);
    }
}
