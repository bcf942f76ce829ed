//! PURE: the jobs of one instance with their `config.json`: `spec`, `links`, `properties`. All addresses are known before
//! the first VM exists, so every document is complete from the start.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::cpi;
use crate::error::{Code, Error, Result};
use crate::manifest::{Group, Job, Manifest};
use crate::model::Instance;
use crate::release::{self, Release};

/// A deployment with its instances: what documents are made of. The manifest's variables are filled in.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) deployment: &'a str,
    pub(crate) manifest: &'a Manifest,
    pub(crate) release: &'a Release,
    pub(crate) instances: &'a [Instance],
}

/// What an instance runs. It holds secrets, so there is no `Debug`.
pub(crate) struct Rendered {
    pub(crate) jobs: Vec<cpi::Job>,
    /// Equal digests mean that nothing changes for the programs.
    pub(crate) digest: String,
}

/// A link that a job of the manifest provides.
pub(crate) struct Offer<'a> {
    pub(crate) group: &'a Group,
    pub(crate) job: &'a Job,
    pub(crate) provided: &'a release::Provided,
    /// Its name in the manifest.
    pub(crate) name: &'a str,
    pub(crate) shared: bool,
}

pub(crate) fn render(site: Site<'_>, group: &Group, instance: &Instance) -> Result<Rendered> {
    let spec = spec(site.deployment, group, instance);
    let mut jobs = Vec::with_capacity(group.jobs.len());
    for job in &group.jobs {
        let known = site.release.job(&job.name).ok_or_else(|| unknown_job(&job.name))?;
        jobs.push(cpi::Job {
            name: job.name.clone(),
            program: known.program.clone(),
            errand: known.errand.clone(),
            pre_stop: known.pre_stop.clone(),
            ports: known.ports.clone(),
            config: json!({"spec": spec, "links": links(site, group, job, known)?, "properties": job.properties}),
        });
    }
    Ok(Rendered { digest: digest(&jobs), jobs })
}

/// Every link that the jobs of a manifest provide.
pub(crate) fn offers<'a>(manifest: &'a Manifest, release: &'a Release) -> Vec<Offer<'a>> {
    let mut offers = Vec::new();
    for group in &manifest.groups {
        for job in &group.jobs {
            for provided in release.job(&job.name).into_iter().flat_map(|known| &known.provides) {
                let chosen = job.provides.get(&provided.name);
                let name = chosen.map_or(provided.name.as_str(), |chosen| chosen.name.as_str());
                let shared = chosen.is_some_and(|chosen| chosen.shared);
                offers.push(Offer { group, job, provided, name, shared });
            }
        }
    }
    offers
}

/// `spec.root` is missing: only the CPI knows where a VM's directory is, and it is another one for every VM.
fn spec(deployment: &str, group: &Group, instance: &Instance) -> Value {
    json!({
        "deployment": deployment,
        "name": instance.group,
        "id": instance.id,
        "index": instance.index,
        "az": instance.az,
        "ip": instance.address,
        "address": instance.address,
        "bootstrap": instance.bootstrap,
        "persistent_disk": group.disk_mb.unwrap_or(0),
        "vm_resources": resources(group),
    })
}

/// The programs look at the machine where a VM type does not say both.
fn resources(group: &Group) -> Value {
    match (group.size.cpu, group.size.ram) {
        (Some(cpu), Some(ram)) => json!({"cpu": cpu, "ram": ram}),
        _ => Value::Null,
    }
}

fn links(site: Site<'_>, group: &Group, job: &Job, known: &release::Job) -> Result<Value> {
    let mut links = Map::new();
    let offers = offers(site.manifest, site.release);
    for consumed in &known.consumes {
        let from = job.consumes.get(&consumed.name);
        let fits = |offer: &&Offer<'_>| {
            offer.provided.kind == consumed.kind && from.is_none_or(|from| from.as_str() == offer.name)
        };
        match offers.iter().filter(fits).collect::<Vec<_>>()[..] {
            [offer] => {
                links.insert(consumed.name.clone(), json!({"instances": linked(site.instances, &offer.group.name)}));
            }
            [] if consumed.optional && from.is_none() => {}
            ref several => return Err(unresolved(consumed, job, group, several.len())),
        }
    }
    Ok(Value::Object(links))
}

fn linked(instances: &[Instance], group: &str) -> Vec<Value> {
    let in_order: BTreeMap<u32, &Instance> = instances
        .iter()
        .filter(|instance| instance.group == group)
        .map(|instance| (instance.index, instance))
        .collect();
    in_order
        .values()
        .map(|instance| {
            json!({"name": instance.group, "id": instance.id, "index": instance.index, "az": instance.az,
                "address": instance.address, "bootstrap": instance.bootstrap})
        })
        .collect()
}

