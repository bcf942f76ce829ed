//! Is there room for one more instance of a plan? All quotas that there is no room in are named together, in the words of
//! the reference.

use std::collections::HashMap;

use super::Denial;
use crate::catalog::{Catalog, Plan};

/// What is taken: every instance that is not deleted, also one that is only wished for or whose making failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Instances by the plan that is recorded.
    pub(crate) plans: HashMap<String, u64>,
    /// Instances that an update without a good end so far moves to another plan: they may need both.
    pub(crate) moves: Vec<Move>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) instances: u64,
}

/// Room for an instance of `plan`; one that is there already, and is not in `usage`, comes `from` another plan.
pub(super) fn check(
    catalog: &Catalog,
    usage: &Usage,
    service_id: &str,
    plan: &Plan,
    from: Option<&str>,
) -> Result<(), Denial> {
    if from == Some(plan.id.as_str()) {
        return Ok(());
    }
    let mut exceeded = Vec::new();
    let (total, of_plan) = (usage.total(), usage.of_plan(&plan.id));
    // A change of plan leaves the total as it is.
    if from.is_none() && catalog.global_quotas().service_instance_limit.is_some_and(|limit| total >= limit) {
        exceeded.push(format!("global instance limit exceeded for service ID: {service_id}. Total instances: {total}"));
    }
    if plan.quotas.service_instance_limit.is_some_and(|limit| of_plan >= limit) {
        exceeded.push(format!("plan instance limit exceeded for service ID: {service_id}. Total instances: {of_plan}"));
    }
    exceeded.extend(resources("global", global_resources(catalog, usage, plan, from)));
    exceeded.extend(resources("plan", plan_resources(plan, of_plan)));
    if exceeded.is_empty() { Ok(()) } else { Err(Denial::Invalid(exceeded.join(", "))) }
}

/// A resource with a limit.
struct Account<'a> {
    name: &'a str,
    limit: u64,
    used: u64,
    required: u64,
}

fn global_resources<'a>(catalog: &'a Catalog, usage: &Usage, plan: &Plan, from: Option<&str>) -> Vec<Account<'a>> {
    let resources = catalog.global_quotas().resources.iter();
    let limited = resources.filter_map(|(name, resource)| Some((name.as_str(), resource.limit?)));
    let account = |(name, limit)| {
        let before = from.map_or(0, |from| cost(catalog, from, name));
        let required = plan.quotas.cost(name);
        // Who needs no more than before is not held up by those who came meanwhile.
        let required = if required <= before { 0 } else { required };
        Account { name, limit, used: usage.cost(catalog, name), required }
    };
    limited.map(account).collect()
}

fn plan_resources(plan: &Plan, instances: u64) -> Vec<Account<'_>> {
    let limited = plan.quotas.resources.iter().filter_map(|(name, resource)| Some((name.as_str(), resource.limit?)));
    let account = |(name, limit)| {
        let required = plan.quotas.cost(name);
        Account { name, limit, used: instances.saturating_mul(required), required }
    };
    limited.map(account).collect()
}

fn resources(whose: &str, accounts: Vec<Account<'_>>) -> Option<String> {
    let is_exceeded =
        |account: &&Account<'_>| account.required > 0 && account.used.saturating_add(account.required) > account.limit;
    let text = |Account { name, limit, used, required }: &Account<'_>| {
        format!("{name}: (limit {limit}, used {used}, requires {required})")
    };
    let exceeded: Vec<String> = accounts.iter().filter(is_exceeded).map(text).collect();
    let list = exceeded.join(", ");
    (!exceeded.is_empty()).then(|| format!("{whose} quotas [{list}] would be exceeded by this deployment"))
}

impl Usage {
    fn total(&self) -> u64 {
        self.plans.values().sum()
    }

    fn of_plan(&self, plan_id: &str) -> u64 {
        let arriving = self.moves.iter().filter(|moved| moved.to == plan_id).map(|moved| moved.instances);
        self.plans.get(plan_id).copied().unwrap_or(0) + arriving.sum::<u64>()
    }

    fn cost(&self, catalog: &Catalog, resource: &str) -> u64 {
        let of = |plan_id: &str, instances: u64| cost(catalog, plan_id, resource).saturating_mul(instances);
        let recorded = self.plans.iter().map(|(plan_id, instances)| of(plan_id, *instances));
        let more = |moved: &Move| of(&moved.to, moved.instances).saturating_sub(of(&moved.from, moved.instances));
        recorded.chain(self.moves.iter().map(more)).fold(0, u64::saturating_add)
    }
}

/// A plan that left the catalog costs nothing that anybody knows of.
fn cost(catalog: &Catalog, plan_id: &str, resource: &str) -> u64 {
    catalog.plans().find(|plan| plan.id == plan_id).map_or(0, |plan| plan.quotas.cost(resource))
}
