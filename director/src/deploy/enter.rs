//! How a deploy enters the director's memory: in one change its instances get their places and addresses, so that two
//! deploys at the same time never pick the same one; at its end the manifest becomes the deployed one.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use time::OffsetDateTime;

use super::Order;
use crate::clock;
use crate::cloud_config::CloudConfig;
use crate::director::Director;
use crate::error::{Code, Error, Result};
use crate::manifest::Manifest;
use crate::model::{ClientAddress, Deployment, Instance, Provider};
use crate::place;
use crate::release::Release;
use crate::render::{Offer, offers};
use crate::store::Model;

pub(super) struct Entered {
    pub(super) revision: u64,
    /// All that stay or are new.
    pub(super) instances: Vec<Instance>,
    pub(super) obsolete: Vec<Instance>,
}

pub(super) async fn enter(director: &Director, order: &Order, manifest: &Manifest) -> Result<Entered> {
    let cloud = director.cloud_config(order.revision.cloud_config)?;
    director.store.write(|model| place_all(model, order, manifest, &cloud, &director.release)).await
}

/// Every change is made: from now on this is the manifest of the deployment.
pub(super) async fn succeed(director: &Director, name: &str, revision: u64, manifest: &Manifest) -> Result<()> {
    director
        .store
        .write(|model| {
            offer_links(model, name, manifest, &director.release)?;
            let deployment = model.deployment_mut(name)?;
            deployment.deployed = Some(revision);
            deployment.prune_revisions();
            Ok(())
        })
        .await
}

fn place_all(
    model: &mut Model,
    order: &Order,
    manifest: &Manifest,
    cloud: &CloudConfig,
    release: &Release,
) -> Result<Entered> {
    // Again: a delete that was queued before this deploy may have removed it.
    find_or_create(model, &order.deployment);
    let mut taken = taken_addresses(model);
    let mut left = model.deployment(&order.deployment)?.instances.clone();
    order.change.check(&left)?;
    let mut entered = Entered { revision: 0, instances: Vec::new(), obsolete: Vec::new() };
    for group in &manifest.groups {
        let (existing, others) = left.into_iter().partition(|instance| instance.group == group.name);
        left = others;
        let network = cloud.network(&group.network).ok_or_else(|| {
            Error::new(Code::UnknownNetwork, format!("There is no network '{}' in the cloud config", group.network))
        })?;
        let placement = place::place(group, existing, network, &mut taken, || uuid::Uuid::new_v4().to_string())?;
        entered.instances.extend(placement.instances);
        entered.obsolete.extend(placement.obsolete);
    }
    if let Some(instance) = left.iter().find(|instance| instance.is_ignored) {
        return Err(Error::ignored_deletion(&format!("instance group '{}'", instance.group)));
    }
    entered.obsolete.extend(left);
    let address = client_address(model, order, manifest, cloud, release)?;
    entered.revision = revision(model, order)?;
    let deployment = model.deployment_mut(&order.deployment)?;
    deployment.client_address = address;
    deployment.instances = entered.instances.iter().chain(&entered.obsolete).cloned().collect();
    Ok(entered)
}

fn taken_addresses(model: &Model) -> HashSet<Ipv4Addr> {
    let instances = model.deployments.values().flat_map(|deployment| &deployment.instances);
    // A VM that is about to be replaced still has its old address.
    instances.flat_map(|i| std::iter::once(i.address).chain(i.vm.as_ref().map(|vm| vm.address))).collect()
}

/// The same manifest with the same cloud config is the same revision: it changes nothing.
fn revision(model: &mut Model, order: &Order) -> Result<u64> {
    let deployment = model.deployment(&order.deployment)?;
    let known = deployment.revisions.iter().find(|(_, revision)| **revision == order.revision).map(|(id, _)| *id);
    let id = match known {
        Some(id) => id,
        None => model.shared_mut().new_id(),
    };
    let deployment = model.deployment_mut(&order.deployment)?;
    deployment.prune_revisions();
    deployment.revisions.insert(id, order.revision.clone());
    Ok(id)
}

/// A deployment gets a stable client address for the first shared link that says how to find the right instance, and
/// keeps it as long as it lives.
fn client_address(
    model: &Model,
    order: &Order,
    manifest: &Manifest,
    cloud: &CloudConfig,
    release: &Release,
) -> Result<Option<ClientAddress>> {
    let offers = offers(manifest, release);
    let fronted = |offer: &&Offer<'_>| offer.shared && offer.provided.port.is_some() && offer.provided.health.is_some();
    let Some(offer) = offers.iter().find(fronted) else { return Ok(None) };
    let (Some(port), Some(health), Some(network)) = (offer.provided.port, &offer.provided.health, cloud.vip()) else {
        return Ok(None);
    };
    let kept = model.deployment(&order.deployment)?.client_address.as_ref().map(|address| address.address);
    let taken = model.deployments.values().filter_map(|deployment| deployment.client_address.as_ref());
    let taken: HashSet<Ipv4Addr> = taken.map(|address| address.address).collect();
    let free = || network.subnets.iter().find_map(|subnet| subnet.pick(&taken));
    let address = kept.or_else(free).ok_or_else(|| {
        let message =
            format!("Failed to reserve a client address in vip network '{}': no more available", network.name);
        Error::new(Code::NoFreeAddress, message)
    })?;
    let (group, health_path) = (offer.group.name.clone(), health.path.clone());
    Ok(Some(ClientAddress { address, port, health_port: health.port, health_path, group }))
}

/// A provider keeps its id from deploy to deploy, because the links of others point to it.
fn offer_links(model: &mut Model, name: &str, manifest: &Manifest, release: &Release) -> Result<()> {
    let mut known: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for provider in &model.deployment(name)?.providers {
        known.insert((provider.group.clone(), provider.job.clone(), provider.original_name.clone()), provider.id);
    }
    let mut providers = Vec::new();
    for offer in offers(manifest, release) {
        let key = (offer.group.name.clone(), offer.job.name.clone(), offer.provided.name.clone());
        let id = match known.get(&key) {
            Some(id) => *id,
            None => model.shared_mut().new_id(),
        };
        providers.push(provider(id, &offer));
    }
    let deployment: &mut Deployment = model.deployment_mut(name)?;
    deployment.links.retain(|link| providers.iter().any(|provider| provider.id == link.provider));
    deployment.providers = providers;
    Ok(())
}

fn provider(id: u64, offer: &Offer<'_>) -> Provider {
    Provider {
        id,
        name: offer.name.to_owned(),
        shared: offer.shared,
        original_name: offer.provided.name.clone(),
        kind: offer.provided.kind.clone(),
        job: offer.job.name.clone(),
        group: offer.group.name.clone(),
    }
}

/// A deployment is listed from the moment that it was asked for, also when its first deploy fails. Whether it is new.
pub(crate) fn find_or_create(model: &mut Model, name: &str) -> bool {
    let is_new = !model.deployments.contains_key(name);
    if is_new {
        let deployment = Deployment { name: name.to_owned(), ..Deployment::default() };
        model.deployments.insert(name.to_owned(), std::sync::Arc::new(deployment));
    }
    is_new
}

/// Take an instance out of memory; its disk becomes an orphan.
pub(crate) fn remove_instance(model: &mut Model, deployment: &str, id: &str) -> Result<()> {
    let now = clock::spaced(OffsetDateTime::now_utc());
    if let Some(instance) = model.deployment(deployment)?.instance(id).cloned() {
        model.orphan_disk(deployment, &instance, now);
    }
    model.deployment_mut(deployment)?.instances.retain(|instance| instance.id != id);
    Ok(())
}
