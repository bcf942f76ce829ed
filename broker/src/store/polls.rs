//! How operations stand, for those who poll. Platforms ask for the same again and again while nothing happens; what was read
//! from a file is true until somebody uses its connection for anything else, and only then is it read again. A server has
//! other brokers' changes too, so there every poll reads.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::operations::{self, Report};
use super::{Connection, Source, Store};
use crate::ids::{InstanceId, OperationId};

/// So many answers are kept at the most; then all are read again.
const LIMIT: usize = 1024;

/// What was asked for: an operation, or an instance's newest.
type Question = (InstanceId, Option<OperationId>);

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// How often the connection had been used when they were read.
    uses: u64,
    reports: HashMap<Question, Option<Report>>,
}

impl Store {
    /// How an operation of an instance stands, or its newest one.
    pub(crate) async fn report(
        &self,
        instance: &InstanceId,
        operation: Option<&OperationId>,
    ) -> anyhow::Result<Option<Report>> {
        let Source::File { connection, polls, .. } = &self.source else {
            return read(&mut self.connection().await?, instance, operation).await;
        };
        let question = (instance.clone(), operation.cloned());
        if let Some(report) = polls.get(connection.uses(), &question) {
            return Ok(report);
        }
        let mut db = Connection::Kept(connection.hold_to_read().await?);
        // As long as it is held nobody else uses it.
        let uses = connection.uses();
        let report = read(&mut db, instance, operation).await?;
        polls.put(uses, question, report.clone());
        Ok(report)
    }
}

async fn read(
    db: &mut Connection,
    instance: &InstanceId,
    operation: Option<&OperationId>,
) -> anyhow::Result<Option<Report>> {
    match operation {
        Some(operation) => operations::report(db, instance, operation).await,
        None => operations::newest_report(db, instance).await,
    }
}

impl Polls {
    fn get(&self, uses: u64, question: &Question) -> Option<Option<Report>> {
        let answers = self.answers();
        if answers.uses == uses { answers.reports.get(question).cloned() } else { None }
    }

    fn put(&self, uses: u64, question: Question, report: Option<Report>) {
        let mut answers = self.answers();
        if answers.uses != uses || answers.reports.len() >= LIMIT {
            *answers = Answers { uses, reports: HashMap::new() };
        }
        answers.reports.insert(question, report);
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use broker::osb::State;

    use super::*;
    use crate::store::Place;
    use crate::store::operations::Kind;

    #[tokio::test]
    async fn a_poll_is_answered_without_the_file_until_somebody_uses_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&Place::File(directory.path().join("state.db"))).await.unwrap();
        let Source::File { connection, .. } = &store.source else { panic!("it is a file") };
        let id = InstanceId::parse("i").unwrap();
        assert_eq!(store.report(&id, None).await.unwrap(), None);

        // Nobody gets the connection now, and nobody needs it.
        let held = connection.hold_to_read().await.unwrap();
        assert_eq!(store.report(&id, None).await.unwrap(), None);
        drop(held);

        let act = store.begin().await.unwrap();
        let mut polled = pin!(store.report(&id, None));
        assert!(futures_util::poll!(&mut polled).is_pending(), "it waits for the end of the act");
        act.commit().await.unwrap();
        assert_eq!(polled.await.unwrap(), None);
    }

    #[test]
    fn an_answer_is_good_for_its_time_only_and_there_are_not_too_many() {
        let polls = Polls::default();
        let question = |number: usize| (InstanceId::parse(&format!("i{number}")).unwrap(), None);
        let report = || {
            let description = "being made".to_owned();
            Some(Report { kind: Kind::Create, state: State::InProgress, description, instance_usable: None })
        };

        polls.put(7, question(0), report());
        assert_eq!(polls.get(7, &question(0)), Some(report()));
        assert_eq!(polls.get(7, &question(1)), None);
        assert_eq!(polls.get(8, &question(0)), None);
        // Who read before somebody else wrote comes late.
        polls.put(8, question(1), None);
        assert_eq!(polls.get(8, &question(1)), Some(None));

        for number in 0..3 * LIMIT {
            polls.put(8, question(number), None);
        }
        assert!(polls.answers().reports.len() <= LIMIT);
    }
}
