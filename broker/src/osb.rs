//! The words of the Open Service Broker API, version 2.17, as far as this broker speaks them. Members that a platform may
//! add are ignored, as the specification demands; members that are optional and absent are left out of answers, because
//! Cloud Controller refuses `null`.
//!
//! | method and path below `/v2` | body | answer |
//! | --- | --- | --- |
//! | `GET catalog` | | 200 [`Catalog`] |
//! | `PUT service_instances/:id?accepts_incomplete=true` | [`ProvisionRequest`] | 202 [`Accepted`]; 200 [`Empty`] where it exists already |
//! | `PATCH service_instances/:id?accepts_incomplete=true` | [`UpdateRequest`] | 202 [`Accepted`]; 200 [`Empty`] where nothing is to be done |
//! | `GET service_instances/:id` | | 200 [`ServiceInstance`]; 422 while it is updated |
//! | `DELETE service_instances/:id?accepts_incomplete=true&service_id=&plan_id=` | | 202 [`Accepted`]; 410 where there is none |
//! | `GET service_instances/:id/last_operation?operation=` | | 200 [`LastOperation`]; 410 after a finished deletion |
//! | `PUT service_instances/:id/service_bindings/:id` | [`BindRequest`] | 201 [`Binding`]; 200 where it exists already |
//! | `GET service_instances/:id/service_bindings/:id` | | 200 [`Binding`] |
//! | `GET service_instances/:id/service_bindings/:id/last_operation` | | 200 [`LastOperation`] |
//! | `DELETE service_instances/:id/service_bindings/:id?service_id=&plan_id=` | | 200 [`Empty`]; 410 where there is none |
//!
//! Everything else is a [`Problem`].

mod catalog;
mod credentials;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use catalog::{BindingSchemas, Catalog, InputSchema, InstanceSchemas, MaintenanceInfo, Plan, Schemas, Service};
pub use credentials::Credentials;

/// The header that names the version of the interface: `2.N`.
pub const VERSION_HEADER: &str = "x-broker-api-version";
/// The header whose value every answer repeats.
pub const REQUEST_IDENTITY_HEADER: &str = "x-broker-api-request-identity";
/// The header that says for whom a platform acts: the platform's name, and a JSON object in base64.
pub const ORIGINATING_IDENTITY_HEADER: &str = "x-broker-api-originating-identity";
/// The description that goes with `AsyncRequired`; the Kubernetes client compares the text.
pub const ASYNC_REQUIRED: &str = "This service plan requires client support for asynchronous service operations.";
/// The description that goes with `ConcurrencyError`; the Kubernetes client compares the text.
pub const CONCURRENCY_ERROR: &str =
    "The Service Broker does not support concurrent requests that mutate the same resource.";

/// A JSON object whose members are the platform's business.
pub type Object = Map<String, Value>;

/// The version of a plan that a platform wants. What else it says of it is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedMaintenance {
    /// As the catalog writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The body of `PUT /v2/service_instances/:id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionRequest {
    /// The id of the service offering.
    pub service_id: String,
    /// The id of the plan.
    pub plan_id: String,
    /// The organization, in Cloud Foundry's words.
    pub organization_guid: String,
    /// The space.
    pub space_guid: String,
    /// What the platform knows about the user's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Object>,
    /// The user's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Object>,
    /// The version of the plan that the platform wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<WantedMaintenance>,
}

/// The body of `PATCH /v2/service_instances/:id`. What is absent or null stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The id of the service offering, which never changes.
    pub service_id: String,
    /// The id of the plan that the instance gets, or has already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// What the platform knows about the user's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Object>,
    /// What changes in the user's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Object>,
    /// The version of the plan that the platform wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<WantedMaintenance>,
    /// What the platform thinks that the instance was; the broker knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_values: Option<Object>,
}

/// The body of `PUT .../service_bindings/:id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindRequest {
    /// The id of the service offering. It and the plan may be left out where there is a predecessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// The id of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// The binding of the same instance that this one is to take the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor_binding_id: Option<String>,
    /// What the platform knows about the user's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Object>,
    /// The application, in the deprecated place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_guid: Option<String>,
    /// What is bound: an application, a service key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_resource: Option<Object>,
    /// The user's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Object>,
}

/// The answer to a request that goes on after the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What to poll with.
    pub operation: String,
}

/// The answer `{}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It goes on.
    #[serde(rename = "in progress")]
    InProgress,
    /// It did what was asked.
    #[serde(rename = "succeeded")]
    Succeeded,
    /// It ended otherwise.
    #[serde(rename = "failed")]
    Failed,
}

/// The answer to `GET .../last_operation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOperation {
    /// How the operation stands.
    pub state: State,
    /// A sentence for the user, never empty.
    pub description: String,
    /// After a failed update or deletion only: whether the instance still serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_usable: Option<bool>,
    /// After a failed update only: whether it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_repeatable: Option<bool>,
}

/// The answer to `GET /v2/service_instances/:id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceInstance {
    /// The id of the service offering.
    pub service_id: String,
    /// The id of the plan.
    pub plan_id: String,
    /// The user's configuration.
    pub parameters: Object,
    /// The version of the plan that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceInfo>,
}

/// The answer to `PUT` and `GET` of a binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// How to connect.
    pub credentials: Credentials,
    /// The user's configuration; in the answer to `GET` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Object>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One word that a platform can branch on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// A sentence for the user: what was wrong and what would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The words that the specification defines. Cloud Controller sends a `DELETE` after a 422 with any other word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request needs `accepts_incomplete=true`.
    AsyncRequired,
    /// Another operation on the same resource is in progress.
    ConcurrencyError,
    /// The wanted `maintenance_info.version` is not the catalog's.
    MaintenanceInfoConflict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_members_are_left_out_of_answers() {
        let done = LastOperation {
            state: State::InProgress,
            description: "going on".into(),
            instance_usable: None,
            update_repeatable: None,
        };
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"state":"in progress","description":"going on"}"#);
        assert_eq!(serde_json::to_string(&Problem { error: None, description: None }).unwrap(), "{}");
    }

    #[test]
    fn members_that_are_not_known_are_ignored_in_requests() {
        let body = r#"{"service_id":"s","plan_id":"p","bind_resource":null,"newer":{"than":"this broker"}}"#;
        let request: BindRequest = serde_json::from_str(body).unwrap();
        assert_eq!(request.bind_resource, None);
    }
}
