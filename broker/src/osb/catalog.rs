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
    /// What a marketplace shows.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub metadata: Object,
    /// After how many seconds a platform stops polling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_polling_duration: Option<u32>,
}
