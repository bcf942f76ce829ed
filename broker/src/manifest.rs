//! Plan and parameters -> BOSH manifest: the document of the topology, with the name, the plan's places, the certificate's
//! names and, for a pair, its witness and how it replicates filled in. Everything else is the operator's to change.

mod needs;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use agent::api::certificate_name;
use anyhow::{Context, anyhow, bail, ensure};
use serde_yaml::{Mapping, Value};

use crate::admission::parameters::{Parameters, ServerParameters};
use crate::bosh::Resource;
use crate::catalog::{Catalog, Deployment, Failover, ReplicationMode, Topology};

/// The instance group of the database servers.
pub(crate) const MYSQL_GROUP: &str = "mysql";
/// The link that the servers share, by the name that the manifests give it.
pub(crate) const MYSQL_LINK: &str = "mysql";
/// The errand that makes a pair out of two servers.
pub(crate) const CONFIGURE_ERRAND: &str = "configure-leader-follower";
/// The variable that holds the certificates of a deployment's agents.
const AGENT_TLS: &str = "agent_tls";
/// The job of the database servers.
const AGENT_JOB: &str = "mysql-agent";

/// The manifests of the topologies that the catalog uses.
#[derive(Debug)]
pub(crate) struct Manifests {
    documents: HashMap<&'static str, Value>,
    pairs: Pairs,
}

/// What every pair is told.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// Where the broker, their witness, can be reached: an address or a DNS name.
    pub(crate) witness_host: String,
    pub(crate) witness_port: u16,
    /// Unless the plan has its own.
    pub(crate) lease_ttl_in_ms: u64,
}

/// The name of the deployment of a service instance.
pub(crate) fn deployment_name(instance_id: &str) -> String {
    format!("service-instance_{instance_id}")
}

impl Manifests {
    /// Read the manifest of every topology in the catalog, and try each plan on it.
    pub(crate) fn read(documents: &Path, catalog: &Catalog, pairs: Pairs) -> anyhow::Result<Manifests> {
        let mut manifests = Manifests { documents: HashMap::new(), pairs };
        for plan in catalog.plans() {
            let file_name = plan.deployment.topology.file_name();
            let path = documents.join(file_name);
            let act = || format!("use the manifest {} of plan `{}`", path.display(), plan.name);
            let text = std::fs::read_to_string(&path).with_context(act)?;
            manifests.documents.insert(file_name, serde_yaml::from_str(&text).with_context(act)?);
            manifests.render("try", &plan.deployment, Parameters::default()).with_context(act)?;
        }
        Ok(manifests)
    }

    /// The manifest of one service instance.
    pub(crate) fn render(
        &self,
        instance_id: &str,
        plan: &Deployment,
        parameters: Parameters,
    ) -> anyhow::Result<String> {
        let mut manifest = self.document(plan.topology)?.clone();
        fill(&mut manifest, &deployment_name(instance_id), plan, &parameters.server)?;
        if plan.topology.is_pair() {
            fill_pair(&mut manifest, &self.pairs, plan, parameters)?;
        }
        serde_yaml::to_string(&manifest).context("write the manifest")
    }

    /// What the director must have for the servers of a plan.
    pub(crate) fn needs(&self, plan: &Deployment) -> anyhow::Result<BTreeSet<Resource>> {
        let mut manifest = self.document(plan.topology)?.clone();
        fill(&mut manifest, "needs", plan, &ServerParameters::default())?;
        Ok(needs::needs(&manifest))
    }

    fn document(&self, topology: Topology) -> anyhow::Result<&Value> {
        self.documents.get(topology.file_name()).context("find the manifest of the topology")
    }
}

fn fill(manifest: &mut Value, name: &str, plan: &Deployment, asked: &ServerParameters) -> anyhow::Result<()> {
    set(manifest, "name", name)?;
    let group = entry(manifest, "instance_groups", MYSQL_GROUP)?;
    set(group, "azs", plan.azs.clone())?;
    set(group, "vm_type", plan.vm_type.as_str())?;
    set(group, "persistent_disk_type", plan.disk_type.as_str())?;
    let options = entry(manifest, "variables", AGENT_TLS)?
        .get_mut("options")
        .with_context(|| format!("the variable `{AGENT_TLS}` has no `options`"))?;
    let certificate_name = certificate_name(name);
    set(options, "common_name", certificate_name.as_str())?;
    set(options, "alternative_names", vec![certificate_name])?;
    // The agent takes what the VM has, and has defaults of its own, so a document need not have these.
    let properties = agent_properties(manifest)?.as_mapping_mut().context("`properties` must be a mapping")?;
    if let Some(server) = plan.server {
        properties.insert("server".into(), server.name().into());
    }
    if *asked != ServerParameters::default() {
        properties.insert("parameters".into(), serde_yaml::to_value(asked).context("write the parameters")?);
    }
    Ok(())
}

