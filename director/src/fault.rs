//! Faults on demand: what a director of simulated VMs does wrong, to whom, and how often. A fault names an act (a request,
//! a task, something done to a VM, a question to its agent), the deployments that it is about, and what goes wrong. The first
//! one that fits is taken, and one with a `count` is used up. How a fault is played is not known here: each place asks
//! [`Faults::take`] and plays its own kinds.

mod act;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use act::{Kind, matches};

/// Far more than a test needs.
const FAULTS_LIMIT: usize = 1000;
/// Counts are kept for so many deployments; requests about others are counted in the sum only.
const COUNTED_LIMIT: usize = 20_000;

/// A fault, as it is given and shown in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) act: String,
    pub(crate) fault: Kind,
    /// The name of a deployment; `*` stands for any characters, and nothing for any name.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) deployment: String,
    /// Only this instance, by index; for acts on VMs.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) instance: Option<u32>,
    /// So many acts go well first.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) after: u64,
    /// So many acts go wrong; none: all, until the fault is deleted.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) count: Option<u64>,
    /// How long it takes, whatever else goes wrong.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) latency_ms: u64,
    /// Of `answer`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) status: Option<u16>,
    /// Of `answer`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) body: Option<String>,
    /// Of `fail`: one of BOSH's error codes.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) code: Option<u32>,
    /// Of `fail`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) message: Option<String>,
    /// Of `exit`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) exit_code: Option<i32>,
    /// Of `exit`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) stdout: String,
    /// Of `exit`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) stderr: String,
    /// Of `edit`: fields that the object, or each row of a list, gets.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) set: Map<String, Value>,
    /// Of `edit`: rows that a list gets.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) append: Vec<Value>,
    /// Of `edit`: a list comes the other way round.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) reverse: bool,
}

/// Where something could go wrong now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point<'a> {
    pub(crate) act: &'a str,
    /// Empty where it is about none, or about one that cannot be told.
    pub(crate) deployment: &'a str,
    pub(crate) instance: Option<u32>,
}

/// The faults of one director, and its requests, counted.
#[derive(Default)]
pub(crate) struct Faults {
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    faults: Vec<Active>,
    requests: BTreeMap<String, u64>,
    by_deployment: BTreeMap<String, BTreeMap<String, u64>>,
}

struct Active {
    fault: Fault,
    /// How many acts fitted, those that went well first among them.
    seen: u64,
}

impl Fault {
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms)
    }

    /// Why it can never happen.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(kinds) = act::kinds(&self.act) else {
            return Err(format!("act: there is no '{}'; there are {}", self.act, act::NAMES));
        };
        if !kinds.contains(&self.fault) {
            let names: Vec<String> = kinds.iter().map(Kind::name).collect();
            return Err(format!("fault: '{}' can have {}", self.act, names.join(", ")));
        }
        if self.status.is_some_and(|status| !(200..600).contains(&status)) {
            return Err("status: from 200 to 599".to_owned());
        }
        Ok(())
    }

    fn fits(&self, point: Point<'_>) -> bool {
        act::fits(&self.act, point.act)
            && (self.deployment.is_empty() || act::matches(&self.deployment, point.deployment))
            && (self.instance.is_none() || self.instance == point.instance)
    }
}

impl Active {
    /// Is it this fault's turn?
    fn take(&mut self) -> bool {
        self.seen += 1;
        let wrong = self.seen.saturating_sub(self.fault.after);
        wrong > 0 && self.fault.count.is_none_or(|count| wrong <= count)
    }
}

impl Faults {
    /// What goes wrong here, if anything. It counts as done.
    pub(crate) fn take(&self, point: Point<'_>) -> Option<Fault> {
        let mut memory = self.lock();
        let mut fitting = memory.faults.iter_mut().filter(|active| active.fault.fits(point));
        fitting.find_map(|active| active.take().then(|| active.fault.clone()))
    }

    /// A request has come.
    pub(crate) fn count(&self, act: &str, deployment: &str) {
        let mut memory = self.lock();
        *memory.requests.entry(act.to_owned()).or_default() += 1;
        let has_room = memory.by_deployment.len() < COUNTED_LIMIT || memory.by_deployment.contains_key(deployment);
        if has_room && !deployment.is_empty() {
            *memory.by_deployment.entry(deployment.to_owned()).or_default().entry(act.to_owned()).or_default() += 1;
        }
    }

