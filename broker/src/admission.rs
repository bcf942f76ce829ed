//! May this request be accepted? Pure: the request, the catalog and what is known, in; a verdict, out.
//!
//! The order of the checks is the same everywhere: ids of the catalog, readiness for an asynchronous answer, existence
//! and conflict, parameters. (Authentication, version and syntax come before, in `http`.)
//!
//! Two requests are the same when service, plan, organization, space and parameters are equal as JSON values; absent
//! parameters are `{}`; the context is not compared, because names in it change.

pub(crate) mod parameters;
#[cfg(test)]
mod tests;

use broker::osb::{BindRequest, Object, ProvisionRequest};
use serde_json::json;

use crate::catalog::{Catalog, Plan};
use crate::ids::OperationId;
use parameters::{Parameters, not_an_option};

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
    NotFound(String),
    Conflict(String),
    Gone,
}

/// What makes a service instance the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) service_id: String,
    pub(crate) plan_id: String,
    pub(crate) organization_guid: String,
    pub(crate) space_guid: String,
    pub(crate) parameters: Object,
}

/// A service instance that the state database knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) attributes: Attributes,
    /// The newest operation.
    pub(crate) operation: OperationId,
    /// The creation that the newest operation, a deletion, halts.
    pub(crate) halts: Option<OperationId>,
    pub(crate) condition: Condition,
}

/// Where a service instance stands: the kind and the state of its newest operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Creating,
    CreateFailed,
    Ready,
    Deleting,
    DeleteFailed,
    Deleted,
}

/// The instance exists, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    InProgress(OperationId),
    Done,
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
    /// Application, resource and parameters.
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

impl Attributes {
    pub(crate) fn of(request: &ProvisionRequest) -> Attributes {
        Attributes {
            service_id: request.service_id.clone(),
            plan_id: request.plan_id.clone(),
            organization_guid: request.organization_guid.clone(),
            space_guid: request.space_guid.clone(),
            parameters: request.parameters.clone().unwrap_or_default(),
        }
    }
}

impl BindingAttributes {
    pub(crate) fn of(request: &BindRequest) -> BindingAttributes {
        let rest = json!({
            "app_guid": request.app_guid,
            "bind_resource": request.bind_resource.clone().unwrap_or_default(),
            "parameters": request.parameters.clone().unwrap_or_default(),
        });
        BindingAttributes { service_id: request.service_id.clone(), plan_id: request.plan_id.clone(), rest }
    }
}

/// `PUT` of a service instance.
pub(crate) fn provision(
    catalog: &Catalog,
    request: &ProvisionRequest,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Admission<(), Standing> {
    match check_provision(catalog, request, accepts_incomplete, known) {
        Ok(None) => Admission::New(()),
        Ok(Some(standing)) => Admission::Same(standing),
        Err(denial) => Admission::Denied(denial),
    }
}

/// `DELETE` of a service instance. New names the creation that never came to a good end, which is halted; Same is the
/// deletion that runs already.
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
        // A creation that failed at its deadline may have left a task that still runs.
        Condition::Creating | Condition::CreateFailed => Admission::New(Some(known.operation.clone())),
        Condition::Ready => Admission::New(None),
        // It may have failed before it came to cancel that creation's task.
        Condition::DeleteFailed => Admission::New(known.halts.clone()),
        Condition::Deleting => Admission::Same(known.operation.clone()),
        Condition::Deleted => Admission::Denied(Denial::Gone),
    }
}

/// `PUT` of a binding.
pub(crate) fn bind(
    catalog: &Catalog,
    request: &BindRequest,
    instance: Option<&Known>,
    binding: Option<&KnownBinding>,
) -> Admission<(), BindingStanding> {
    match check_bind(catalog, request, instance, binding) {
        Ok(None) => Admission::New(()),
        Ok(Some(standing)) => Admission::Same(standing),
        Err(denial) => Admission::Denied(denial),
    }
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
    let is_busy = matches!(instance.condition, Condition::Creating | Condition::Deleting);
    if is_busy || binding.is_claimed { Admission::Denied(Denial::Concurrency) } else { Admission::New(()) }
}

