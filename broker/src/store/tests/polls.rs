//! What those who poll are told.

use super::*;

#[tokio::test]
async fn a_poll_sees_what_was_written_before_it() {
    let database = Database::new().await;
    let state = async |operation: Option<&OperationId>| {
        database.store.report(&id("i"), operation).await.unwrap().map(|report| report.state)
    };
    assert_eq!(state(None).await, None);

    let operation = database.create("i").await;
    for _ in 0..2 {
        assert_eq!(state(None).await, Some(State::InProgress));
        assert_eq!(state(Some(&operation)).await, Some(State::InProgress));
    }

    assert!(database.finish(&operation).await);
    assert_eq!([state(None).await, state(Some(&operation)).await], [Some(State::Succeeded); 2]);
}
