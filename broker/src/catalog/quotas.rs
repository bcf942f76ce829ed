//! How much may be ordered: of all plans together (`global_quotas`) and of one plan (`quotas`), in instances and in
//! whatever else they cost.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde::Deserialize;

/// Limits. What is absent has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quotas {
    pub(crate) service_instance_limit: Option<u64>,
    /// By the operator's own names: `ips`, `memory_in_gb`.
    #[serde(default)]
    pub(crate) resources: BTreeMap<String, Resource>,
}

/// Something that instances cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    pub(crate) limit: Option<u64>,
    /// Of one instance of the plan.
    cost: Option<u64>,
}

impl Quotas {
    /// What one instance of the plan costs of a resource.
    pub(crate) fn cost(&self, resource: &str) -> u64 {
        self.resources.get(resource).and_then(|resource| resource.cost).unwrap_or(0)
    }

    pub(super) fn are_none(&self) -> bool {
        *self == Quotas::default()
    }

    /// All plans together have no cost: each has its own.
    pub(super) fn check_global(&self) -> anyhow::Result<()> {
        for (name, resource) in &self.resources {
            ensure!(
                resource.cost.is_none(),
                "resource `{name}` of `global_quotas` has a `cost`, which only a plan has"
            );
            ensure!(resource.limit.is_some(), "resource `{name}` of `global_quotas` has no `limit`");
        }
        Ok(())
    }
}