    /// Add faults behind those that there are; none is added where one can never happen.
    pub(crate) fn add(&self, faults: Vec<Fault>) -> Result<(), String> {
        faults.iter().try_for_each(Fault::check)?;
        let mut memory = self.lock();
        if memory.faults.len() + faults.len() > FAULTS_LIMIT {
            return Err(format!("no more than {FAULTS_LIMIT} faults at a time"));
        }
        memory.faults.extend(faults.into_iter().map(|fault| Active { fault, seen: 0 }));
        Ok(())
    }

    /// Have exactly these faults; nothing changes where one can never happen.
    pub(crate) fn replace(&self, faults: Vec<Fault>) -> Result<(), String> {
        faults.iter().try_for_each(Fault::check)?;
        self.lock().faults.clear();
        self.add(faults)
    }

    /// No fault, and nothing counted.
    pub(crate) fn clear(&self) {
        *self.lock() = Memory::default();
    }

    /// Everything, with the requests about one deployment or about all.
    pub(crate) fn show(&self, deployment: Option<&str>) -> Value {
        let memory = self.lock();
        let none = BTreeMap::new();
        let requests = match deployment {
            None => &memory.requests,
            Some(name) => memory.by_deployment.get(name).unwrap_or(&none),
        };
        let faults = memory.faults.iter().map(|active| json!({"fault": active.fault, "seen": active.seen}));
        json!({"faults": faults.collect::<Vec<_>>(), "requests": requests})
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: Value) -> Faults {
        let faults = Faults::default();
        faults.replace(serde_json::from_value(json).unwrap()).unwrap();
        faults
    }

    fn deploy(deployment: &str) -> Point<'_> {
        Point { act: "deploy", deployment, instance: None }
    }

    #[test]
    fn a_fault_spares_the_first_acts_and_is_used_up() {
        let faults = faults(json!([{"act": "deploy", "fault": "fail", "deployment": "a_*", "after": 1, "count": 2}]));

        let taken: Vec<bool> = (0..4).map(|_| faults.take(deploy("a_1")).is_some()).collect();

        assert_eq!(taken, [false, true, true, false]);
        assert!(faults.take(deploy("b_1")).is_none());
        assert_eq!(faults.show(None)["faults"][0]["seen"], 4);
    }

    #[test]
    fn the_first_fault_that_fits_is_taken() {
        let faults = faults(json!([
            {"act": "create_vm", "fault": "fail", "instance": 1, "count": 1},
            {"act": "create_vm", "latency_ms": 5},
        ]));
        let point = |index| Point { act: "create_vm", deployment: "d", instance: Some(index) };

        let kinds = [0, 1, 1].map(|index| faults.take(point(index)).unwrap().fault);

        assert_eq!(kinds, [Kind::Delay, Kind::Fail, Kind::Delay]);
    }

    #[test]
    fn what_can_never_happen_is_refused() {
        let table = [
            (json!({"act": "dpeloy"}), "there is no 'dpeloy'"),
            (json!({"act": "deploy", "fault": "exit"}), "'deploy' can have delay, queue, fail"),
            (json!({"act": "GET /tasks", "fault": "answer", "status": 99}), "from 200 to 599"),
        ];
        for (json, expected) in table {
            let fault: Fault = serde_json::from_value(json.clone()).unwrap();
            let refusal = Faults::default().add(vec![fault]).unwrap_err();
            assert!(refusal.contains(expected), "{json}: {refusal}");
        }
        assert!(serde_json::from_value::<Fault>(json!({"act": "deploy", "fualt": "fail"})).is_err());
    }

    #[test]
    fn requests_are_counted_by_deployment_and_in_sum() {
        let faults = Faults::default();
        for deployment in ["a", "b", ""] {
            faults.count("GET /tasks", deployment);
        }

        assert_eq!(faults.show(None)["requests"], json!({"GET /tasks": 3}));
        assert_eq!(faults.show(Some("a"))["requests"], json!({"GET /tasks": 1}));
        assert_eq!(faults.show(Some("c"))["requests"], json!({}));
    }
}