fn fill_pair(manifest: &mut Value, pairs: &Pairs, plan: &Deployment, parameters: Parameters) -> anyhow::Result<()> {
    let properties = agent_properties(manifest)?;
    let witness = [("host", Value::from(pairs.witness_host.as_str())), ("port", pairs.witness_port.into())];
    let witness: Mapping = witness.into_iter().map(|(key, value)| (key.into(), value)).collect();
    set(properties, "witness", witness)?;
    set(properties, "lease_ttl_in_ms", plan.lease_ttl_in_ms.unwrap_or(pairs.lease_ttl_in_ms))?;
    let mode = parameters.replication_mode.or(plan.replication_mode).unwrap_or(ReplicationMode::Async);
    set(properties, "replication_mode", mode.name())?;
    plan.check_mode(mode).map_err(|why| anyhow!(why))?;
    // The agent has defaults of its own, so these are the members that a document need not have.
    let properties = properties.as_mapping_mut().context("`properties` must be a mapping")?;
    if let Some(timeout) = parameters.semi_sync_ack_timeout_in_ms.or(plan.semi_sync_ack_timeout_in_ms) {
        properties.insert("semi_sync_ack_timeout_in_ms".into(), timeout.into());
    }
    if plan.failover == Some(Failover::Automatic) {
        properties.insert("failover".into(), "automatic".into());
    }
    if let Some(seconds) = plan.max_failover_loss_in_seconds {
        properties.insert("max_failover_loss_in_seconds".into(), seconds.into());
    }
    Ok(())
}

/// What the agents are told.
fn agent_properties(manifest: &mut Value) -> anyhow::Result<&mut Value> {
    let job = entry(entry(manifest, "instance_groups", MYSQL_GROUP)?, "jobs", AGENT_JOB)?;
    job.get_mut("properties").with_context(|| format!("the job `{AGENT_JOB}` has no `properties`"))
}

/// Set a member that is there already: what the document does not have, it does not expect to be filled.
fn set(place: &mut Value, key: &str, value: impl Into<Value>) -> anyhow::Result<()> {
    let mapping: &mut Mapping = place.as_mapping_mut().with_context(|| format!("`{key}` must stand in a mapping"))?;
    let member = mapping.get_mut(key).with_context(|| format!("`{key}` is missing, but is to be filled in"))?;
    *member = value.into();
    Ok(())
}

