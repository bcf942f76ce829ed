//! Links from outside of a deployment: how a broker asks for the stable client address of a deployment.

use time::OffsetDateTime;

use crate::clock;
use crate::director::Director;
use crate::error::{Code, Error, Result};
use crate::model::Link;

/// The link of a consumer to a provider; the same consumer gets the same link again.
pub(crate) async fn create(director: &Director, provider: u64, consumer: &str) -> Result<(Link, String)> {
    director
        .store
        .write(|model| {
            let found = model.deployments.iter().find_map(|(name, deployment)| {
                let provider = deployment.providers.iter().find(|known| known.id == provider)?;
                Some((name.clone(), provider.clone()))
            });
            let (deployment, provider) = found.ok_or_else(|| no_provider(provider))?;
            if !provider.shared {
                let message = format!("Link provider is not shared: '{}'", provider.id);
                return Err(Error::new(Code::LinkProviderNotShared, message));
            }
            let links = &model.deployment(&deployment)?.links;
            let known = links.iter().find(|link| link.provider == provider.id && link.consumer == consumer).cloned();
            if let Some(link) = known {
                return Ok((link, provider.original_name));
            }
            let created_at = clock::spaced(OffsetDateTime::now_utc());
            let id = model.shared_mut().new_id();
            let link = Link { id, provider: provider.id, consumer: consumer.to_owned(), created_at };
            model.deployment_mut(&deployment)?.links.push(link.clone());
            Ok((link, provider.original_name))
        })
        .await
}

pub(crate) async fn delete(director: &Director, id: &str) -> Result<()> {
    director
        .store
        .write(|model| {
            let deployment = owner(model, id)?;
            model.deployment_mut(&deployment)?.links.retain(|link| link.id.to_string() != id);
            Ok(())
        })
        .await
}

/// The address behind a link. A real director answers a DNS name here; this one has the stable client address instead.
pub(crate) fn address(director: &Director, id: &str) -> Result<String> {
    let model = director.store.read();
    let deployment = model.deployment(&owner(&model, id)?)?.clone();
    let address = deployment.client_address.as_ref().map(|address| address.address.to_string());
    address.ok_or_else(|| {
        let message = format!(
            "Deployment '{}' has no client address: the cloud config needs a network of type vip, and the release a \
             port and a health for the link",
            deployment.name
        );
        Error::new(Code::LinkProviderNotFound, message)
    })
}

fn owner(model: &crate::store::Model, id: &str) -> Result<String> {
    let mut deployments = model.deployments.values();
    let owner = deployments.find(|deployment| deployment.links.iter().any(|link| link.id.to_string() == id));
    owner
        .map(|deployment| deployment.name.clone())
        .ok_or_else(|| Error::new(Code::LinkNotFound, format!("Invalid link id: {id}")))
}

fn no_provider(id: u64) -> Error {
    Error::new(Code::LinkProviderNotFound, format!("Invalid link provider id: {id}"))
}
