//! May this request be accepted? Pure: the request, the catalog and what is known, in; a verdict, out.
//!
//! The order of the checks is the same everywhere: ids of the catalog, readiness for an asynchronous answer, existence
//! and conflict, parameters, quotas. (Authentication, version and syntax come before, in `http`.)
//!
//! Two requests are the same when service, plan, organization, space and parameters are equal as JSON values; absent
//! parameters are `{}`; the context is not compared, because names in it change.

pub(crate) mod bind_parameters;
mod known;
pub(crate) mod parameters;
mod quota;
mod rotation;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
mod update;

use broker::osb::{BindRequest, Object, ProvisionRequest, WantedMaintenance};
use serde_json::json;

use crate::catalog::{Catalog, Plan};
use crate::ids::OperationId;
use bind_parameters::BindParameters;
pub(crate) use known::{Attributes, Condition, Known, Standing};
use parameters::Parameters;
pub(crate) use quota::{Move, Usage};
pub(crate) use update::{Change, Target, update};

/// How many complaints a user is told at once.
const COMPLAINTS_LIMIT: usize = 10;

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission<New, Same> {
    /// Something is to be done.
    New(New),
    /// It is being done, or was done, already.
    Same(Same),
    Denied(Denial),
}

/// Why not. Users read the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    Invalid(String),
    AsyncRequired,
    Concurrency,
    MaintenanceInfoConflict,
    /// The instance cannot become what is asked for, or not from where it stands.
    Unsupported(String),
    NotFound(String),
    Conflict(String),
    Gone,
}

/// A binding that the state database knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KnownBinding {
    pub(crate) attributes: BindingAttributes,
    pub(crate) progress: BindingProgress,
    /// Another request works on it now.
    pub(crate) is_claimed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingProgress {
    Creating,
    Created,
    Deleting,
}

/// What makes a binding the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BindingAttributes {
    pub(crate) service_id: String,
    pub(crate) plan_id: String,
    /// Application, resource, parameters, and the predecessor of a binding that has one.
    pub(crate) rest: serde_json::Value,
}

/// The binding exists, or a broker died while it made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingStanding {
    Unfinished,
    Done,
}

/// Which service and plan a request without a body names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
    pub(crate) service_id: &'a str,
    pub(crate) plan_id: &'a str,
}

impl BindingAttributes {
    pub(crate) fn of(request: &BindRequest) -> BindingAttributes {
        let rest = json!({
            "app_guid": request.app_guid,
            "bind_resource": request.bind_resource.clone().unwrap_or_default(),
            "parameters": request.parameters.clone().unwrap_or_default(),
        });
        let id = |given: &Option<String>| given.clone().unwrap_or_default();
        BindingAttributes { service_id: id(&request.service_id), plan_id: id(&request.plan_id), rest }
    }

    /// The user's configuration; empty for none.
    pub(crate) fn parameters(&self) -> Object {
        self.rest["parameters"].as_object().cloned().unwrap_or_default()
    }
}

