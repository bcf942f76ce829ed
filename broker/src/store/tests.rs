//! The rules of the state database, on a real file or a real server (see `fixture.rs`).

mod polls;
mod several;
mod updates;

use std::time::Duration;

use agent::quorum::Record;
use broker::osb::State;
use tempfile::TempDir;

use super::fixture::{earlier, place};
use super::instances::{Lease, NameTaken};
use super::operations::{Kind, NewOperation, Operation, Report};
use super::*;
use crate::admission::{Attributes, BindingAttributes, BindingProgress, Condition};
use crate::bosh::TaskId;
use crate::clock::Timestamp;
use crate::ids::{BindingId, InstanceId, OperationId};
use crate::lifecycle::{Act, Submission};
use bindings::Key;
use witness_records::Life;

const LIMIT: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp(1_000_000);
const LATER: Timestamp = Timestamp(2_000_000);

struct Database {
    store: Store,
    directory: TempDir,
}

impl Database {
    async fn new() -> Database {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&place(directory.path()).await).await.unwrap();
        Database { store, directory }
    }

    async fn reopen(self) -> Database {
        self.store.close().await;
        let store = Store::open(&place(self.directory.path()).await).await.unwrap();
        Database { store, ..self }
    }

    async fn connection(&self) -> Connection {
        self.store.connection().await.unwrap()
    }

    async fn insert(&self, instance: &str) -> anyhow::Result<()> {
        instances::insert(&mut self.connection().await, &id(instance), &attributes(), None, "{}", NOW).await
    }

    async fn start(&self, instance: &str, kind: Kind, halts: Option<&OperationId>) -> anyhow::Result<OperationId> {
        let instance = id(instance);
        let new = NewOperation { halts, ..NewOperation::new(kind, &instance, "r", LIMIT) };
        operations::insert(&mut self.connection().await, new, NOW).await
    }

    async fn create(&self, instance: &str) -> OperationId {
        self.insert(instance).await.unwrap();
        self.start(instance, Kind::Create, None).await.unwrap()
    }

    async fn finish(&self, operation: &OperationId) -> bool {
        operations::finish(&mut self.connection().await, operation, State::Succeeded, "done", NOW).await.unwrap()
    }

    async fn condition(&self, instance: &str) -> Option<Condition> {
        let known = instances::find(&mut self.connection().await, &id(instance)).await.unwrap();
        known.map(|known| known.condition)
    }

    async fn claim(&self, owner: &str, now: Timestamp) -> Option<InstanceId> {
        let lease = Lease { owner, until: Timestamp(now.0 + 1000) };
        instances::claim(&mut self.connection().await, lease, now).await.unwrap()
    }

    async fn record(&self, instance: &str) -> Option<(Life, Record)> {
        let name = format!("service-instance-{instance}");
        witness_records::find(&mut self.connection().await, &name).await.unwrap()
    }

    async fn in_progress(&self, instance: &str) -> Option<Operation> {
        operations::in_progress(&mut self.connection().await, &id(instance)).await.unwrap()
    }
}

fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

/// Record a wish as the programs before updates did.
async fn insert_by_earlier(db: &mut Connection, instance: &str) {
    let sql = "INSERT INTO service_instances (id, generation, service_id, plan_id, organization_guid, space_guid, \
               parameters, context, certificate_name, created_at) VALUES ($1, 1, 's', 'p', 'o', 'g', '{}', '{}', $2, 1)";
    let name = format!("service-instance-{instance}");
    sqlx::query(sql).bind(instance).bind(name).execute(db).await.unwrap();
}

fn lease(until: Timestamp) -> Lease<'static> {
    Lease { owner: "a", until }
}

fn attributes() -> Attributes {
    Attributes {
        service_id: "s".into(),
        plan_id: "p".into(),
        organization_guid: "o".into(),
        space_guid: "g".into(),
        parameters: serde_json::from_str(r#"{"a":[1]}"#).unwrap(),
    }
}

#[tokio::test]
async fn a_wish_survives_a_restart() {
    let database = Database::new().await;
    let operation = database.create("i").await;

    let database = database.reopen().await;

    let known = instances::find(&mut database.connection().await, &id("i")).await.unwrap().unwrap();
    assert_eq!(known.attributes, attributes());
    assert_eq!((known.operation, known.condition), (operation, Condition::Creating));
}

#[tokio::test]
async fn the_directory_of_the_file_is_closed_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a 100%#?/state.db");

    Store::open(&Place::File(file.clone())).await.unwrap().close().await;

    assert!(file.is_file());
    let permissions = std::fs::metadata(file.parent().unwrap()).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777, 0o700);
}

