//! The queue: a task that was entered ends, whoever hangs up and whatever dies.

use super::*;

fn order() -> Order {
    let (description, user) = ("retrieve vm-stats".to_owned(), "admin".to_owned());
    Order { kind: Kind::Vms, description, deployment: None, user, context_id: String::new(), deed: None }
}

fn opened(state: &Path) -> (Tasks, Arc<Events>) {
    let events = Arc::new(Events::open(state).unwrap());
    (Tasks::open(state, events.clone()).unwrap(), events)
}

#[tokio::test]
async fn a_task_ends_although_the_one_who_asked_for_it_hung_up() {
    let state = tempfile::tempdir().unwrap();
    let (tasks, _) = opened(state.path());

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
    let (tasks, _) = opened(state.path());
    tasks.submit(order(), async |_| std::future::pending().await).await.unwrap();

    let (tasks, _) = opened(state.path());

    let record = tasks.get(1).unwrap();
    assert_eq!((record.state, record.result), (State::Error, None));
    assert!(record.timestamp.is_some());
    assert_eq!(std::fs::read_to_string(tasks.output(1, "event").unwrap()).unwrap(), "");
}

#[tokio::test]
async fn a_task_that_breaks_off_has_told_of_its_beginning_and_its_end() {
    let state = tempfile::tempdir().unwrap();
    let (tasks, events) = opened(state.path());
    let deed = Deed::new("delete", "deployment", "d").of("d");

    let id = tasks.submit(order().telling(deed), async |_| panic!("on purpose")).await.unwrap();
    tasks.close().await;

    let told = events.select(&crate::event::Filter { task: Some(id), ..Default::default() }, 10);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].parent_id, told[0].actor.user.as_str()), (Some(told[1].id), "admin"));
    assert!(told[0].error.as_deref().is_some_and(|error| error.starts_with("the task broke off")), "{told:?}");
}
