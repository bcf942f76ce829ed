//! The plans that are measured beside the two of our catalog: a pair of each family in each mode.

use serde_json::{Value, json};
use tests::clients::Family;

/// The lease of these pairs; a lost VM is waited for so long.
pub(crate) const LEASE_MS: u64 = 3_000;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Async,
    SemiSync,
}

impl Mode {
    /// The word of catalogs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Async => "async",
            Mode::SemiSync => "semi-sync",
        }
    }
}

/// The plan of a pair.
pub(crate) fn pair(family: Family, mode: Mode) -> &'static str {
    match (family, mode) {
        (Family::Mariadb, Mode::Async) => "3a0c1d52-7f2e-4f0e-8f0b-1f6f5b0c0a01",
        (Family::Mariadb, Mode::SemiSync) => "3a0c1d52-7f2e-4f0e-8f0b-1f6f5b0c0a02",
        (Family::Mysql, Mode::Async) => "3a0c1d52-7f2e-4f0e-8f0b-1f6f5b0c0a03",
        (Family::Mysql, Mode::SemiSync) => "3a0c1d52-7f2e-4f0e-8f0b-1f6f5b0c0a04",
    }
}

/// For the catalog.
pub(crate) fn all() -> Vec<Value> {
    let families = [Family::Mariadb, Family::Mysql];
    families.into_iter().flat_map(|family| [Mode::Async, Mode::SemiSync].map(|mode| plan(family, mode))).collect()
}

/// What may lose nothing may take over without being asked.
fn plan(family: Family, mode: Mode) -> Value {
    let failover = match mode {
        Mode::Async => "manual",
        Mode::SemiSync => "automatic",
    };
    json!({
        "id": pair(family, mode), "name": format!("{}-{}", family.name(), mode.name()), "description": "A pair that is measured",
        "deployment": {
            "topology": "leader-follower", "server": family.name(), "azs": ["z1", "z2"], "vm_type": "small",
            "disk_type": "5GB", "replication_mode": mode.name(), "lease_ttl_in_ms": LEASE_MS, "failover": failover,
        },
    })
}
