//! What a manifest asks the director for, by name.

use std::collections::BTreeSet;

use serde_yaml::Value;

use crate::bosh::Resource;

/// Everything that a manifest names and the director must have.
pub(super) fn needs(manifest: &Value) -> BTreeSet<Resource> {
    let mut needs = BTreeSet::new();
    for group in list(manifest, "instance_groups") {
        let azs = list(group, "azs").filter_map(text).map(Resource::AvailabilityZone);
        let extensions = list(group, "vm_extensions").filter_map(text).map(Resource::VmExtension);
        let networks = list(group, "networks").filter_map(|network| member(network, "name")).map(Resource::Network);
        needs.extend(azs.chain(extensions).chain(networks));
        needs.extend(member(group, "vm_type").map(Resource::VmType));
        needs.extend(member(group, "persistent_disk_type").map(Resource::DiskType));
    }
    let release = |entry: &Value| Some(Resource::Release { name: member(entry, "name")?, version: version(entry)? });
    let stemcell = |entry: &Value| {
        let name = member(entry, "os").or_else(|| member(entry, "name"))?;
        Some(Resource::Stemcell { name, version: version(entry)? })
    };
    needs.extend(list(manifest, "releases").filter_map(release));
    needs.extend(list(manifest, "stemcells").filter_map(stemcell));
    needs
}

/// The version of an entry; none where the director picks one (`latest`, `1.latest`).
fn version(entry: &Value) -> Option<String> {
    member(entry, "version").filter(|version| !version.ends_with("latest"))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_sequence).into_iter().flatten()
}

fn member(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(text)
}

/// Versions are numbers where nobody quotes them.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_a_manifest_counts_and_versions_that_the_director_picks_do_not() {
        let manifest = "{releases: [{name: tandem, version: 0.1.0}, {name: bpm, version: latest}], \
            stemcells: [{alias: default, os: jammy, version: 1.930}, {alias: other, name: bosh-jammy, version: '2'}], \
            instance_groups: [{name: mysql, azs: [z1], vm_type: small, vm_extensions: [lb], persistent_disk_type: 5GB, \
            networks: [{name: default}]}, {name: monitor, azs: [z1, z2], vm_type: micro, networks: [{name: default}]}]}";
        let needs: Vec<String> =
            needs(&serde_yaml::from_str(manifest).unwrap()).iter().map(Resource::to_string).collect();
        let expected = [
            "availability zone `z1`",
            "availability zone `z2`",
            "VM type `micro`",
            "VM type `small`",
            "VM extension `lb`",
            "disk type `5GB`",
            "network `default`",
            "release `tandem/0.1.0`",
            "stemcell `bosh-jammy/2`",
            "stemcell `jammy/1.93`",
        ];
        assert_eq!(needs, expected);
    }
}
