//! A pair that becomes one server keeps its leader.

use broker::osb::State;

use super::*;
use crate::admission::Target;
use crate::ids::OperationId;
use crate::store::operations::{self, Kind, NewOperation};

async fn update(app: &App, instance: &str, keeps_leader: bool) -> OperationId {
    let instance = InstanceId::parse(instance).unwrap();
    let target =
        Target { plan_id: "single".into(), parameters: Default::default(), maintenance_version: None, keeps_leader };
    let new = NewOperation { target: Some(&target), ..NewOperation::new(Kind::Update, &instance, "r", LIMIT) };
    operations::insert(&mut app.store.connection().await.unwrap(), new, NOW).await.unwrap()
}

async fn finish(app: &App, operation: &OperationId, state: State) {
    let mut db = app.store.connection().await.unwrap();
    operations::finish(&mut db, operation, state, "ended", NOW).await.unwrap();
}

#[tokio::test]
async fn while_one_server_of_a_pair_goes_nobody_is_chosen_but_its_leader() {
    let authority = Authority::new();
    let (app, _directory) = app().await;
    insert(&app, "i").await;
    let witness = Running::start(app, &authority.issue(&[BROKER_NAME]));
    let client = witness.client(&authority.issue(&[&name("i")]));
    let vote = async |epoch, leader| word(&client.vote(&ballot(epoch, leader), LIMIT).await.unwrap());
    assert_eq!(vote(1, "a").await, "granted");
    let other = update(&witness.app, "i", false).await;
    assert_eq!(vote(2, "b").await, "granted");
    finish(&witness.app, &other, State::Succeeded).await;

    let shrinking = update(&witness.app, "i", true).await;

    assert_eq!(vote(3, "a").await, "refused");
    assert_eq!(vote(3, "b").await, "granted");
    // The director's task may go on after the operation.
    finish(&witness.app, &shrinking, State::Failed).await;
    assert_eq!(vote(4, "a").await, "refused");
    let again = update(&witness.app, "i", false).await;
    finish(&witness.app, &again, State::Succeeded).await;
    assert_eq!(vote(4, "a").await, "granted");
}
