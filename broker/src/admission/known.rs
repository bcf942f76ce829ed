//! What the state database knows of a service instance.

use broker::osb::{Object, ProvisionRequest};

use super::Target;
use crate::ids::OperationId;

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
    /// The version of the plan that it has; none where a program before this one made it.
    pub(crate) maintenance_version: Option<String>,
    /// The newest operation.
    pub(crate) operation: OperationId,
    /// The operation without a good end that the newest one halts.
    pub(crate) halts: Option<OperationId>,
    /// What the newest operation, an update, wants.
    pub(crate) target: Option<Target>,
    pub(crate) condition: Condition,
}

/// Where a service instance stands: the kind and the state of its newest operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Creating,
    CreateFailed,
    Ready,
    Updating,
    UpdateFailed,
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
