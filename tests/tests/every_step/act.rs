//! What a platform asks for in the life of a service instance, and what there has to be afterwards.

use anyhow::Result;
use serde_json::json;
use tests::broker::{Answer, Broker, DB_LEADER_FOLLOWER, DB_SINGLE, new_id};

/// What a platform asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Create,
    Bind,
    /// An update of a parameter.
    Configure,
    /// An update to a new version of the plan.
    Upgrade,
    /// A pair becomes one server.
    Shrink,
    /// And a pair again.
    Grow,
    Unbind,
    Delete,
}

/// Everything that can happen to a service instance, and what there is afterwards.
pub(crate) const LIFE: [(Act, After); 8] = [
    (Act::Create, After { servers: 2, bindings: 0, operations: 1, deployed: 1, configured: 1 }),
    (Act::Bind, After { servers: 2, bindings: 1, operations: 1, deployed: 1, configured: 1 }),
    (Act::Configure, After { servers: 2, bindings: 1, operations: 2, deployed: 2, configured: 2 }),
    (Act::Upgrade, After { servers: 2, bindings: 1, operations: 3, deployed: 3, configured: 3 }),
    (Act::Shrink, After { servers: 1, bindings: 1, operations: 4, deployed: 4, configured: 3 }),
    (Act::Grow, After { servers: 2, bindings: 1, operations: 5, deployed: 5, configured: 4 }),
    (Act::Unbind, After { servers: 2, bindings: 0, operations: 5, deployed: 5, configured: 4 }),
    (Act::Delete, After { servers: 0, bindings: 0, operations: 6, deployed: 5, configured: 4 }),
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    pub(crate) servers: usize,
    pub(crate) bindings: usize,
    pub(crate) operations: i64,
    /// How often the director has made the deployment what a manifest says.
    pub(crate) deployed: usize,
    /// How often the errand has run that configures a pair.
    pub(crate) configured: usize,
}

/// What the requests of a life are about.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) instance: String,
    pub(crate) binding: String,
    pub(crate) version: String,
}

impl Names {
    pub(crate) fn new(number: usize) -> Names {
        Names { instance: new_id(), binding: new_id(), version: format!("1.1.{number}") }
    }

    pub(crate) async fn ask(&self, broker: &Broker, act: Act) -> Result<Answer> {
        let Names { instance, binding, version } = self;
        match act {
            Act::Create => broker.provision(instance, DB_LEADER_FOLLOWER).await,
            Act::Bind => broker.bind(instance, DB_LEADER_FOLLOWER, binding).await,
            Act::Configure => broker.update(instance, &json!({"parameters": {"workload": "read-heavy"}})).await,
            Act::Upgrade => broker.update(instance, &json!({"maintenance_info": {"version": version}})).await,
            Act::Shrink => broker.update(instance, &json!({"plan_id": DB_SINGLE})).await,
            Act::Grow => broker.update(instance, &json!({"plan_id": DB_LEADER_FOLLOWER})).await,
            Act::Unbind => broker.unbind(instance, DB_LEADER_FOLLOWER, binding).await,
            Act::Delete => broker.deprovision(instance, DB_LEADER_FOLLOWER).await,
        }
    }
}

impl Act {
    pub(crate) fn is_synchronous(self) -> bool {
        matches!(self, Act::Bind | Act::Unbind)
    }

    /// What the first request is answered, and what one that comes again may be.
    pub(crate) fn answers(self) -> (u16, [u16; 2]) {
        match self {
            Act::Create | Act::Configure | Act::Upgrade | Act::Shrink | Act::Grow => (202, [202, 200]),
            Act::Bind => (201, [201, 200]),
            Act::Unbind => (200, [200, 410]),
            Act::Delete => (202, [202, 410]),
        }
    }
}
