//! The release, the programs, the cloud config and the manifests of the tests.

pub(crate) const RELEASE: &str = "
name: tandem
version: 0.1.0
jobs:
- name: server
  program: server
  provides: [{name: mysql, type: mysql, port: 3306, health: {port: 8008, path: /v1/leader}}]
  consumes: [{name: mysql, type: mysql}]
- {name: broken, program: broken, ports: [8008]}
- {name: deaf, program: deaf, ports: [8008]}
- {name: fix, errand: fix, pre_stop: [prepare]}
- {name: fail, errand: fail, pre_stop: [prepare]}
- {name: slow, errand: slow}
- {name: chatty, errand: chatty}
";

pub(crate) const PROGRAMS: [(&str, &str); 8] = [
    (
        "server",
        "end() { touch data/is-ending; while [ -e data/slow-to-end ]; do sleep 0.02; done; kill $!; exit 0; }
trap end TERM
sleep 100000 &
while :; do wait; done",
    ),
    ("broken", "exit 1"),
    // It runs, and never listens.
    ("deaf", "exec sleep 100000"),
    ("fix", "echo fixed; echo \"$1 $2\" >&2"),
    ("fail", "echo not today; exit 7"),
    // Of two jobs; it takes no time unless `data/prepares` is there, which may have it mind no SIGTERM.
    ("prepare", "[ -e data/prepares ] || exit 0\n. ./data/prepares\necho $$ >>data/is-preparing\nexec sleep 100000"),
    ("slow", "echo begun; touch data/slow-has-begun; exec sleep 100000"),
    ("chatty", "head -c 300000 /dev/zero | tr '\\0' x"),
];

/// The cloud config of the third octet `block`.
pub(crate) fn cloud_config(block: u8) -> String {
    format!(
        "
azs: [{{name: z1}}, {{name: z2}}]
vm_types: [{{name: small, cloud_properties: {{cpu: 1, ram: 512}}}}, {{name: large, cloud_properties: {{cpu: 2, ram: 2048}}}}]
disk_types: [{{name: 5GB, disk_size: 5120}}, {{name: 10GB, disk_size: 10240}}]
networks:
- name: default
  type: manual
  subnets:
  - {{az: z1, range: 127.96.{block}.0/27, gateway: 127.96.{block}.1}}
  - {{az: z2, range: 127.96.{block}.32/27}}
- {{name: clients, type: vip, subnets: [{{range: 127.96.{block}.64/27}}]}}
"
    )
}

/// A manifest of `d` with the given number of instances and properties of the job `server`.
pub(crate) fn manifest(instances: u32, properties: &str) -> String {
    format!(
        "
name: d
releases: [{{name: tandem, version: 0.1.0}}]
stemcells: [{{alias: default, os: ubuntu-jammy, version: '1.930'}}]
update: {{canaries: 1, max_in_flight: 1, canary_watch_time: 1-20000, update_watch_time: 1-20000}}
instance_groups:
- name: mysql
  instances: {instances}
  azs: [z1, z2]
  vm_type: small
  persistent_disk_type: 5GB
  networks: [{{name: default}}]
  jobs:
  - name: server
    release: tandem
    provides: {{mysql: {{as: mysql, shared: true}}}}
    consumes: {{mysql: {{from: mysql}}}}
    properties: {properties}
  - {{name: fix, release: tandem}}
  - {{name: fail, release: tandem}}
  - {{name: slow, release: tandem}}
variables:
- {{name: password, type: password}}
"
    )
}
