//! The block `lifecycle_errands` of a plan: errands that run on an instance after each deployment of it, or before it is
//! deleted, one behind the other.

use std::collections::HashSet;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::bosh::Target;
use crate::manifest::CONFIGURE_ERRAND;

/// The errands of a plan.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LifecycleErrands {
    /// After every creation and every update.
    pub(crate) post_deploy: Vec<Errand>,
    pub(crate) pre_delete: Vec<Errand>,
}

/// An errand of the plan's manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Errand {
    pub(crate) name: String,
    /// Where it runs; wherever its job is, where this says nothing.
    #[serde(default)]
    pub(crate) instances: Vec<Target>,
}

impl LifecycleErrands {
    pub(super) fn check(&self, place: &str) -> anyhow::Result<()> {
        let check = |list: &str, errands| check(errands).with_context(|| format!("`{list}` of {place}"));
        check("lifecycle_errands.post_deploy", &self.post_deploy)?;
        check("lifecycle_errands.pre_delete", &self.pre_delete)
    }
}

/// A director tells the tasks of errands apart by the names of these.
fn check(errands: &[Errand]) -> anyhow::Result<()> {
    let mut names = HashSet::new();
    for Errand { name, .. } in errands {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        ensure!(!name.is_empty() && name.chars().all(is_plain), "`{name}` is no name of a job");
        ensure!(name != CONFIGURE_ERRAND, "`{name}` runs without being named here");
        ensure!(names.insert(name), "`{name}` stands there twice");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;

    const OURS: &str = include_str!("../../../manifests/catalog.yml");

    fn with(errands: &str) -> anyhow::Result<Catalog> {
        Catalog::parse(&OURS.replacen(
            "    free: true",
            &format!("    free: true\n    lifecycle_errands: {errands}"),
            1,
        ))
    }

    #[test]
    fn errands_are_read_in_their_order_and_never_served() {
        let catalog = with("{post_deploy: [{name: smoke, instances: [mysql/0]}, {name: inspect}]}").unwrap();
        let plan = catalog.plans().next().unwrap();
        let names: Vec<&str> = plan.lifecycle_errands.post_deploy.iter().map(|errand| errand.name.as_str()).collect();
        assert_eq!(names, ["smoke", "inspect"]);
        assert!(plan.lifecycle_errands.pre_delete.is_empty());
        assert_eq!(catalog.served().body, Catalog::parse(OURS).unwrap().served().body);
    }

    #[test]
    fn errands_that_cannot_be_run_are_refused_by_name() {
        for (errands, words) in [
            ("{pre_deploy: []}", "unknown field `pre_deploy`"),
            (
                "{pre_delete: [{name: save}, {name: save}]}",
                "pre_delete` of plan `db-single` of service `p.mysql`: `save` st",
            ),
            ("{pre_delete: [{name: save/it}]}", "`save/it` is no name of a job"),
            ("{post_deploy: [{name: configure-leader-follower}]}", "`configure-leader-follower` runs without"),
            (
                "{post_deploy: [{name: smoke, instances: [mysql/0/1]}]}",
                "`mysql/0/1` is neither a group nor an instance",
            ),
        ] {
            let complaint = format!("{:#}", with(errands).unwrap_err());
            assert!(complaint.contains(words), "{errands}: {complaint}");
        }
    }
}
