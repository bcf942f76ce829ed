//! The director's events: who did what to which object, in which task, and how it ended. Every deed has two, one when it
//! begins and one when it ends, which names the first one as its parent. So many are kept, and they outlive the director.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, Result as BoshResult};
use crate::file;

/// As many as BOSH keeps.
const KEPT: usize = 10_000;
/// So many lines are superfluous before the file is written anew.
const SLACK: usize = 2_000;

/// The events of a director, oldest first.
pub(crate) struct Events {
    path: PathBuf,
    memory: Mutex<Memory>,
}

struct Memory {
    events: VecDeque<Event>,
    last_id: u64,
    /// How many lines the file has.
    lines: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) parent_id: Option<u64>,
    pub(crate) timestamp: i64,
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) actor: Actor,
    #[serde(flatten)]
    pub(crate) deed: Deed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Actor {
    pub(crate) user: String,
    pub(crate) task: Option<u64>,
}

/// What is done to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deed {
    pub(crate) action: String,
    pub(crate) object_type: String,
    pub(crate) object_name: String,
    pub(crate) deployment: Option<String>,
    /// `mysql/<id>`
    pub(crate) instance: Option<String>,
}

/// Which events are asked for; what is not given admits all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) before_id: Option<u64>,
    /// Seconds since 1970.
    pub(crate) before: Option<i64>,
    pub(crate) after: Option<i64>,
    pub(crate) task: Option<u64>,
    pub(crate) user: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) object_type: Option<String>,
    pub(crate) object_name: Option<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) instance: Option<String>,
}

impl Deed {
    pub(crate) fn new(action: &str, object_type: &str, object_name: &str) -> Self {
        let [action, object_type, object_name] = [action, object_type, object_name].map(str::to_owned);
        Self { action, object_type, object_name, deployment: None, instance: None }
    }

    pub(crate) fn of(self, deployment: &str) -> Self {
        Self { deployment: Some(deployment.to_owned()), ..self }
    }

    pub(crate) fn on(self, instance: String) -> Self {
        Self { instance: Some(instance), ..self }
    }
}

impl Events {
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let path = state.join("events");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(cause) => return Err(cause).with_context(|| format!("read {}", path.display())),
        };
        // A director that died may have left half a line, and half a character.
        let lines = text.split(|byte| *byte == b'\n');
        let mut events: VecDeque<Event> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let last_id = events.back().map_or(0, |event| event.id);
        events.drain(..events.len().saturating_sub(KEPT));
        // Whatever the disk says: a director is of more use than its events.
        if let Err(error) = write_anew(&path, &events) {
            tracing::error!("events are remembered only until the director ends: {error:#}");
        }
        let lines = events.len();
        Ok(Self { path, memory: Mutex::new(Memory { events, last_id, lines }) })
    }

    /// Something that is done at once.
    pub(crate) fn tell(&self, actor: Actor, deed: Deed, error: Option<&Error>) {
        self.record(None, actor, deed, error);
    }

    /// Something that takes time: what it returns is given to [`Events::end`].
    pub(crate) fn begin(&self, actor: Actor, deed: Deed) -> u64 {
        self.record(None, actor, deed, None)
    }

    pub(crate) fn end(&self, begun: u64, actor: Actor, deed: Deed, error: Option<&Error>) {
        self.record(Some(begun), actor, deed, error);
    }

    /// Do some work between its two events.
    pub(crate) async fn around<T>(
        &self,
        actor: Actor,
        deed: Deed,
        work: impl Future<Output = BoshResult<T>>,
    ) -> BoshResult<T> {
        let begun = self.begin(actor.clone(), deed.clone());
        let done = work.await;
        self.end(begun, actor, deed, done.as_ref().err());
        done
    }

    /// The newest ones, newest first.
    pub(crate) fn select(&self, filter: &Filter, limit: usize) -> Vec<Event> {
        self.lock().events.iter().rev().filter(|event| filter.admits(event)).take(limit).cloned().collect()
    }

    /// An event that cannot be written must not fail the work that it tells of.
    fn record(&self, parent_id: Option<u64>, actor: Actor, deed: Deed, error: Option<&Error>) -> u64 {
        let timestamp = OffsetDateTime::now_utc().unix_timestamp();
        let mut memory = self.lock();
        memory.last_id += 1;
        let id = memory.last_id;
        let error = error.map(|error| error.description.clone());
        let event = Event { id, parent_id, timestamp, error, actor, deed };
        if let Err(error) = memory.write(&self.path, event) {
            tracing::error!(error = format!("{error:#}"), "cannot write an event");
        }
        id
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn write(&mut self, path: &Path, event: Event) -> Result<()> {
        let line = line(&event)?;
        self.events.push_back(event);
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
        if self.lines >= KEPT + SLACK {
            write_anew(path, &self.events)?;
            self.lines = self.events.len();
            return Ok(());
        }
        self.lines += 1;
        file::append(path, line.as_bytes())
    }
}

