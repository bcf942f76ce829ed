//! The catalog as a platform sees it.

use serde::{Deserialize, Serialize};

use super::Object;

/// The answer to `GET /v2/catalog`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The service offerings.
    pub services: Vec<Service>,
}

/// A service offering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its id, for ever.
    pub id: String,
    /// Its name on the command line.
    pub name: String,
    /// A sentence for the user.
    pub description: String,
    /// Whether instances can be bound.
    pub bindable: bool,
    /// Whether the plan of an instance can be changed; the specification spells it so.
    pub plan_updateable: bool,
    /// A `PATCH` may carry nothing but a new context.
    #[serde(default)]
    pub allow_context_updates: bool,
    /// `GET` of an instance works.
    pub instances_retrievable: bool,
    /// `GET` of a binding works.
    pub bindings_retrievable: bool,
    /// By which applications find their service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What a marketplace shows.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub metadata: Object,
    /// The plans, at least one.
    pub plans: Vec<Plan>,
}

/// A plan of a service offering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id, for ever.
    pub id: String,
    /// Its name on the command line.
    pub name: String,
    /// A sentence for the user.
    pub description: String,
    /// Whether it costs nothing.
    pub free: bool,
    /// Whether an instance can change to another plan; where absent, the offering says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_updateable: Option<bool>,
    /// Whether a binding can be made from a `predecessor_binding_id`.
    #[serde(default)]
    pub binding_rotatable: bool,
    /// What a marketplace shows.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub metadata: Object,
    /// After how many seconds a platform stops polling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_polling_duration: Option<u32>,
    /// What users may configure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Schemas>,
    /// The version that new instances have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceInfo>,
}

/// A version of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceInfo {
    /// A semantic version.
    pub version: String,
    /// What it brings, for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What users may configure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schemas {
    /// Of an instance.
    pub service_instance: InstanceSchemas,
    /// Of a binding.
    pub service_binding: BindingSchemas,
}

/// What users may configure of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceSchemas {
    /// When it is made.
    pub create: InputSchema,
    /// When it is changed.
    pub update: InputSchema,
}

/// What users may configure of a binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingSchemas {
    /// When it is made.
    pub create: InputSchema,
}

/// The schema of what a user gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputSchema {
    /// A JSON schema, draft 4.
    pub parameters: Object,
}