#[tokio::test]
async fn a_database_of_the_first_program_is_brought_up_to_date_with_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (place, store) = earlier(directory.path(), 1).await;
    insert_by_earlier(&mut store.connection().await.unwrap(), "i").await;
    store.close().await;

    let database = Database { store: Store::open(&place).await.unwrap(), directory };

    let (life, record) = database.record("i").await.unwrap();
    assert_eq!((life.instance, record), (id("i"), Record::default()));
}

#[tokio::test]
async fn an_instance_has_one_operation_at_a_time() {
    let database = Database::new().await;
    let creation = database.create("i").await;

    let second = database.start("i", Kind::Delete, None).await;

    assert!(format!("{:#}", second.unwrap_err()).to_lowercase().contains("unique"));
    assert!(database.finish(&creation).await);
    database.start("i", Kind::Delete, None).await.unwrap();
    assert_eq!(database.condition("i").await, Some(Condition::Deleting));
}

#[tokio::test]
async fn a_deletion_halts_the_creation_and_knows_what_it_had_sent() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    let sent = Some(Submission { act: Act::Deploy, after: TaskId(7) });
    let created = database.in_progress("i").await.unwrap();
    assert!(operations::record_submission(&mut database.connection().await, &created, sent).await.unwrap());

    database.start("i", Kind::Delete, Some(&creation)).await.unwrap();

    let deletion = database.in_progress("i").await.unwrap();
    let halted = deletion.halted.unwrap();
    assert_eq!((halted.id.clone(), halted.submission), (creation.clone(), sent));
    assert!(!operations::record_submission(&mut database.connection().await, &created, None).await.unwrap());
    assert!(!database.finish(&creation).await, "what was halted stays halted");

    let mut db = database.connection().await;
    operations::finish(&mut db, &deletion.id, State::Failed, "failed", NOW).await.unwrap();
    let known = instances::find(&mut db, &id("i")).await.unwrap().unwrap();
    assert_eq!((known.condition, known.halts), (Condition::DeleteFailed, Some(creation)));
}

#[tokio::test]
async fn an_instance_is_claimed_once_until_the_lease_ends_or_its_owner_comes_back() {
    let database = Database::new().await;
    database.create("i").await;
    assert_eq!(database.claim("a", NOW).await, Some(id("i")));

    assert_eq!(database.claim("b", NOW).await, None);
    let due = operations::next_due(&mut database.connection().await).await.unwrap();
    assert_eq!(due, Some(Timestamp(NOW.0 + 1000)));
    assert_eq!(database.claim("b", Timestamp(NOW.0 + 1000)).await, Some(id("i")));

    let old = Lease { owner: "a", until: Timestamp(NOW.0 + 1000) };
    assert!(!instances::renew(&mut database.connection().await, &id("i"), old, LATER).await.unwrap());
    instances::release_all(&mut database.connection().await, "b").await.unwrap();
    assert_eq!(database.claim("a", NOW).await, Some(id("i")));
}

#[tokio::test]
async fn a_worker_that_overslept_its_lease_sends_and_keeps_nothing() {
    let database = Database::new().await;
    database.create("i").await;
    let sent = Some(Submission { act: Act::Deploy, after: TaskId(0) });
    let old = Lease { owner: "a", until: Timestamp(NOW.0 + 1000) };
    database.claim("a", NOW).await.unwrap();
    let seen_by_old = database.in_progress("i").await.unwrap();
    database.claim("a", old.until).await.unwrap();
    let seen_by_new = database.in_progress("i").await.unwrap();
    let mut db = database.connection().await;

    assert!(!operations::record_submission(&mut db, &seen_by_old, sent).await.unwrap());
    assert!(!instances::renew(&mut db, &id("i"), old, LATER).await.unwrap());
    instances::release(&mut db, &id("i"), old).await.unwrap();

    assert!(operations::record_submission(&mut db, &seen_by_new, sent).await.unwrap());
    let new = Lease { until: seen_by_new.claimed_until, ..old };
    assert!(instances::renew(&mut db, &id("i"), new, LATER).await.unwrap());
}

#[tokio::test]
async fn what_is_due_the_longest_is_claimed_first_and_what_is_not_due_is_not() {
    let database = Database::new().await;
    database.create("young").await;
    database.create("old").await;
    operations::postpone(&mut database.connection().await, &id("young"), Timestamp(NOW.0 + 5)).await.unwrap();

    assert_eq!(database.claim("a", NOW).await, Some(id("old")));
    assert_eq!(database.claim("a", NOW).await, None);
    assert_eq!(database.claim("a", Timestamp(NOW.0 + 5)).await, Some(id("young")));
}

