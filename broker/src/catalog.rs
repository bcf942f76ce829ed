//! The catalog: what developers can ask for, read once from `catalog.yml`. The block `deployment` of a plan is the
//! operator's and is never served.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use broker::osb::{self, Object};
use serde::Deserialize;

use crate::admission::parameters::LONGEST_ACK_TIMEOUT_MS;

mod deployment;

#[cfg(test)]
pub(crate) use deployment::Server;
pub(crate) use deployment::{Deployment, Failover, ReplicationMode, Topology};

const LEASES_MS: RangeInclusive<u64> = 1_000..=600_000;

/// What can be asked for.
#[derive(Debug)]
pub(crate) struct Catalog {
    services: Vec<Service>,
    served: osb::Catalog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    services: Vec<Service>,
}

/// A service offering.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) id: String,
    pub(crate) name: String,
    description: String,
    bindable: bool,
    plan_updateable: bool,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: Object,
    plans: Vec<Plan>,
}

/// A plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) name: String,
    description: String,
    #[serde(default = "yes")]
    free: bool,
    #[serde(default)]
    metadata: Object,
    maximum_polling_duration: Option<u32>,
    pub(crate) deployment: Deployment,
}

fn yes() -> bool {
    true
}

impl Catalog {
    /// Read the catalog.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Catalog> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read the catalog {}", path.display()))?;
        Catalog::parse(&text).with_context(|| format!("use the catalog {}", path.display()))
    }

    pub(crate) fn parse(text: &str) -> anyhow::Result<Catalog> {
        let Document { services } = serde_yaml::from_str(text)?;
        check(&services)?;
        let served = osb::Catalog { services: services.iter().map(served).collect() };
        Ok(Catalog { services, served })
    }

    /// The catalog as platforms see it.
    pub(crate) fn served(&self) -> &osb::Catalog {
        &self.served
    }

    /// A service offering by id.
    pub(crate) fn service(&self, id: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.id == id)
    }

    /// Every plan.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.services.iter().flat_map(|service| &service.plans)
    }
}

impl Service {
    /// A plan of this offering by id.
    pub(crate) fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }
}

/// The rules that platforms have for a catalog, found here rather than at the registration.
fn check(services: &[Service]) -> anyhow::Result<()> {
    ensure!(!services.is_empty(), "`services` is empty, but platforms refuse a catalog without a service");
    let mut ids = HashSet::new();
    let mut names = HashSet::new();
    for service in services {
        let place = format!("service `{}`", service.name);
        check_entry(&place, [&service.id, &service.name, &service.description], &mut ids, &mut names)?;
        ensure!(!service.plans.is_empty(), "{place} has no plans, but needs at least one");
        ensure!(!service.plan_updateable, "{place} has `plan_updateable: true`, but plans cannot be changed yet");
        let mut plan_names = HashSet::new();
        for plan in &service.plans {
            let place = format!("plan `{}` of {place}", plan.name);
            check_entry(&place, [&plan.id, &plan.name, &plan.description], &mut ids, &mut plan_names)?;
            check_deployment(&place, &plan.deployment)?;
        }
    }
    Ok(())
}

fn check_deployment(place: &str, deployment: &Deployment) -> anyhow::Result<()> {
    ensure!(!deployment.azs.is_empty(), "{place} has no `azs`, but needs at least one");
    let Deployment { replication_mode, semi_sync_ack_timeout_in_ms, lease_ttl_in_ms, failover, .. } = deployment;
    let max_loss = deployment.max_failover_loss_in_seconds;
    for (name, is_given) in [
        ("replication_mode", replication_mode.is_some()),
        ("semi_sync_ack_timeout_in_ms", semi_sync_ack_timeout_in_ms.is_some()),
        ("lease_ttl_in_ms", lease_ttl_in_ms.is_some()),
        ("failover", failover.is_some()),
        ("max_failover_loss_in_seconds", max_loss.is_some()),
    ] {
        let fits = !is_given || deployment.topology.is_pair();
        ensure!(fits, "{place} has `{name}`, but only the topology leader-follower replicates");
    }
    if let Some(timeout) = *semi_sync_ack_timeout_in_ms {
        let limits = 1..=LONGEST_ACK_TIMEOUT_MS;
        let place = format!("`semi_sync_ack_timeout_in_ms` of {place}");
        ensure!(limits.contains(&timeout), "{place} is {timeout}, but must be from 1 to {LONGEST_ACK_TIMEOUT_MS}");
    }
    let is_automatic = *failover == Some(Failover::Automatic);
    ensure!(
        is_automatic || max_loss.is_none(),
        "{place} has `max_failover_loss_in_seconds`, but not `failover: automatic`"
    );
    let checked = deployment.check_mode(replication_mode.unwrap_or(ReplicationMode::Async));
    checked.map_err(|why| anyhow!("{place}: {why}"))?;
    lease_ttl_in_ms.map_or(Ok(()), |lease| check_lease(lease).with_context(|| format!("use {place}")))
}

