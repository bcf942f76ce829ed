//! What the director remembers: deployments with their instances, VMs and disks, configs, orphaned disks. Secrets
//! are not here: manifests are kept as they were uploaded, with their `((variables))`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// The type and the name of the one config that deployments are made with.
pub(crate) const CLOUD_TYPE: &str = "cloud";
pub(crate) const DEFAULT_NAME: &str = "default";

/// One deployment; one file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    /// The revision that was deployed last with success; none after a failed first deploy.
    pub(crate) deployed: Option<u64>,
    /// Every manifest that is deployed or that an instance still runs.
    pub(crate) revisions: BTreeMap<u64, Revision>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) client_address: Option<ClientAddress>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) links: Vec<Link>,
    /// What the last cloud check found and nobody has mended yet.
    #[serde(default)]
    pub(crate) problems: Vec<Problem>,
}

/// Something that is wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) id: u64,
    #[serde(rename = "type")]
    pub(crate) kind: ProblemKind,
    /// The instance's id.
    pub(crate) instance: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemKind {
    /// There should be a VM and is none.
    MissingVm,
    /// There is one, and nobody answers there.
    UnresponsiveAgent,
}

/// A manifest as it was uploaded, and the cloud config that it was deployed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) manifest: String,
    pub(crate) cloud_config: u64,
}

/// One instance: it keeps its id, index, AZ, address and disk for as long as it lives, whatever VM it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) index: u32,
    pub(crate) az: String,
    pub(crate) bootstrap: bool,
    pub(crate) address: Ipv4Addr,
    pub(crate) state: DesiredState,
    pub(crate) disk: Option<Disk>,
    pub(crate) vm: Option<Vm>,
    pub(crate) applied: Option<Applied>,
    /// Somebody looks after it by hand (`bosh ignore`): nothing else touches it.
    #[serde(default)]
    pub(crate) is_ignored: bool,
}

/// What the operator wants of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DesiredState {
    #[default]
    Started,
    Stopped,
    /// Stopped and without a VM (`stop --hard`).
    Detached,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vm {
    pub(crate) cid: String,
    pub(crate) agent_id: String,
    /// RFC 3339.
    pub(crate) created_at: String,
    pub(crate) vm_type: String,
    pub(crate) address: Ipv4Addr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) cid: String,
    pub(crate) size_mb: u64,
}

/// What an instance runs: it is resurrected with this, not with a manifest that failed after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) revision: u64,
    /// Of the rendered jobs, to see whether a deploy changes them.
    pub(crate) digest: String,
}

/// A deployment's stable client address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientAddress {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) health_port: u16,
    pub(crate) health_path: String,
    /// The instance group behind it.
    pub(crate) group: String,
}

/// A link that a job of the deployment provides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provider {
    pub(crate) id: u64,
    /// The name under which the manifest offers it (`as`).
    pub(crate) name: String,
    pub(crate) shared: bool,
    /// The name and the type in the release.
    pub(crate) original_name: String,
    pub(crate) kind: String,
    pub(crate) job: String,
    pub(crate) group: String,
}

/// A link that somebody outside of the deployment consumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) provider: u64,
    pub(crate) consumer: String,
    pub(crate) created_at: String,
}

/// What belongs to no deployment; one file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) uuid: String,
    pub(crate) next_id: u64,
    /// Every version, oldest first.
    #[serde(alias = "cloud_configs")]
    pub(crate) configs: Vec<StoredConfig>,
    pub(crate) orphan_disks: Vec<OrphanDisk>,
    pub(crate) resurrection_paused: bool,
}

/// One version of a config. The cloud config is one of them; a type that BOSH gives no meaning is only kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredConfig {
    pub(crate) id: u64,
    #[serde(rename = "type", default = "cloud_type")]
    pub(crate) kind: String,
    #[serde(default = "default_name")]
    pub(crate) name: String,
    pub(crate) content: String,
    pub(crate) created_at: String,
    /// A deployment that was made with it still is.
    #[serde(default)]
    pub(crate) is_deleted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrphanDisk {
    pub(crate) disk: Disk,
    pub(crate) az: String,
    pub(crate) deployment: String,
    pub(crate) instance: String,
    pub(crate) orphaned_at: String,
}

impl Shared {
    /// A number that was never given before.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn latest_config(&self, kind: &str, name: &str) -> Option<&StoredConfig> {
        self.configs.iter().rev().find(|config| config.kind == kind && config.name == name && !config.is_deleted)
    }

    pub(crate) fn cloud_config(&self) -> Option<&StoredConfig> {
        self.latest_config(CLOUD_TYPE, DEFAULT_NAME)
    }

    /// Any version, also one that is deleted.
    pub(crate) fn config(&self, id: u64) -> Option<&StoredConfig> {
        self.configs.iter().find(|config| config.id == id)
    }
}

/// What a config was before there were other ones.
fn cloud_type() -> String {
    CLOUD_TYPE.to_owned()
}

fn default_name() -> String {
    DEFAULT_NAME.to_owned()
}

impl Deployment {
    pub(crate) fn manifest(&self) -> Option<&str> {
        self.deployed.and_then(|revision| self.revisions.get(&revision)).map(|revision| revision.manifest.as_str())
    }

    pub(crate) fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    pub(crate) fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    /// `mysql/0` and `mysql/<id>` name the same instance; a number is an index, everything else must be an id.
    pub(crate) fn find(&self, group: &str, index_or_id: &str) -> Result<&Instance> {
        let wanted = |instance: &&Instance| {
            instance.group == group && (instance.id == index_or_id || instance.index.to_string() == index_or_id)
        };
        if index_or_id.parse::<u32>().is_err() && index_or_id.parse::<uuid::Uuid>().is_err() {
            let message = format!("Invalid instance index or ID '{index_or_id}', expected a number or a UUID");
            return Err(Error::new(Code::InstanceInvalidIndex, message));
        }
        let missing = || {
            let message = format!("'{}/{group}/{index_or_id}' doesn't exist", self.name);
            Error::new(Code::InstanceNotFound, message)
        };
        self.instances.iter().find(wanted).ok_or_else(missing)
    }

    /// Forget the manifests that nobody runs any more.
    pub(crate) fn prune_revisions(&mut self) {
        let used: Vec<u64> =
            self.instances.iter().filter_map(|i| i.applied.as_ref().map(|a| a.revision)).chain(self.deployed).collect();
        self.revisions.retain(|revision, _| used.contains(revision));
    }
}

impl Instance {
    /// `mysql/<id> (0)`, as it stands in events and errors.
    pub(crate) fn title(&self) -> String {
        format!("{}/{} ({})", self.group, self.id, self.index)
    }

    /// `mysql/<id>`.
    pub(crate) fn slug(&self) -> String {
        format!("{}/{}", self.group, self.id)
    }
}

impl DesiredState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Detached => "detached",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_earlier_director_has_one_cloud_config() {
        let text = r#"{"uuid": "u", "next_id": 7, "orphan_disks": [], "resurrection_paused": false, "cloud_configs": [
            {"id": 3, "content": "azs: []", "created_at": "2026-08-22 10:00:00 UTC"}]}"#;

        let shared: Shared = serde_json::from_str(text).unwrap();

        assert_eq!(shared.cloud_config().map(|config| config.id), Some(3));
        assert_eq!(shared.latest_config("cloud", "other"), None);
    }
}
