//! `PATCH` of a service instance: what would it become, and can it?
//!
//! Only what is named changes. A plan that is absent stays; parameters are merged over the present ones, and `null` gives
//! one of them back to the plan. Cloud Controller names the present plan and `{}` in every request, which is no change. What
//! the user has set and the new plan's topology does not know is left behind.
//!
//! After a failed update the servers may be what is recorded, what was attempted, or anything between. So every request
//! that names more than a context works on them again, and what it asks for must be possible from both.

use std::collections::BTreeSet;

use broker::osb::{Object, UpdateRequest};
use serde_json::Value;

use super::parameters::{Parameters, check_lasting, not_an_option};
use super::{
    Admission, Attributes, Condition, Denial, Known, Standing, check_catalog, check_maintenance, check_parameters,
    invalid, quota, quota::Usage,
};
use crate::catalog::{Catalog, Deployment, Plan, Topology};
use crate::ids::OperationId;

/// What an update makes of an instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) plan_id: String,
    pub(crate) parameters: Object,
    pub(crate) maintenance_version: Option<String>,
    /// A pair becomes one server, and the leader must be the one that stays.
    pub(crate) keeps_leader: bool,
}

impl Target {
    fn is_as(&self, plan_id: &str, parameters: &Object) -> bool {
        self.plan_id == plan_id && self.parameters == *parameters
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) target: Target,
    /// The failed update whose requests may still be under way.
    pub(crate) halts: Option<OperationId>,
}

