//! The catalog as platforms get it: written once, with the tag by which they know it again.

use axum::body::Bytes;
use axum::http::HeaderValue;
use broker::osb;
use ring::digest::{SHA256, digest};

use super::{Plan, Service, Topology};
use crate::admission::schema;

/// The answer to `GET /v2/catalog`.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) body: Bytes,
    /// A strong entity tag: other bytes have another one.
    pub(crate) etag: HeaderValue,
}

pub(super) fn serve(services: &[Service]) -> anyhow::Result<Served> {
    let catalog = osb::Catalog { services: services.iter().map(service).collect() };
    let body = serde_json::to_vec(&catalog)?;
    let hash: String = digest(&SHA256, &body).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Served { body: body.into(), etag: HeaderValue::try_from(format!("\"{hash}\""))? })
}

fn service(service: &Service) -> osb::Service {
    osb::Service {
        id: service.id.clone(),
        name: service.name.clone(),
        description: service.description.clone(),
        bindable: service.bindable,
        plan_updateable: service.plan_updateable,
        allow_context_updates: true,
        instances_retrievable: true,
        bindings_retrievable: true,
        tags: service.tags.clone(),
        metadata: service.metadata.clone(),
        plans: service.plans.iter().map(plan).collect(),
    }
}

fn plan(plan: &Plan) -> osb::Plan {
    let maintenance_info = plan.maintenance_info.as_ref().map(|info| osb::MaintenanceInfo {
        version: info.version.as_str().to_owned(),
        description: info.description.clone(),
    });
    osb::Plan {
        id: plan.id.clone(),
        name: plan.name.clone(),
        description: plan.description.clone(),
        free: plan.free,
        plan_updateable: plan.plan_updateable,
        binding_rotatable: true,
        metadata: plan.metadata.clone(),
        maximum_polling_duration: plan.maximum_polling_duration,
        maintenance_info,
        schemas: Some(schemas(plan.deployment.topology)),
    }
}

fn schemas(topology: Topology) -> osb::Schemas {
    let (instance, binding) = (schema::of_instance(topology), schema::of_binding());
    let input = |parameters| osb::InputSchema { parameters };
    osb::Schemas {
        service_instance: osb::InstanceSchemas {
            create: input(schema::create(&instance)),
            update: input(schema::update(&instance)),
        },
        service_binding: osb::BindingSchemas { create: input(schema::create(&binding)) },
    }
}
