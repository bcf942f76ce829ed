//! The catalog: what developers can ask for, read once from `catalog.yml`. The block `deployment` of a plan is the
//! operator's and is never served.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use broker::osb::Object;
use serde::Deserialize;

use crate::admission::parameters::LONGEST_ACK_TIMEOUT_MS;

mod deployment;
mod errands;
mod maintenance;
mod metadata;
mod quotas;
mod served;

#[cfg(test)]
pub(crate) use deployment::Server;
pub(crate) use deployment::{Deployment, Failover, ReplicationMode, Topology};
pub(crate) use errands::{Errand, LifecycleErrands};
use maintenance::MaintenanceInfo;
use quotas::Quotas;
use served::Served;

/// The longest that Cloud Controller takes, of all tags together and of a `maintenance_info`.
const TAGS_LIMIT: usize = 2048;
const MAINTENANCE_LIMIT: usize = 2000;

const LEASES_MS: RangeInclusive<u64> = 1_000..=600_000;

/// What can be asked for.
#[derive(Debug)]
pub(crate) struct Catalog {
    services: Vec<Service>,
    global_quotas: Quotas,
    served: Served,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    services: Vec<Service>,
    #[serde(default)]
    global_quotas: Quotas,
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
    /// The offering's where the plan does not say.
    plan_updateable: Option<bool>,
    #[serde(default)]
    metadata: Object,
    pub(crate) maximum_polling_duration: Option<u32>,
    maintenance_info: Option<MaintenanceInfo>,
    #[serde(default)]
    pub(crate) quotas: Quotas,
    #[serde(default)]
    pub(crate) lifecycle_errands: LifecycleErrands,
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
        let Document { services, global_quotas } = serde_yaml::from_str(text)?;
        check(&services)?;
        global_quotas.check_global()?;
        let served = served::serve(&services).context("write the catalog")?;
        Ok(Catalog { services, global_quotas, served })
    }

    /// The catalog as platforms see it.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// A service offering by id.
    pub(crate) fn service(&self, id: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.id == id)
    }

    /// What all plans share.
    pub(crate) fn global_quotas(&self) -> &Quotas {
        &self.global_quotas
    }

    /// Whether anything has to be counted.
    pub(crate) fn has_quotas(&self) -> bool {
        !self.global_quotas.are_none() || self.plans().any(|plan| !plan.quotas.are_none())
    }

    /// Every plan.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.services.iter().flat_map(|service| &service.plans)
    }
}

impl Service {
    /// Whether an instance may leave this plan for another one.
    pub(crate) fn may_leave(&self, plan: &Plan) -> bool {
        plan.plan_updateable.unwrap_or(self.plan_updateable)
    }

    /// A plan of this offering by id.
    pub(crate) fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }
}

impl Plan {
    /// The version that new instances have.
    pub(crate) fn maintenance_version(&self) -> Option<&str> {
        self.maintenance_info.as_ref().map(|info| info.version.as_str())
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
        check_tags(&place, &service.tags)?;
        metadata::check_service(&place, &service.metadata)?;
        let mut plan_names = HashSet::new();
        for plan in &service.plans {
            let place = format!("plan `{}` of {place}", plan.name);
            check_entry(&place, [&plan.id, &plan.name, &plan.description], &mut ids, &mut plan_names)?;
            check_plan(&place, plan)?;
            check_deployment(&place, &plan.deployment)?;
        }
    }
    Ok(())
}

fn check_tags(place: &str, tags: &[String]) -> anyhow::Result<()> {
    ensure!(tags.iter().all(|tag| !tag.trim().is_empty()), "`tags` of {place} has an empty one");
    let length: usize = tags.iter().map(|tag| tag.chars().count()).sum();
    ensure!(length <= TAGS_LIMIT, "`tags` of {place} are longer than {TAGS_LIMIT} characters together");
    Ok(())
}