/// `PUT` of a service instance.
pub(crate) fn provision(
    catalog: &Catalog,
    usage: &Usage,
    request: &ProvisionRequest,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Admission<(), Standing> {
    match check_provision(catalog, usage, request, accepts_incomplete, known) {
        Ok(None) => Admission::New(()),
        Ok(Some(standing)) => Admission::Same(standing),
        Err(denial) => Admission::Denied(denial),
    }
}

/// `DELETE` of a service instance. New names the creation or update that never came to a good end, which is halted; Same
/// is the deletion that runs already.
pub(crate) fn deprovision(
    offer: Offer<'_>,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Admission<Option<OperationId>, OperationId> {
    if !accepts_incomplete {
        return Admission::Denied(Denial::AsyncRequired);
    }
    let Some(known) = known else { return Admission::Denied(Denial::Gone) };
    if known.condition == Condition::Deleted {
        return Admission::Denied(Denial::Gone);
    }
    if let Err(denial) = check_recorded(offer, known) {
        return Admission::Denied(denial);
    }
    match known.condition {
        // What failed at its deadline may have left a task that still runs.
        Condition::Creating | Condition::CreateFailed | Condition::UpdateFailed => {
            Admission::New(Some(known.operation.clone()))
        }
        Condition::Ready => Admission::New(None),
        // It may have failed before it came to cancel that one's task.
        Condition::DeleteFailed => Admission::New(known.halts.clone()),
        Condition::Updating => Admission::Denied(Denial::Concurrency),
        Condition::Deleting => Admission::Same(known.operation.clone()),
        Condition::Deleted => Admission::Denied(Denial::Gone),
    }
}

/// `PUT` of a binding. New says what it is to be.
pub(crate) fn bind(
    catalog: &Catalog,
    request: &BindRequest,
    instance: Option<&Known>,
    binding: Option<&KnownBinding>,
    predecessor: Option<&KnownBinding>,
) -> Admission<BindingAttributes, BindingStanding> {
    let verdict = rotation::wanted(request, instance, binding, predecessor).and_then(|wanted| {
        let standing = check_bind(catalog, &wanted, instance, binding)?;
        Ok(standing.map_or(Admission::New(wanted), Admission::Same))
    });
    verdict.unwrap_or_else(Admission::Denied)
}

/// `DELETE` of a binding. It is always new: a repeated one finishes what the first one left.
pub(crate) fn unbind(
    offer: Offer<'_>,
    instance: Option<&Known>,
    binding: Option<&KnownBinding>,
) -> Admission<(), std::convert::Infallible> {
    let (Some(instance), Some(binding)) = (instance, binding) else { return Admission::Denied(Denial::Gone) };
    if instance.condition == Condition::Deleted {
        return Admission::Denied(Denial::Gone);
    }
    // After a change of plan a platform may name either plan.
    let recorded = &binding.attributes;
    let plans = [recorded.plan_id.as_str(), instance.attributes.plan_id.as_str()];
    if offer.service_id != recorded.service_id || !plans.contains(&offer.plan_id) {
        return Admission::Denied(Denial::Invalid("service_id or plan_id is not the one of this binding".into()));
    }
    let is_busy = matches!(instance.condition, Condition::Creating | Condition::Updating | Condition::Deleting);
    if is_busy || binding.is_claimed { Admission::Denied(Denial::Concurrency) } else { Admission::New(()) }
}

fn check_provision(
    catalog: &Catalog,
    usage: &Usage,
    request: &ProvisionRequest,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Result<Option<Standing>, Denial> {
    let plan = check_catalog(catalog, &request.service_id, &request.plan_id);
    // A plan may leave the catalog while a platform repeats its request.
    if known.is_none_or(|known| known.attributes != Attributes::of(request)) {
        plan.clone()?;
    }
    for (name, value) in [("organization_guid", &request.organization_guid), ("space_guid", &request.space_guid)] {
        if value.is_empty() {
            return Err(Denial::Invalid(format!("{name} must not be empty")));
        }
    }
    if !accepts_incomplete {
        return Err(Denial::AsyncRequired);
    }
    if let Some(standing) = known.map(|known| check_existing(known, request)).transpose()?.flatten() {
        return Ok(Some(standing));
    }
    let plan = plan?;
    check_maintenance(Some(plan), request.maintenance_info.as_ref())?;
    request.parameters.as_ref().map_or(Ok(()), |given| check_parameters(plan, given))?;
    quota::check(catalog, usage, &request.service_id, plan, None)?;
    Ok(None)
}

fn check_parameters(plan: &Plan, given: &Object) -> Result<(), Denial> {
    let asked = Parameters::parse(plan.deployment.topology, given).map_err(|complaints| invalid(&complaints))?;
    let checked = asked.replication_mode.map_or(Ok(()), |mode| plan.deployment.check_mode(mode));
    checked.map_err(|why| invalid(&[format!("this plan's {why}")]))
}

/// Nothing where the id is free.
fn check_existing(known: &Known, request: &ProvisionRequest) -> Result<Option<Standing>, Denial> {
    let is_same = known.attributes == Attributes::of(request);
    match known.condition {
        Condition::Deleted => Ok(None),
        Condition::Updating | Condition::Deleting => Err(Denial::Concurrency),
        Condition::Creating if is_same => Ok(Some(Standing::InProgress(known.operation.clone()))),
        Condition::Ready | Condition::UpdateFailed if is_same => Ok(Some(Standing::Done)),
        Condition::Creating | Condition::Ready | Condition::UpdateFailed => {
            Err(Denial::Conflict("a service instance with this id and other attributes exists".into()))
        }
        Condition::CreateFailed | Condition::DeleteFailed => Err(Denial::Conflict(
            "a service instance with this id exists, but its last operation failed: delete it first".into(),
        )),
    }
}

fn check_bind(
    catalog: &Catalog,
    wanted: &BindingAttributes,
    instance: Option<&Known>,
    binding: Option<&KnownBinding>,
) -> Result<Option<BindingStanding>, Denial> {
    let offer = Offer { service_id: &wanted.service_id, plan_id: &wanted.plan_id };
    let not_found = || Denial::NotFound("instance does not exist".into());
    if instance.is_none() {
        check_catalog(catalog, offer.service_id, offer.plan_id)?;
    }
    let instance = instance.ok_or_else(not_found)?;
    match instance.condition {
        Condition::Deleted => return Err(not_found()),
        Condition::Creating | Condition::Updating | Condition::Deleting => return Err(Denial::Concurrency),
        Condition::CreateFailed | Condition::DeleteFailed => {
            let text = "the last operation on this service instance failed, so it cannot be bound: delete it";
            return Err(Denial::Invalid(text.into()));
        }
        // Where a failed update has left no leader, the binding finds none.
        Condition::Ready | Condition::UpdateFailed => {}
    }
    let of_instance = check_recorded(offer, instance);
    match binding {
        Some(binding) if is_same_binding(&binding.attributes, wanted, instance) => check_progress(binding).map(Some),
        Some(_) => {
            of_instance.or_else(|_| check_catalog(catalog, offer.service_id, offer.plan_id).map(drop))?;
            Err(Denial::Conflict("a binding with this id and other attributes exists".into()))
        }
        None => {
            of_instance?;
            let checked = BindParameters::parse(&wanted.parameters());
            checked.map(|_| None).map_err(|complaints| invalid(&complaints))
        }
    }
}

/// After a change of plan a platform may name the plan that the binding was made with, or the present one.
fn is_same_binding(made: &BindingAttributes, wanted: &BindingAttributes, instance: &Known) -> bool {
    let is_same_plan = made.plan_id == wanted.plan_id || instance.attributes.plan_id == wanted.plan_id;
    is_same_plan && made.service_id == wanted.service_id && made.rest == wanted.rest
}

fn check_progress(binding: &KnownBinding) -> Result<BindingStanding, Denial> {
    match binding.progress {
        BindingProgress::Created => Ok(BindingStanding::Done),
        BindingProgress::Creating if !binding.is_claimed => Ok(BindingStanding::Unfinished),
        BindingProgress::Creating | BindingProgress::Deleting => Err(Denial::Concurrency),
    }
}

fn check_catalog<'a>(catalog: &'a Catalog, service_id: &str, plan_id: &str) -> Result<&'a Plan, Denial> {
    let service = catalog.service(service_id);
    let service = service.ok_or_else(|| Denial::Invalid("service_id is not in the catalog".into()))?;
    service.plan(plan_id).ok_or_else(|| {
        Denial::Invalid(format!("plan_id is not a plan of the service offering `{}` in the catalog", service.name))
    })
}

