//! The documents, the catalog and the manifests of its topologies: read together, and replaced together.

use agent::config::Spec;
use anyhow::ensure;

use crate::catalog::Catalog;
use crate::config::Properties;
use crate::manifest::{Manifests, Pairs};

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
