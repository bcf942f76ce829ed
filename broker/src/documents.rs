//! The documents, the catalog and the manifests of its topologies: read together, and replaced together.

use agent::config::Spec;
use anyhow::{Context, ensure};

use crate::catalog::{Catalog, Errand, Plan};
use crate::config::Properties;
use crate::manifest::{Manifests, Pairs};
use crate::store::operations::{Kind, Operation};

/// What can be asked for, and what it means to the director.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) catalog: Catalog,
    pub(crate) manifests: Manifests,
}

impl Documents {
    /// Read them, and try every plan.
    pub(crate) fn read(spec: &Spec, properties: &Properties) -> anyhow::Result<Documents> {
        let directory = properties.documents(spec);
        let catalog = Catalog::read(&directory.join("catalog.yml"))?;
        check_polling(&catalog, properties.operation_timeout_minutes)?;
        let pairs = Pairs {
            witness_host: properties.witness_host.clone().unwrap_or_else(|| spec.ip.to_string()),
            witness_port: properties.witness_port,
            lease_ttl_in_ms: properties.lease_ttl_in_ms,
        };
        let manifests = Manifests::read(&directory, &catalog, pairs)?;
        Ok(Documents { catalog, manifests })
    }

    /// The plan that an operation is about.
    pub(crate) fn plan(&self, operation: &Operation) -> anyhow::Result<&Plan> {
        let attributes = &operation.attributes;
        let service = self.catalog.service(&attributes.service_id);
        let plan = service.and_then(|service| service.plan(&attributes.plan_id));
        plan.with_context(|| format!("find plan {} in the catalog", attributes.plan_id))
    }

    /// The errands of its plan that an operation runs: none of a plan that has left the catalog, and none before the deletion
    /// of what was never made or is half deleted, which they could only fail on.
    pub(crate) fn errands(&self, operation: &Operation) -> &[Errand] {
        let Ok(plan) = self.plan(operation) else { return &[] };
        match operation.kind {
            Kind::Create | Kind::Update => &plan.lifecycle_errands.post_deploy,
            Kind::Delete if operation.is_whole => &plan.lifecycle_errands.pre_delete,
            Kind::Delete => &[],
        }
    }
}

/// A platform that stops polling takes the operation for failed and deletes what it makes.
fn check_polling(catalog: &Catalog, operation_timeout_minutes: u32) -> anyhow::Result<()> {
    let least = u64::from(operation_timeout_minutes) * 60;
    for plan in catalog.plans() {
        let Some(polling) = plan.maximum_polling_duration else { continue };
        ensure!(
            u64::from(polling) > least,
            "`maximum_polling_duration` of plan `{}` is {polling}, but an operation may take {least} seconds (property \
             `operation_timeout_minutes`)",
            plan.name
        );
    }
    Ok(())
}