#[tokio::test]
async fn a_deleted_instance_leaves_a_tombstone_that_can_be_used_again_and_is_forgotten_in_time() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    database.start("i", Kind::Delete, None).await.unwrap();
    let deletion = database.in_progress("i").await.unwrap();
    operations::finish_deletion(&mut database.connection().await, &deletion, "gone", NOW).await.unwrap();
    assert_eq!(database.condition("i").await, Some(Condition::Deleted));

    database.create("i").await;
    let old = operations::report(&mut database.connection().await, &id("i"), &deletion.id).await.unwrap();
    let expected =
        Report { kind: Kind::Delete, state: State::Succeeded, description: "gone".into(), instance_usable: None };
    assert_eq!(old, Some(expected));
    assert_eq!(instances::forget_deleted(&mut database.connection().await, LATER).await.unwrap(), 0);

    let again = database.in_progress("i").await.unwrap();
    operations::finish_deletion(&mut database.connection().await, &again, "gone", NOW).await.unwrap();
    assert_eq!(instances::forget_deleted(&mut database.connection().await, LATER).await.unwrap(), 1);
    assert_eq!(database.condition("i").await, None);
}

#[tokio::test]
async fn ids_that_would_give_agents_the_same_name_are_refused() {
    let database = Database::new().await;
    database.insert("a-b").await.unwrap();
    for taken in ["A-b", "a_b", "a-~b"] {
        assert!(database.insert(taken).await.unwrap_err().is::<NameTaken>(), "{taken}");
    }
    database.insert("ab").await.unwrap();
}

#[tokio::test]
async fn a_binding_is_kept_sealed_and_goes_with_its_instance() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    let key = Key { instance: id("i"), binding: BindingId::parse("b").unwrap() };
    let attributes =
        BindingAttributes { service_id: "s".into(), plan_id: "p".into(), rest: serde_json::json!({"app_guid": "a"}) };
    let mut db = database.connection().await;

    bindings::insert(&mut db, &key, &attributes, "sealed", lease(LATER), NOW).await.unwrap();

    let stored = bindings::find(&mut db, &key, NOW).await.unwrap().unwrap();
    assert_eq!((stored.known.progress, stored.known.is_claimed), (BindingProgress::Creating, true));
    assert_eq!((stored.known.attributes, stored.sealed.as_str()), (attributes.clone(), "sealed"));
    assert!(!bindings::find(&mut db, &key, LATER).await.unwrap().unwrap().known.is_claimed);
    assert!(bindings::insert(&mut db, &key, &attributes, "other", lease(LATER), NOW).await.is_err());

    bindings::delete_all(&mut db, &id("i")).await.unwrap();
    assert!(!bindings::release(&mut db, &key, BindingProgress::Created, lease(LATER)).await.unwrap());
    assert_eq!(bindings::find(&mut db, &key, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_whose_claim_has_passed_to_another_changes_nothing() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    let key = Key { instance: id("i"), binding: BindingId::parse("b").unwrap() };
    let attributes = BindingAttributes { service_id: "s".into(), plan_id: "p".into(), rest: serde_json::Value::Null };
    let (slow, quick) = (lease(Timestamp(NOW.0 + 1)), lease(LATER));
    let mut db = database.connection().await;
    bindings::insert(&mut db, &key, &attributes, "sealed", slow, NOW).await.unwrap();
    bindings::claim(&mut db, &key, BindingProgress::Creating, quick).await.unwrap();

    bindings::delete(&mut db, &key, slow).await.unwrap();
    assert!(!bindings::release(&mut db, &key, BindingProgress::Created, slow).await.unwrap());

    assert!(bindings::release(&mut db, &key, BindingProgress::Created, quick).await.unwrap());
    let stored = bindings::find(&mut db, &key, NOW).await.unwrap().unwrap();
    assert_eq!((stored.known.progress, stored.known.is_claimed), (BindingProgress::Created, false));
}

#[tokio::test]
async fn a_witness_record_is_written_for_the_life_that_it_was_read_for() {
    let database = Database::new().await;
    let creation = database.create("i").await;
    database.finish(&creation).await;
    let leader = Some("mysql/a".into());
    let record = Record { epoch: 7, leader, lease_ms: 10_000, in_sync: true, withdrawals: 3, is_vacant: true };
    let save = async |database: &Database, life: &Life| {
        witness_records::save(&mut database.connection().await, life, &record, "").await.unwrap()
    };
    let (life, nothing) = database.record("i").await.unwrap();
    assert_eq!(nothing, Record::default());

    assert!(save(&database, &life).await);
    let database = database.reopen().await;
    assert_eq!(database.record("i").await, Some((life.clone(), record.clone())));

    database.start("i", Kind::Delete, None).await.unwrap();
    let deletion = database.in_progress("i").await.unwrap();
    operations::finish_deletion(&mut database.connection().await, &deletion, "done", NOW).await.unwrap();
    assert_eq!(database.record("i").await, None);
    assert!(!save(&database, &life).await);
    database.insert("i").await.unwrap();
    assert!(!save(&database, &life).await);
    let (next_life, nothing) = database.record("i").await.unwrap();
    assert!(next_life != life && nothing == Record::default());
}
