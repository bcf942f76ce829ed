//! The queue: a task that was entered ends, whoever hangs up and whatever dies.

use super::*;

fn order() -> Order {
    let (description, user) = ("retrieve vm-stats".to_owned(), "admin".to_owned());
    Order { kind: Kind::Vms, description, deployment: None, user, context_id: String::new() }
}

#[tokio::test]
async fn a_task_ends_although_the_one_who_asked_for_it_hung_up() {
    let state = tempfile::tempdir().unwrap();
    let tasks = Tasks::open(state.path()).unwrap();

    tokio::select! {
        biased;
        _ = tasks.submit(order(), async |_| Ok("3 of 3".to_owned())) => panic!("a file cannot be written without waiting"),
        () = std::future::ready(()) => {}
    }
    tasks.close().await;

    let record = tasks.get(1).unwrap();
    assert_eq!((record.state, record.result.as_deref()), (State::Done, Some("3 of 3")));
}

#[tokio::test]
async fn a_task_that_the_directors_end_broke_off_has_neither_result_nor_error() {
    let state = tempfile::tempdir().unwrap();
    let tasks = Tasks::open(state.path()).unwrap();
    tasks.submit(order(), async |_| std::future::pending().await).await.unwrap();

    let tasks = Tasks::open(state.path()).unwrap();

    let record = tasks.get(1).unwrap();
    assert_eq!((record.state, record.result), (State::Error, None));
    assert!(record.timestamp.is_some());
    assert_eq!(std::fs::read_to_string(tasks.output(1, "event").unwrap()).unwrap(), "");
}
