//! What an update records, and when it counts.

use super::*;
use crate::admission::Target;

const LARGER: &str = "larger";

impl Database {
    async fn update(&self, instance: &str) -> OperationId {
        let version = Some("2.0.0".into());
        let target = Target {
            plan_id: LARGER.into(),
            parameters: Default::default(),
            maintenance_version: version,
            keeps_leader: true,
        };
        let instance = id(instance);
        let new = NewOperation { target: Some(&target), ..NewOperation::new(Kind::Update, &instance, "r", LIMIT) };
        operations::insert(&mut self.connection().await, new, NOW).await.unwrap()
    }

    async fn known(&self, instance: &str) -> crate::admission::Known {
        instances::find(&mut self.connection().await, &id(instance)).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_worker_sees_what_an_update_wants_and_others_what_is() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;

    database.update("i").await;

    let database = database.reopen().await;
    let operation = database.in_progress("i").await.unwrap();
    assert_eq!((operation.kind, operation.attributes.plan_id.as_str()), (Kind::Update, LARGER));
    assert!(operation.keeps_leader);
    assert_eq!(operation.attributes.space_guid, attributes().space_guid);
    let known = database.known("i").await;
    assert_eq!((known.condition, known.attributes), (Condition::Updating, attributes()));
    let target = known.target.unwrap();
    assert_eq!((target.plan_id.as_str(), target.keeps_leader), (LARGER, true));
}

#[tokio::test]
async fn an_update_that_succeeded_is_what_the_instance_is() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    database.update("i").await;
    let operation = database.in_progress("i").await.unwrap();

    operations::finish_update(&mut database.connection().await, &operation, "done", NOW).await.unwrap();

    let known = database.known("i").await;
    assert_eq!((known.condition, known.target), (Condition::Ready, None));
    assert_eq!((known.attributes.plan_id.as_str(), known.attributes.parameters.len()), (LARGER, 0));
    assert_eq!(known.maintenance_version.as_deref(), Some("2.0.0"));
}

#[tokio::test]
async fn an_update_that_failed_leaves_the_instance_and_says_whether_it_serves() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    let update = database.update("i").await;
    let mut db = database.connection().await;

    operations::set_usable(&mut db, &update, Some(true)).await.unwrap();
    operations::finish(&mut db, &update, State::Failed, "no", NOW).await.unwrap();
    operations::set_usable(&mut db, &update, Some(false)).await.unwrap();

    let report = operations::newest_report(&mut db, &id("i")).await.unwrap().unwrap();
    let expected =
        Report { kind: Kind::Update, state: State::Failed, description: "no".into(), instance_usable: Some(true) };
    assert_eq!(report, expected);
    drop(db);
    let known = database.known("i").await;
    assert_eq!((known.condition, known.attributes), (Condition::UpdateFailed, attributes()));
    assert_eq!(known.target.unwrap().plan_id, LARGER);
}

#[tokio::test]
async fn operations_of_the_program_before_updates_are_kept_with_what_they_halt() {
    let directory = tempfile::tempdir().unwrap();
    let (place, store) = earlier(directory.path(), 3).await;
    let mut db = store.connection().await.unwrap();
    insert_by_earlier(&mut db, "i").await;
    for (number, kind, halts) in [(1, "create", None), (2, "delete", Some("o1"))] {
        let sql = "INSERT INTO operations (id, instance_id, number, kind, state, description, request_id, halts, \
                   started_at, due_at, deadline_at) VALUES ($1, 'i', $2, $3, $4, 'x', 'r', $5, 1, 1, 1)";
        let state = if number == 1 { "failed" } else { "in progress" };
        let query = sqlx::query(sql).bind(format!("o{number}")).bind(number).bind(kind).bind(state).bind(halts);
        query.execute(&mut db).await.unwrap();
    }
    drop(db);
    store.close().await;

    let database = Database { store: Store::open(&place).await.unwrap(), directory };

    let deletion = database.in_progress("i").await.unwrap();
    assert_eq!((deletion.kind, deletion.id.as_str()), (Kind::Delete, "o2"));
    assert_eq!(deletion.halted.unwrap().id.as_str(), "o1");
}

#[tokio::test]
async fn what_quotas_count_is_every_living_instance_and_what_moves_to_another_plan() {
    let database = Database::new().await;
    for instance in ["idle", "moving", "moved", "failed", "gone", "asking"] {
        let creation = database.create(instance).await;
        database.finish(&creation).await;
    }
    database.update("moving").await;
    let failed = database.update("failed").await;
    operations::finish(&mut database.connection().await, &failed, State::Failed, "no", NOW).await.unwrap();
    database.update("moved").await;
    let moved = database.in_progress("moved").await.unwrap();
    operations::finish_update(&mut database.connection().await, &moved, "done", NOW).await.unwrap();
    database.start("gone", Kind::Delete, None).await.unwrap();
    let deletion = database.in_progress("gone").await.unwrap();
    operations::finish_deletion(&mut database.connection().await, &deletion, "gone", NOW).await.unwrap();

    let usage = usage::count(&mut database.connection().await, &id("asking")).await.unwrap();

    let plans = [("p".to_owned(), 3), (LARGER.to_owned(), 1)].into_iter().collect();
    let moves = vec![crate::admission::Move { from: "p".into(), to: LARGER.into(), instances: 2 }];
    assert_eq!(usage, crate::admission::Usage { plans, moves });
}