/// `PATCH` of a service instance. `Done` where nothing is to be done but to keep the context.
pub(crate) fn update(
    catalog: &Catalog,
    usage: &Usage,
    request: &UpdateRequest,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Admission<Change, Standing> {
    check(catalog, usage, request, accepts_incomplete, known).unwrap_or_else(Admission::Denied)
}

fn check(
    catalog: &Catalog,
    usage: &Usage,
    request: &UpdateRequest,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Result<Admission<Change, Standing>, Denial> {
    let known = known.filter(|known| known.condition != Condition::Deleted);
    check_offer(catalog, request, known)?;
    let is_context_only =
        request.plan_id.is_none() && request.parameters.is_none() && request.maintenance_info.is_none();
    if !accepts_incomplete && !is_context_only {
        return Err(Denial::AsyncRequired);
    }
    let known = known.ok_or_else(|| Denial::NotFound("instance does not exist".into()))?;
    check_condition(known.condition)?;
    let target = target(catalog, request, known)?;
    if known.condition == Condition::Updating {
        let is_same = known.target.as_ref().is_some_and(|wanted| wanted.is_as(&target.plan_id, &target.parameters));
        let same = || Admission::Same(Standing::InProgress(known.operation.clone()));
        return is_same.then(same).ok_or(Denial::Concurrency);
    }
    let plan = find(catalog, known, &target.plan_id);
    let names_version = check_maintenance(plan, request.maintenance_info.as_ref())?;
    let is_upgrade = names_version && target.maintenance_version != known.maintenance_version;
    let is_as_recorded = target.is_as(&known.attributes.plan_id, &known.attributes.parameters) && !is_upgrade;
    let has_failed = known.condition == Condition::UpdateFailed;
    if is_as_recorded && (is_context_only || !has_failed) {
        return Ok(Admission::Same(Standing::Done));
    }
    check_target(catalog, usage, known, &target)?;
    Ok(Admission::New(Change { target, halts: has_failed.then(|| known.operation.clone()) }))
}

/// The ids recorded with the instance count, also after the catalog has dropped them.
fn check_offer(catalog: &Catalog, request: &UpdateRequest, known: Option<&Known>) -> Result<(), Denial> {
    let recorded = known.map(|known| &known.attributes);
    if recorded.is_some_and(|recorded| recorded.service_id != request.service_id) {
        return Err(Denial::Invalid("service_id is not the one of this service instance".into()));
    }
    match &request.plan_id {
        Some(plan_id) if recorded.is_none_or(|recorded| recorded.plan_id != *plan_id) => {
            check_catalog(catalog, &request.service_id, plan_id).map(drop)
        }
        None if recorded.is_none() && catalog.service(&request.service_id).is_none() => {
            Err(Denial::Invalid("service_id is not in the catalog".into()))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_condition(condition: Condition) -> Result<(), Denial> {
    match condition {
        Condition::Creating | Condition::Deleting => Err(Denial::Concurrency),
        Condition::CreateFailed | Condition::DeleteFailed | Condition::Deleted => Err(Denial::Unsupported(
            "the creation or deletion of this service instance failed, so it cannot be updated: delete it".into(),
        )),
        Condition::Ready | Condition::Updating | Condition::UpdateFailed => Ok(()),
    }
}

fn target(catalog: &Catalog, request: &UpdateRequest, known: &Known) -> Result<Target, Denial> {
    let recorded = &known.attributes;
    let plan_id = request.plan_id.clone().unwrap_or_else(|| recorded.plan_id.clone());
    let given = request.parameters.as_ref();
    let Some(plan) = find(catalog, known, &plan_id) else {
        // There is nothing to compare with; and where something is to be done, the check of the target says why not.
        let parameters = given.filter(|given| !given.is_empty()).unwrap_or(&recorded.parameters).clone();
        return Ok(Target { plan_id, parameters, maintenance_version: None, keeps_leader: false });
    };
    let topology = plan.deployment.topology;
    let parameters = merge(topology, &recorded.parameters, given)?;
    let was_pair = find(catalog, known, &recorded.plan_id).is_some_and(|plan| plan.deployment.topology.is_pair());
    let may_be_pair = was_pair || known.condition == Condition::UpdateFailed;
    // Whatever is changed, the machines get what the manifests say now.
    let maintenance_version = plan.maintenance_version().map(str::to_owned);
    Ok(Target { plan_id, parameters, maintenance_version, keeps_leader: may_be_pair && !topology.is_pair() })
}

fn merge(topology: Topology, recorded: &Object, given: Option<&Object>) -> Result<Object, Denial> {
    let mut merged: Object = recorded.clone();
    merged.retain(|name, value| is_option(topology, name, value));
    let mut complaints = Vec::new();
    for (name, value) in given.into_iter().flatten() {
        match value {
            Value::Null if is_option(topology, name, value) => drop(merged.remove(name)),
            Value::Null => complaints.push(not_an_option(name)),
            _ => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    if complaints.is_empty() { Ok(merged) } else { Err(invalid(&complaints)) }
}

/// Whatever its value.
fn is_option(topology: Topology, name: &str, value: &Value) -> bool {
    let alone: Object = [(name.to_owned(), value.clone())].into_iter().collect();
    Parameters::parse(topology, &alone).map_or_else(|complaints| complaints != [not_an_option(name)], |_| true)
}

fn check_target(catalog: &Catalog, usage: &Usage, known: &Known, target: &Target) -> Result<(), Denial> {
    let gone = || {
        let why = "the present plan is not in the catalog any more, so it is not known what a change would do";
        Denial::Unsupported(why.into())
    };
    let plan = find(catalog, known, &target.plan_id).ok_or_else(gone)?;
    let leaves = find(catalog, known, &known.attributes.plan_id).filter(|present| present.id != plan.id);
    let service = catalog.service(&known.attributes.service_id);
    if service.zip(leaves).is_some_and(|(service, present)| !service.may_leave(present)) {
        return Err(Denial::Unsupported("an instance of the present plan cannot change to another plan".into()));
    }
    for origin in origins(known) {
        let from = find(catalog, known, origin).ok_or_else(gone)?;
        check_change(&from.deployment, &plan.deployment).map_err(|why| {
            Denial::Unsupported(format!("the plan cannot be changed from {} to {}: {why}", from.name, plan.name))
        })?;
    }
    check_parameters(plan, &target.parameters)?;
    check_lasting(&known.attributes.parameters, &target.parameters).map_err(|why| invalid(&[why]))?;
    let Attributes { service_id, plan_id, .. } = &known.attributes;
    quota::check(catalog, usage, service_id, plan, Some(plan_id))
}

/// The plans by which the servers may be what they are.
fn origins(known: &Known) -> impl Iterator<Item = &str> {
    let attempted = known.target.as_ref().map(|target| target.plan_id.as_str());
    [Some(known.attributes.plan_id.as_str()), attempted].into_iter().flatten()
}

fn find<'a>(catalog: &'a Catalog, known: &Known, plan_id: &str) -> Option<&'a Plan> {
    catalog.service(&known.attributes.service_id).and_then(|service| service.plan(plan_id))
}

/// Whether servers of one plan can become those of the other with their data.
fn check_change(from: &Deployment, to: &Deployment) -> Result<(), String> {
    let azs: BTreeSet<&String> = to.azs.iter().collect();
    if let Some(az) = from.azs.iter().find(|az| !azs.contains(az)) {
        return Err(format!("the new plan has no availability zone {az}, and a disk cannot leave its zone"));
    }
    if from.topology.is_pair() && !to.topology.is_pair() && from.azs.len() < 2 {
        return Err("both servers are in one availability zone, so it cannot be chosen that the leader stays".into());
    }
    if from.server != to.server {
        return Err("the plans have servers of different families, which do not read each other's data".into());
    }
    check_disk(from, to)
}

fn check_disk(from: &Deployment, to: &Deployment) -> Result<(), String> {
    if from.disk_type == to.disk_type {
        return Ok(());
    }
    match (from.disk_size_in_mb, to.disk_size_in_mb) {
        (Some(old), Some(new)) if new >= old => Ok(()),
        (Some(old), Some(new)) => Err(format!("the disk would shrink from {old} MB to {new} MB")),
        (None, _) | (_, None) => Err("the disk might shrink: the catalog does not say how large the disks are".into()),
    }
}
