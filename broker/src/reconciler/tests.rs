//! The loop on a real state database, with a director that cannot be reached.

use broker::osb::State;
use tempfile::TempDir;

use super::*;
use crate::admission::Attributes;
use crate::app::fixture::app;
use crate::store::operations::{NewOperation, Report};

const SERVICE: &str = "7b7d8c3e-6f0e-4f6b-9a0d-3c0f5d4f1a10";
const SINGLE: &str = "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21";
const LIMIT: Duration = Duration::from_secs(30);

/// The loop, at work.
struct Running {
    app: Arc<App>,
    stop: CancellationToken,
    work: tokio::task::JoinHandle<()>,
    _directory: TempDir,
}

impl Running {
    async fn start() -> Running {
        let (app, directory) = app().await;
        let (app, stop) = (Arc::new(app), CancellationToken::new());
        let work = tokio::spawn(run(app.clone(), stop.clone()));
        Running { app, stop, work, _directory: directory }
    }

    async fn create(&self, id: &InstanceId, plan_id: &str, timeout: Duration) {
        let attributes = Attributes {
            service_id: SERVICE.into(),
            plan_id: plan_id.into(),
            organization_guid: "o".into(),
            space_guid: "s".into(),
            parameters: Default::default(),
        };
        let new = NewOperation::new(Kind::Create, id, "r", timeout);
        let mut tx = self.app.store.begin().await.unwrap();
        instances::insert(&mut tx, id, &attributes, None, "{}", Timestamp::now()).await.unwrap();
        operations::insert(&mut tx, new, Timestamp::now()).await.unwrap();
        tx.commit().await.unwrap();
        self.app.wish.notify_one();
    }

    async fn report(&self, id: &InstanceId) -> Report {
        let mut db = self.app.store.connection().await.unwrap();
        operations::newest_report(&mut db, id).await.unwrap().unwrap()
    }

    async fn until(&self, what: &str, id: &InstanceId, holds: impl Fn(&Report) -> bool) {
        let started = Instant::now();
        loop {
            let report = self.report(id).await;
            if holds(&report) {
                return;
            }
            assert!(started.elapsed() < LIMIT, "not in time: {what}; {report:?}");
            tokio::time::sleep(PAUSE_MIN).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.work.await.unwrap();
    }
}

fn id(number: usize) -> InstanceId {
    InstanceId::parse(&format!("i{number}")).unwrap()
}

#[tokio::test]
async fn an_operation_whose_plan_left_the_catalog_ends_at_its_deadline() {
    let running = Running::start().await;

    running.create(&id(1), "a-plan-of-yesterday", Duration::from_millis(1)).await;

    running.until("the operation fails", &id(1), |report| report.state == State::Failed).await;
    let report = running.report(&id(1)).await;
    assert!(report.description.contains("did not finish in time"), "{report:?}");
    running.end().await;
}

#[tokio::test]
async fn many_operations_that_wait_leave_room_for_one_more() {
    let running = Running::start().await;
    for number in 0..40 {
        running.create(&id(number), SINGLE, LIMIT).await;
    }

    for number in 0..40 {
        let was_worked_on = |report: &Report| report.description.contains("waiting for the director");
        running.until("every operation gets its turn", &id(number), was_worked_on).await;
    }
    running.end().await;
}