fn check_provision(
    catalog: &Catalog,
    request: &ProvisionRequest,
    accepts_incomplete: bool,
    known: Option<&Known>,
) -> Result<Option<Standing>, Denial> {
    let plan = check_catalog(catalog, &request.service_id, &request.plan_id)?;
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
    // No plan has maintenance_info yet, so no version can be the catalog's.
    if request.maintenance_info.as_ref().is_some_and(|info| info.contains_key("version")) {
        return Err(Denial::MaintenanceInfoConflict);
    }
    if let Some(given) = &request.parameters {
        let asked = Parameters::parse(plan.deployment.topology, given).map_err(|complaints| invalid(&complaints))?;
        let checked = asked.replication_mode.map_or(Ok(()), |mode| plan.deployment.check_mode(mode));
        checked.map_err(|why| invalid(&[format!("this plan's {why}")]))?;
    }
    Ok(None)
}

/// Nothing where the id is free.
fn check_existing(known: &Known, request: &ProvisionRequest) -> Result<Option<Standing>, Denial> {
    let is_same = known.attributes == Attributes::of(request);
    match known.condition {
        Condition::Deleted => Ok(None),
        Condition::Deleting => Err(Denial::Concurrency),
        Condition::Creating if is_same => Ok(Some(Standing::InProgress(known.operation.clone()))),
        Condition::Ready if is_same => Ok(Some(Standing::Done)),
        Condition::Creating | Condition::Ready => {
            Err(Denial::Conflict("a service instance with this id and other attributes exists".into()))
        }
        Condition::CreateFailed | Condition::DeleteFailed => Err(Denial::Conflict(
            "a service instance with this id exists, but its last operation failed: delete it first".into(),
        )),
    }
}

fn check_bind(
    catalog: &Catalog,
    request: &BindRequest,
    instance: Option<&Known>,
    binding: Option<&KnownBinding>,
) -> Result<Option<BindingStanding>, Denial> {
    let offer = Offer { service_id: &request.service_id, plan_id: &request.plan_id };
    let not_found = || Denial::NotFound("instance does not exist".into());
    if instance.is_none() {
        check_catalog(catalog, offer.service_id, offer.plan_id)?;
    }
    let instance = instance.ok_or_else(not_found)?;
    match instance.condition {
        Condition::Deleted => return Err(not_found()),
        Condition::Creating | Condition::Deleting => return Err(Denial::Concurrency),
        Condition::CreateFailed | Condition::DeleteFailed => {
            let text = "the last operation on this service instance failed, so it cannot be bound: delete it";
            return Err(Denial::Invalid(text.into()));
        }
        Condition::Ready => check_recorded(offer, instance)?,
    }
    match binding {
        Some(binding) => check_existing_binding(binding, request).map(Some),
        None => check_bind_parameters(request.parameters.as_ref()).map(|()| None),
    }
}

fn check_existing_binding(binding: &KnownBinding, request: &BindRequest) -> Result<BindingStanding, Denial> {
    if binding.attributes != BindingAttributes::of(request) {
        return Err(Denial::Conflict("a binding with this id and other attributes exists".into()));
    }
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

/// A binding has no parameter yet.
fn check_bind_parameters(parameters: Option<&Object>) -> Result<(), Denial> {
    let complaints: Vec<String> = parameters.into_iter().flatten().map(|(name, _)| not_an_option(name)).collect();
    if complaints.is_empty() { Ok(()) } else { Err(invalid(&complaints)) }
}

/// All complaints come together.
fn invalid(complaints: &[String]) -> Denial {
    let lines: String = complaints.iter().map(|complaint| format!("\n    * {complaint}")).collect();
    match complaints.len() {
        1 => Denial::Invalid(format!("1 error occurred:{lines}")),
        count => Denial::Invalid(format!("{count} errors occurred:{lines}")),
    }
}
