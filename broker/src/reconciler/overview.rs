//! The director's unfinished tasks, looked at for all operations together: a hundred that wait cost the director one request
//! now and then, where each would ask about its own. An overview only ever says that a task is still there. Whatever has
//! changed, and whatever it cannot tell, an operation looks at itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{PAUSE_MAX, PAUSE_MIN};
use crate::bosh::{Director, Task, TaskId};
use crate::ids::OperationId;

/// The more tasks there are, the more a look costs the director, and the seldomer it is: a hundred give two a second.
const PAUSE_PER_TASK: Duration = Duration::from_millis(5);
/// How much older than asked for an overview may be, while a new one is on its way or fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen last, and who looks now.
#[derive(Debug)]
pub(crate) struct Overview {
    last: Mutex<Look>,
    /// One looks at a time, and nobody waits for it.
    looking: Semaphore,
}

/// One look at all tasks.
#[derive(Debug, Default)]
struct Look {
    begun: Option<Instant>,
    /// The unfinished tasks by context id, in order.
    tasks: HashMap<String, Vec<TaskId>>,
    count: u32,
}

/// An operation in an overview.
#[derive(Debug)]
pub(super) struct Glimpse {
    /// Its unfinished tasks, in order.
    pub(super) unfinished: Vec<TaskId>,
    /// Until another look is worth what it costs.
    pub(super) pause: Duration,
}

impl Default for Overview {
    fn default() -> Overview {
        Overview { last: Mutex::default(), looking: Semaphore::new(1) }
    }
}

impl Overview {
    /// What a look shows that began less than `age` ago, or not much earlier; that look is now, unless there was one. None
    /// where there is no such look.
    pub(super) async fn of(&self, operation: &OperationId, director: &Director, age: Duration) -> Option<Glimpse> {
        let age = age.max(self.last().pause());
        if !self.last().is_younger_than(age)
            && let Ok(_looking) = self.looking.try_acquire()
        {
            let begun = Instant::now();
            match director.all_unfinished_tasks().await {
                Ok(tasks) => *self.last() = Look::at(begun, tasks),
                Err(error) => {
                    tracing::debug!(cause = format!("{:#}", anyhow::Error::new(error)), "no overview of the tasks");
                }
            }
        }
        let last = self.last();
        last.is_younger_than(age + PATIENCE).then(|| last.glimpse(operation))
    }

    fn last(&self) -> MutexGuard<'_, Look> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    fn at(begun: Instant, all: Vec<Task>) -> Look {
        let mut look = Look { begun: Some(begun), ..Look::default() };
        for task in all {
            look.count += 1;
            look.tasks.entry(task.context_id.unwrap_or_default()).or_default().push(task.id);
        }
        look
    }

    fn is_younger_than(&self, age: Duration) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() < age)
    }

    fn glimpse(&self, operation: &OperationId) -> Glimpse {
        let unfinished = self.tasks.get(operation.as_str()).cloned().unwrap_or_default();
        Glimpse { unfinished, pause: self.pause() }
    }

    /// Until another look is worth what it costs.
    fn pause(&self) -> Duration {
        (PAUSE_PER_TASK * self.count).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}
