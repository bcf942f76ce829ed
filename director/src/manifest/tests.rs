//! A manifest becomes a deployment, or a refusal that names what is wrong.

use super::*;

const CLOUD: &str = "
azs: [{name: z1}, {name: z2}]
vm_types: [{name: small, cloud_properties: {cpu: 1, ram: 512}}]
disk_types: [{name: 5GB, disk_size: 5120}]
networks:
- {name: default, type: manual, subnets: [{az: z1, range: 127.81.1.0/24}, {az: z2, range: 127.81.2.0/24}]}
";
const RELEASE: &str = "{name: tandem, version: 0.1.0, jobs: [{name: server, program: server}]}";
const MANIFEST: &str = "
name: d
releases: [{name: tandem, version: 0.1.0}]
update: {canaries: 1, max_in_flight: 50%, canary_watch_time: 100-60000, update_watch_time: 60000}
instance_groups:
- name: mysql
  instances: 2
  azs: [z1, z2]
  vm_type: small
  persistent_disk_type: 5GB
  networks: [{name: default}]
  jobs: [{name: server, release: tandem, provides: {mysql: {as: db, shared: true}}, consumes: {mysql: {from: db}}}]
";

fn checked(manifest: &str) -> Result<Manifest> {
    let cloud = crate::cloud_config::parse(CLOUD).unwrap();
    let release: Release = serde_yaml::from_str(RELEASE).unwrap();
    let (_, value) = read(manifest)?;
    check(&value, Known { cloud: &cloud, release: &release })
}

#[test]
fn a_manifest_is_read() {
    let manifest = checked(MANIFEST).unwrap();

    let group = &manifest.groups[0];
    assert_eq!((group.instances, group.disk_mb, group.size.ram), (2, Some(5120), Some(512)));
    assert_eq!(group.update.max_in_flight.of(2), 1);
    assert_eq!(group.jobs[0].provides["mysql"].name, "db");
    assert_eq!(group.jobs[0].consumes["mysql"], "db");
    assert_eq!(group.jobs[0].properties, serde_json::json!({}));
}

#[test]
fn bad_manifests_name_what_is_wrong_and_what_exists() {
    let table = [
        ("vm_type: small", "vm_type: huge", 140_004, "references an unknown vm type 'huge': there is 'small'"),
        ("5GB", "1TB", 140_012, "references an unknown disk type '1TB': there is '5GB'"),
        ("[{name: default}]", "[{name: other}]", 150_001, "references an unknown network 'other': there is 'default'"),
        ("azs: [z1, z2]", "azs: [z1, z9]", 150_006, "it specifies 'z1', 'z9'; the network has 'z1', 'z2'"),
        ("azs: [z1, z2]", "azs: []", 150_006, "it specifies none"),
        (
            "[{name: tandem, version: 0.1.0}]",
            "[{name: tandem, version: 9}]",
            30_006,
            "'tandem/9' doesn't exist: this director has 'tandem/0.1.0'",
        ),
        ("[{name: tandem, version: 0.1.0}]", "[{name: mysql, version: 9}]", 30_005, "Release 'mysql' doesn't exist"),
        ("release: tandem", "release: other", 140_002, "unknown release 'other': there is 'tandem'"),
        ("{name: server,", "{name: client,", 190_012, "Can't find job 'client' of instance group 'mysql'"),
        ("  instances: 2\n", "", 40_001, "Required property 'instances' was not specified in instance group 'mysql'"),
        ("canaries: 1, ", "", 40_001, "Required property 'canaries' was not specified in update"),
        ("100-60000", "never", 180_001, "not 'never'"),
        ("name: d\n", "", 40_001, "must have a 'name' key"),
        ("name: d\n", "name: ../d\n", 40_002, "Invalid deployment name '../d'"),
        ("instances: 2", "instances: many", 40_002, "The manifest is not usable"),
    ];
    for (good, bad, code, expected) in table {
        let error = checked(&MANIFEST.replacen(good, bad, 1)).err().expect(bad);
        assert_eq!(error.code.number(), code, "{bad}: {error}");
        assert!(error.description.contains(expected), "{bad}: {error}");
    }
}

#[test]
fn what_is_no_manifest_at_all_is_refused() {
    for (text, expected) in
        [("", "not be empty"), ("- a", "should be a hash"), ("a: [", "Incorrect YAML"), ("x", "hash")]
    {
        let error = read(text).unwrap_err();
        assert_eq!(error.code, Code::InvalidYaml);
        assert!(error.description.contains(expected), "{text}: {error}");
    }
}

#[test]
fn references_are_listed_also_when_yaml_takes_a_version_for_a_number() {
    let manifest = "stemcells: [{alias: default, os: jammy, version: 1.5}]";

    assert_eq!(references(manifest, "stemcells"), [Reference { name: "jammy".into(), version: "1.5".into() }]);
}