/// The member of a list by its name.
fn entry<'a>(manifest: &'a mut Value, list: &str, name: &str) -> anyhow::Result<&'a mut Value> {
    let Some(Value::Sequence(entries)) = manifest.get_mut(list) else { bail!("`{list}` must be a list") };
    let mut named = entries.iter_mut().filter(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
    let first = named.next().with_context(|| format!("`{list}` has no `{name}`"))?;
    ensure!(named.next().is_none(), "`{list}` has more than one `{name}`");
    Ok(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::Server;

    fn manifests() -> (Catalog, Manifests) {
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        let catalog = Catalog::read(&documents.join("catalog.yml")).unwrap();
        let pairs = Pairs { witness_host: "10.0.3.5".into(), witness_port: 8009, lease_ttl_in_ms: 10_000 };
        let manifests = Manifests::read(&documents, &catalog, pairs).unwrap();
        (catalog, manifests)
    }

    fn plan(catalog: &Catalog, name: &str) -> Deployment {
        catalog.plans().find(|candidate| candidate.name == name).unwrap().deployment.clone()
    }

    fn golden(name: &str, parameters: serde_json::Value, file: &str) {
        let (catalog, manifests) = manifests();
        let plan = plan(&catalog, name);
        let parameters = Parameters::parse(plan.topology, parameters.as_object().unwrap()).unwrap();
        let rendered = manifests.render("0A9f-b.x_1", &plan, parameters).unwrap();
        crate::app::fixture::assert_golden(file, &rendered);
    }

    #[test]
    fn single_node_manifest_is_the_golden_one() {
        golden("db-single", json!({}), "single-node.yml");
    }

    #[test]
    fn leader_follower_manifest_is_the_golden_one() {
        golden("db-leader-follower", json!({}), "leader-follower.yml");
    }

    #[test]
    fn manifest_with_every_parameter_is_the_golden_one() {
        let all = json!({
            "replication_mode": "semi-sync", "semi_sync_ack_timeout_in_ms": 60_000, "workload": "write-heavy",
            "default-charset": "utf8mb4", "default-collation": "utf8mb4_unicode_ci",
            "enable_lower_case_table_names": true, "optimize_for_short_words": true,
        });
        golden("db-leader-follower", all, "every-parameter.yml");
    }

    #[test]
    fn what_the_user_asks_for_comes_before_the_plan_and_that_before_the_default() {
        let (catalog, manifests) = manifests();
        let plain = plan(&catalog, "db-leader-follower");
        let mut own = plain.clone();
        own.replication_mode = Some(ReplicationMode::SemiSync);
        (own.semi_sync_ack_timeout_in_ms, own.lease_ttl_in_ms) = (Some(500), Some(2000));
        let nothing = Parameters::default();
        let asked = Parameters {
            replication_mode: Some(ReplicationMode::Async),
            semi_sync_ack_timeout_in_ms: Some(700),
            ..nothing
        };
        for (plan, parameters, lease, mode, timeout) in [
            (&plain, nothing, 10_000, "async", None),
            (&plain, asked, 10_000, "async", Some(700)),
            (&own, nothing, 2000, "semi-sync", Some(500)),
            (&own, asked, 2000, "async", Some(700)),
        ] {
            let rendered: Value = serde_yaml::from_str(&manifests.render("i", plan, parameters).unwrap()).unwrap();
            let properties = &rendered["instance_groups"][0]["jobs"][0]["properties"];
            assert_eq!(properties["lease_ttl_in_ms"].as_u64(), Some(lease));
            assert_eq!(properties["replication_mode"].as_str(), Some(mode));
            assert_eq!(properties.get("semi_sync_ack_timeout_in_ms").and_then(Value::as_u64), timeout);
            assert_eq!(properties["witness"]["host"].as_str(), Some("10.0.3.5"));
        }
    }

    #[test]
    fn the_family_of_the_servers_reaches_the_agents_of_every_topology() {
        let (catalog, manifests) = manifests();
        for name in ["db-single", "db-leader-follower"] {
            for (server, said) in
                [(None, None), (Some(Server::MariaDb), Some("mariadb")), (Some(Server::MySql), Some("mysql"))]
            {
                let plan = Deployment { server, ..plan(&catalog, name) };
                let rendered = manifests.render("i", &plan, Parameters::default()).unwrap();
                let rendered: Value = serde_yaml::from_str(&rendered).unwrap();
                let properties = &rendered["instance_groups"][0]["jobs"][0]["properties"];
                assert_eq!(properties.get("server").and_then(Value::as_str), said, "{name}");
            }
        }
    }

    #[test]
    fn who_starts_a_failover_reaches_the_agents() {
        let (catalog, manifests) = manifests();
        let manual = plan(&catalog, "db-leader-follower");
        let automatic = Deployment { failover: Some(Failover::Automatic), ..manual.clone() };
        let lossless = Deployment { replication_mode: Some(ReplicationMode::SemiSync), ..automatic.clone() };
        let bounded = Deployment { max_failover_loss_in_seconds: Some(30), ..automatic.clone() };
        for (plan, failover, loss) in
            [(&manual, None, None), (&lossless, Some("automatic"), None), (&bounded, Some("automatic"), Some(30))]
        {
            let rendered = manifests.render("i", plan, Parameters::default()).unwrap();
            let rendered: Value = serde_yaml::from_str(&rendered).unwrap();
            let properties = &rendered["instance_groups"][0]["jobs"][0]["properties"];
            assert_eq!(properties.get("failover").and_then(Value::as_str), failover);
            assert_eq!(properties.get("max_failover_loss_in_seconds").and_then(Value::as_u64), loss);
        }
        let complaint = manifests.render("i", &automatic, Parameters::default()).unwrap_err().to_string();
        assert!(complaint.contains("automatic failover needs"), "{complaint}");
    }

    #[test]
    fn a_document_without_a_place_to_fill_is_refused_by_name() {
        let (catalog, _) = manifests();
        let plan = &catalog.plans().next().unwrap().deployment;
        for (document, words) in [
            ("name: x", "`instance_groups` must be a list"),
            ("{name: x, instance_groups: [{name: other}]}", "`instance_groups` has no `mysql`"),
            ("{name: x, instance_groups: [{name: mysql}]}", "`azs` is missing"),
        ] {
            let mut manifest: Value = serde_yaml::from_str(document).unwrap();
            let complaint = fill(&mut manifest, "n", plan, &ServerParameters::default()).unwrap_err().to_string();
            assert!(complaint.contains(words), "{complaint}");
        }
    }
}