/// A lease that agents take: a shorter one would be lost to an ordinary pause of a busy VM, a longer one is waited out by
/// every unplanned failover.
pub(crate) fn check_lease(lease_ttl_in_ms: u64) -> anyhow::Result<()> {
    let fits = LEASES_MS.contains(&lease_ttl_in_ms);
    let (least, most) = (LEASES_MS.start(), LEASES_MS.end());
    ensure!(fits, "`lease_ttl_in_ms` is {lease_ttl_in_ms}, but must be from {least} to {most}");
    Ok(())
}

fn check_entry<'a>(
    place: &str,
    [id, name, description]: [&'a str; 3],
    ids: &mut HashSet<&'a str>,
    names: &mut HashSet<&'a str>,
) -> anyhow::Result<()> {
    ensure!(
        !id.is_empty() && !name.is_empty() && !description.is_empty(),
        "{place} needs an id, a name, a description"
    );
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    ensure!(name.chars().all(is_plain), "the name of {place} must be made of letters, digits, `.`, `-` and `_`");
    ensure!(description.chars().count() <= 255, "the description of {place} is longer than 255 characters");
    ensure!(ids.insert(id), "the id `{id}` of {place} is used twice in the catalog");
    ensure!(names.insert(name), "the name of {place} is used twice");
    Ok(())
}

fn served(service: &Service) -> osb::Service {
    osb::Service {
        id: service.id.clone(),
        name: service.name.clone(),
        description: service.description.clone(),
        bindable: service.bindable,
        plan_updateable: service.plan_updateable,
        instances_retrievable: true,
        bindings_retrievable: true,
        tags: service.tags.clone(),
        metadata: service.metadata.clone(),
        plans: service.plans.iter().map(served_plan).collect(),
    }
}

fn served_plan(plan: &Plan) -> osb::Plan {
    osb::Plan {
        id: plan.id.clone(),
        name: plan.name.clone(),
        description: plan.description.clone(),
        free: plan.free,
        metadata: plan.metadata.clone(),
        maximum_polling_duration: plan.maximum_polling_duration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../manifests/catalog.yml");

    fn complaint(from: &str, to: &str) -> String {
        assert!(OURS.contains(from), "the catalog has no `{from}`");
        format!("{:#}", Catalog::parse(&OURS.replacen(from, to, 1)).unwrap_err())
    }

    #[test]
    fn the_deployment_block_is_never_served() {
        let catalog = Catalog::parse(OURS).unwrap();
        let served = serde_json::to_value(catalog.served()).unwrap();
        assert!(!served.to_string().contains("topology"));
        assert_eq!(served["services"][0]["instances_retrievable"], true);
        assert_eq!(served["services"][0]["bindings_retrievable"], true);
        assert_eq!(served["services"][0]["plans"][1]["name"], "db-leader-follower");
        let pair = catalog.plans().find(|plan| plan.name == "db-leader-follower").unwrap();
        assert!(pair.deployment.topology.is_pair());
    }

    #[test]
    fn a_bad_catalog_is_refused_by_name() {
        for (from, to, words) in [
            ("bindable: true", "bindable: true\n  bindeable: true", "unknown field `bindeable`"),
            ("topology: single-node", "topology: galera", "unknown variant `galera`"),
            ("0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21", "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32", "used twice"),
            ("name: db-single", "name: db-leader-follower", "used twice"),
            ("name: db-single", "name: db single", "letters, digits"),
            ("azs: [z1]", "azs: []", "no `azs`"),
            ("azs: [z1]", "azs: [z1], replication_mode: async", "has `replication_mode`, but only"),
            ("azs: [z1]", "azs: [z1], server: percona", "unknown variant `percona`, expected `mariadb` or `mysql`"),
            ("azs: [z1, z2]", "azs: [z1, z2], replication_mode: sync", "unknown variant `sync`"),
            ("azs: [z1, z2]", "azs: [z1, z2], semi_sync_ack_timeout_in_ms: 0", "is 0, but must be from 1 to"),
            ("azs: [z1, z2]", "azs: [z1, z2], lease_ttl_in_ms: 999", "is 999, but must be from 1000 to 600000"),
            (
                "azs: [z1, z2]",
                "azs: [z1, z2], failover: auto",
                "unknown variant `auto`, expected `manual` or `automatic`",
            ),
            ("azs: [z1, z2]", "azs: [z1, z2], failover: automatic", "needs `replication_mode: semi-sync`, by which"),
            ("azs: [z1, z2]", "azs: [z1, z2], max_failover_loss_in_seconds: 30", "but not `failover: automatic`"),
            ("plan_updateable: false", "plan_updateable: true", "cannot be changed yet"),
        ] {
            let complaint = complaint(from, to);
            assert!(complaint.contains(words), "{from} -> {to}: {complaint}");
        }
    }
}
