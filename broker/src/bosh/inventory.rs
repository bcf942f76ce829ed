//! What the director has for deployments: the cloud config, releases and stemcells.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

use super::{Director, Error};

/// Something that a manifest names and a director has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    AvailabilityZone(String),
    VmType(String),
    VmExtension(String),
    DiskType(String),
    Network(String),
    Release { name: String, version: String },
    Stemcell { name: String, version: String },
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::AvailabilityZone(name) => write!(f, "availability zone `{name}`"),
            Resource::VmType(name) => write!(f, "VM type `{name}`"),
            Resource::VmExtension(name) => write!(f, "VM extension `{name}`"),
            Resource::DiskType(name) => write!(f, "disk type `{name}`"),
            Resource::Network(name) => write!(f, "network `{name}`"),
            Resource::Release { name, version } => write!(f, "release `{name}/{version}`"),
            Resource::Stemcell { name, version } => write!(f, "stemcell `{name}/{version}`"),
        }
    }
}

#[derive(Deserialize)]
struct Config {
    content: String,
}

#[derive(Deserialize)]
struct Release {
    name: String,
    release_versions: Vec<ReleaseVersion>,
}

#[derive(Deserialize)]
struct ReleaseVersion {
    version: String,
}

#[derive(Deserialize)]
struct Stemcell {
    name: String,
    #[serde(default)]
    operating_system: Option<String>,
    version: String,
}

impl Director {
    /// What the cloud configs have together; none where the client sees none: a team may see its own configs only.
    pub(crate) async fn cloud_resources(&self) -> Result<Option<BTreeSet<Resource>>, Error> {
        let act = "read the cloud config";
        let query = [("type", "cloud"), ("latest", "true")];
        let configs: Option<Vec<Config>> = if_told(self.get(act, "/configs", &query).await)?;
        let Some(configs) = configs.filter(|configs| !configs.is_empty()) else { return Ok(None) };
        let mut resources = BTreeSet::new();
        for config in configs {
            let content = serde_yaml::from_str(&config.content);
            let content: Value = content.map_err(|cause| Error::Garbled { act, why: cause.to_string() })?;
            resources.append(&mut cloud_resources(&content));
        }
        Ok(Some(resources))
    }

    /// The releases; none where the director does not tell.
    pub(crate) async fn releases(&self) -> Result<Option<BTreeSet<Resource>>, Error> {
        let releases: Option<Vec<Release>> = self.list_if_told("list the releases", "/releases").await?;
        let resources = |release: Release| {
            let versions = release.release_versions.into_iter();
            versions.map(move |ReleaseVersion { version }| Resource::Release { name: release.name.clone(), version })
        };
        Ok(releases.map(|releases| releases.into_iter().flat_map(resources).collect()))
    }

    /// The stemcells, by name and by operating system; none where the director does not tell.
    pub(crate) async fn stemcells(&self) -> Result<Option<BTreeSet<Resource>>, Error> {
        let stemcells: Option<Vec<Stemcell>> = self.list_if_told("list the stemcells", "/stemcells").await?;
        let resources = |Stemcell { name, operating_system, version }: Stemcell| {
            let names = std::iter::once(name).chain(operating_system);
            names.map(move |name| Resource::Stemcell { name, version: version.clone() })
        };
        Ok(stemcells.map(|stemcells| stemcells.into_iter().flat_map(resources).collect()))
    }

    async fn list_if_told<T: DeserializeOwned>(&self, act: &'static str, path: &str) -> Result<Option<T>, Error> {
        if_told(self.get(act, path, &[]).await)
    }
}

/// None where the director has no such endpoint, or not for us.
fn if_told<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(told) => Ok(Some(told)),
        Err(Error::Refused { status: StatusCode::NOT_FOUND | StatusCode::FORBIDDEN, .. }) => Ok(None),
        // Without a code the director does not know us at all.
        Err(Error::Refused { status: StatusCode::UNAUTHORIZED, code: 1.., .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

type Kind = fn(String) -> Resource;

/// What a cloud config has.
fn cloud_resources(content: &Value) -> BTreeSet<Resource> {
    let kinds: [(&str, Kind); 5] = [
        ("azs", Resource::AvailabilityZone),
        ("vm_types", Resource::VmType),
        ("vm_extensions", Resource::VmExtension),
        ("disk_types", Resource::DiskType),
        ("networks", Resource::Network),
    ];
    let entries = |list: &str| content.get(list).and_then(Value::as_sequence).into_iter().flatten();
    let named = |(list, kind): (&str, Kind)| {
        let names = entries(list).filter_map(|entry| entry.get("name")?.as_str());
        names.map(|name| kind(name.to_owned())).collect::<Vec<Resource>>()
    };
    kinds.into_iter().flat_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_a_cloud_config_counts() {
        let content = "{azs: [{name: z1}], vm_types: [{name: small}], vm_extensions: [{name: lb}], networks: [{name: default}], \
            disk_types: [{name: 5GB, disk_size: 5120}], compilation: {workers: 1}}";
        let resources = cloud_resources(&serde_yaml::from_str(content).unwrap());
        let told: Vec<String> = resources.iter().map(Resource::to_string).collect();
        let expected =
            ["availability zone `z1`", "VM type `small`", "VM extension `lb`", "disk type `5GB`", "network `default`"];
        assert_eq!(told, expected);
        assert!(cloud_resources(&serde_yaml::from_str("azs:\nvm_types: 7").unwrap()).is_empty());
    }
}