fn check_plan(place: &str, plan: &Plan) -> anyhow::Result<()> {
    metadata::check_plan(place, &plan.metadata)?;
    plan.lifecycle_errands.check(place)?;
    ensure!(plan.maximum_polling_duration != Some(0), "`maximum_polling_duration` of {place} must be at least 1");
    let Some(MaintenanceInfo { description: Some(text), .. }) = &plan.maintenance_info else { return Ok(()) };
    let fits = !text.is_empty() && text.chars().count() < MAINTENANCE_LIMIT;
    ensure!(fits, "`maintenance_info.description` of {place} is empty or longer than {MAINTENANCE_LIMIT} characters");
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
    let is_unreserved = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
    ensure!(
        id.len() <= 255 && id.chars().all(is_unreserved),
        "the id of {place} must be a GUID, or of letters, digits, `.`, `-`, `_` and `~`"
    );
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    ensure!(name.chars().all(is_plain), "the name of {place} must be made of letters, digits, `.`, `-` and `_`");
    ensure!(description.chars().count() <= 255, "the description of {place} is longer than 255 characters");
    ensure!(ids.insert(id), "the id `{id}` of {place} is used twice in the catalog");
    ensure!(names.insert(name), "the name of {place} is used twice");
    Ok(())
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
        let served: serde_json::Value = serde_json::from_slice(&catalog.served().body).unwrap();
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
            ("services:", "global_quotas: {resources: {ip: {limit: 1, cost: 1}}}\nservices:", "which only a plan has"),
            ("services:", "global_quotas: {resources: {ip: {}}}\nservices:", "has no `limit`"),
            ("services:", "global_quotas: {instances: 1}\nservices:", "unknown field `instances`"),
            ("single-node, azs: [z1, z2]", "single-node, azs: []", "no `azs`"),
            (
                "single-node, azs: [z1, z2]",
                "single-node, azs: [z1], replication_mode: async",
                "has `replication_mode`, but only",
            ),
            (
                "single-node, azs: [z1, z2]",
                "single-node, azs: [z1], server: percona",
                "unknown variant `percona`, expected `mariadb` or `mysql`",
            ),
            ("follower, azs: [z1, z2]", "follower, azs: [z1, z2], replication_mode: sync", "unknown variant `sync`"),
            (
                "follower, azs: [z1, z2]",
                "follower, azs: [z1, z2], semi_sync_ack_timeout_in_ms: 0",
                "is 0, but must be from 1 to",
            ),
            (
                "follower, azs: [z1, z2]",
                "follower, azs: [z1, z2], lease_ttl_in_ms: 999",
                "is 999, but must be from 1000 to 600000",
            ),
            (
                "follower, azs: [z1, z2]",
                "follower, azs: [z1, z2], failover: auto",
                "unknown variant `auto`, expected `manual` or `automatic`",
            ),
            (
                "follower, azs: [z1, z2]",
                "follower, azs: [z1, z2], failover: automatic",
                "needs `replication_mode: semi-sync`, by which",
            ),
            (
                "follower, azs: [z1, z2]",
                "follower, azs: [z1, z2], max_failover_loss_in_seconds: 30",
                "but not `failover: automatic`",
            ),
            ("0e6a1f52-9d0c", "0e6a1f52 9d0c", "must be a GUID"),
            ("tags: [mysql]", "tags: [mysql, '']", "`tags` of service `p.mysql` has an empty one"),
            (
                "displayName: Tandem MySQL",
                "displayName: [Tandem]",
                "`metadata.displayName` of service `p.mysql` must be",
            ),
            ("bullets: [One VM,", "bullets: [1,", "`metadata.bullets` of plan `db-single`"),
            ("version: 1.0.0", "version: 1.0", "maintenance_info: `version` is `1.0`, but must be"),
            ("version: 1.0.0", "version: '1.0'", "`version` is `1.0`, but must be a semantic version"),
            ("maximum_polling_duration: 7200", "maximum_polling_duration: 0", "`maximum_polling_duration` of plan"),
        ] {
            let complaint = complaint(from, to);
            assert!(complaint.contains(words), "{from} -> {to}: {complaint}");
        }
    }
}