impl Filter {
    fn admits(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let has = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        let Event { actor, deed, .. } = event;
        self.before_id.is_none_or(|id| event.id < id)
            && self.before.is_none_or(|time| event.timestamp < time)
            && self.after.is_none_or(|time| event.timestamp > time)
            && (self.task.is_none() || self.task == actor.task)
            && is(&self.user, &actor.user)
            && is(&self.action, &deed.action)
            && is(&self.object_type, &deed.object_type)
            && is(&self.object_name, &deed.object_name)
            && has(&self.deployment, &deed.deployment)
            && has(&self.instance, &deed.instance)
    }
}

fn write_anew(path: &Path, events: &VecDeque<Event>) -> Result<()> {
    let lines = events.iter().map(line).collect::<Result<String>>()?;
    file::replace_unflushed(path, lines.as_bytes())
}

fn line(event: &Event) -> Result<String> {
    Ok(serde_json::to_string(event).context("write an event")? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn actor(task: u64) -> Actor {
        Actor { user: "admin".to_owned(), task: Some(task) }
    }

    fn ids(events: &Events, filter: &Filter) -> Vec<u64> {
        events.select(filter, 200).iter().map(|event| event.id).collect()
    }

    #[tokio::test]
    async fn a_deed_has_a_beginning_and_an_end_that_says_what_went_wrong() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::open(state.path()).unwrap();
        let deed = Deed::new("update", "deployment", "d").of("d");

        let failed: BoshResult<()> =
            events.around(actor(7), deed.clone(), async { Err(Error::new(Code::AgentTimeout, "no answer")) }).await;

        assert!(failed.is_err());
        let found = events.select(&Filter::default(), 200);
        assert_eq!((found[0].id, found[0].parent_id, found[0].error.as_deref()), (2, Some(1), Some("no answer")));
        assert_eq!((found[1].id, found[1].parent_id, &found[1].error), (1, None, &None));
        assert!(found.iter().all(|event| event.deed == deed && event.actor == actor(7)));
    }

    #[test]
    fn events_outlive_the_director_and_half_a_line_of_a_crash() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::open(state.path()).unwrap();
        events.tell(actor(1), Deed::new("create", "vm", "vm-1"), None);
        let written = events.select(&Filter::default(), 200);
        file::append(&state.path().join("events"), b"{\"id\": 2, \"user\": \"J\xc3").unwrap();

        let again = Events::open(state.path()).unwrap();
        let after_the_crash = again.select(&Filter::default(), 200);
        again.tell(actor(1), Deed::new("delete", "vm", "vm-1"), None);

        assert_eq!(after_the_crash, written);
        assert_eq!(ids(&Events::open(state.path()).unwrap(), &Filter::default()), [2, 1]);
    }

    #[test]
    fn the_oldest_events_are_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::open(state.path()).unwrap();
        let all = KEPT + SLACK + 5;

        (0..all).for_each(|_| events.tell(actor(1), Deed::new("create", "vm", "v"), None));

        assert_eq!(events.select(&Filter::default(), usize::MAX).len(), KEPT);
        let lines = std::fs::read_to_string(state.path().join("events")).unwrap().lines().count();
        assert_eq!(lines, KEPT + 4, "the file was written anew");
        assert_eq!(ids(&Events::open(state.path()).unwrap(), &Filter::default())[0], all as u64);
    }

    #[test]
    fn a_filter_admits_what_has_all_that_it_asks_for() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::open(state.path()).unwrap();
        events.tell(actor(1), Deed::new("update", "deployment", "a").of("a"), None);
        events.tell(actor(1), Deed::new("create", "vm", "v").of("a").on("mysql/i".to_owned()), None);
        events.tell(actor(2), Deed::new("delete", "deployment", "b").of("b"), None);
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let text = |text: &str| Some(text.to_owned());

        let table = [
            (Filter::default(), vec![3, 2, 1]),
            (Filter { before_id: Some(3), ..Filter::default() }, vec![2, 1]),
            (Filter { task: Some(2), ..Filter::default() }, vec![3]),
            (Filter { deployment: text("a"), object_type: text("vm"), ..Filter::default() }, vec![2]),
            (Filter { instance: text("mysql/i"), ..Filter::default() }, vec![2]),
            (Filter { action: text("delete"), user: text("admin"), ..Filter::default() }, vec![3]),
            (Filter { user: text("hm"), ..Filter::default() }, vec![]),
            (Filter { object_name: text("b"), ..Filter::default() }, vec![3]),
            (Filter { after: Some(now + 60), ..Filter::default() }, vec![]),
            (Filter { before: Some(now - 60), ..Filter::default() }, vec![]),
        ];
        for (filter, expected) in table {
            assert_eq!(ids(&events, &filter), expected, "{filter:?}");
        }
    }
}