/// Whether a version is asked for. One that a platform read in an older catalog is not what it would get.
fn check_maintenance(plan: Option<&Plan>, given: Option<&WantedMaintenance>) -> Result<bool, Denial> {
    match given.and_then(|info| info.version.as_deref()) {
        None => Ok(false),
        Some(version) if plan.and_then(Plan::maintenance_version) == Some(version) => Ok(true),
        Some(_) => Err(Denial::MaintenanceInfoConflict),
    }
}

/// The ids recorded with the instance count, also after the catalog has dropped them.
fn check_recorded(offer: Offer<'_>, known: &Known) -> Result<(), Denial> {
    let Attributes { service_id, plan_id, .. } = &known.attributes;
    for (name, given, recorded) in [("service_id", offer.service_id, service_id), ("plan_id", offer.plan_id, plan_id)] {
        if given != recorded {
            return Err(Denial::Invalid(format!("{name} is not the one of this service instance")));
        }
    }
    Ok(())
}

/// All complaints come together, as far as anybody reads.
fn invalid(complaints: &[String]) -> Denial {
    let mut lines: String =
        complaints.iter().take(COMPLAINTS_LIMIT).map(|complaint| format!("\n    * {complaint}")).collect();
    if complaints.len() > COMPLAINTS_LIMIT {
        lines += "\n    * and more";
    }
    match complaints.len() {
        1 => Denial::Invalid(format!("1 error occurred:{lines}")),
        count => Denial::Invalid(format!("{count} errors occurred:{lines}")),
    }
}