fn unresolved(consumed: &release::Consumed, job: &Job, group: &Group, found: usize) -> Error {
    let message = format!(
        "Failed to resolve link '{}' with type '{}' from job '{}' in instance group '{}': {found} jobs provide it; \
         exactly one is right, chosen with `consumes: {{{}: {{from: NAME}}}}`",
        consumed.name, consumed.kind, job.name, group.name, consumed.name
    );
    Error::new(Code::Generic, message)
}

fn unknown_job(name: &str) -> Error {
    Error::new(Code::UnknownJob, format!("Can't find job '{name}' in the release any more"))
}

fn digest(jobs: &[cpi::Job]) -> String {
    let mut hasher = Sha256::new();
    for job in jobs {
        let what = json!([job.name, job.program, job.errand, job.ports, job.config]);
        hasher.update(what.to_string());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud_config;
    use crate::manifest::{self, Known};
    use crate::model::DesiredState;

    const RELEASE: &str = "
name: r
version: '1'
jobs:
- name: server
  program: server
  ports: [3306]
  provides: [{name: mysql, type: mysql}]
  consumes: [{name: mysql, type: mysql}]
- {name: fix, errand: fix}
";

    fn rendered(consumes: &str, property: &str) -> Result<Rendered> {
        let cloud = "
azs: [{name: z1}]
vm_types: [{name: small, cloud_properties: {cpu: 1, ram: 512}}]
networks: [{name: n, subnets: [{az: z1, range: 127.81.1.0/24}]}]";
        let text = format!(
            "
name: d
update: {{canaries: 1, max_in_flight: 1, canary_watch_time: 1, update_watch_time: 1}}
instance_groups:
- name: g
  instances: 2
  azs: [z1]
  vm_type: small
  networks: [{{name: n}}]
  jobs:
  - {{name: server, provides: {{mysql: {{as: db}}}}, consumes: {consumes}, properties: {{p: {property}}}}}
  - {{name: fix}}
"
        );
        let (cloud, release) = (cloud_config::parse(cloud).unwrap(), serde_yaml::from_str(RELEASE).unwrap());
        let (_, value) = manifest::read(&text).unwrap();
        let manifest = manifest::check(&value, Known { cloud: &cloud, release: &release }).unwrap();
        let instances = [instance(1), instance(0)];
        let site = Site { deployment: "d", manifest: &manifest, release: &release, instances: &instances };
        render(site, &manifest.groups[0], &instances[1])
    }

    fn instance(index: u32) -> Instance {
        Instance {
            id: format!("id{index}"),
            group: "g".into(),
            index,
            az: "z1".into(),
            bootstrap: index == 0,
            address: [127, 81, 1, 2 + u8::try_from(index).unwrap()].into(),
            state: DesiredState::Started,
            disk: None,
            vm: None,
            applied: None,
            is_ignored: false,
        }
    }

    #[test]
    fn a_document_says_who_with_whom_and_what() {
        let jobs = rendered("{mysql: {from: db}}", "1").unwrap().jobs;

        let expected = json!({
            "spec": {"deployment": "d", "name": "g", "id": "id0", "index": 0, "az": "z1", "ip": "127.81.1.2",
                "address": "127.81.1.2", "bootstrap": true, "persistent_disk": 0,
                "vm_resources": {"cpu": 1, "ram": 512}},
            "links": {"mysql": {"instances": [
                {"name": "g", "id": "id0", "index": 0, "az": "z1", "address": "127.81.1.2", "bootstrap": true},
                {"name": "g", "id": "id1", "index": 1, "az": "z1", "address": "127.81.1.3", "bootstrap": false}]}},
            "properties": {"p": 1},
        });
        assert_eq!((jobs[0].name.as_str(), &jobs[0].config), ("server", &expected));
        assert_eq!((jobs[1].errand.as_deref(), &jobs[1].config["links"]), (Some("fix"), &json!({})));
    }

    #[test]
    fn a_digest_changes_with_the_properties_only() {
        let digest = |property| rendered("{}", property).unwrap().digest;

        assert_eq!(digest("1"), digest("1"));
        assert_ne!(digest("1"), digest("2"));
    }

    #[test]
    fn a_link_that_nobody_provides_is_refused() {
        let error = rendered("{mysql: {from: other}}", "1").err().unwrap();

        assert!(error.description.contains("link 'mysql' with type 'mysql' from job 'server'"), "{error}");
    }
}
