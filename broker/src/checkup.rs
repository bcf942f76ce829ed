//! Can the director do what the catalog promises? Asked at the start, and after every new catalog, until all is well; what is
//! wrong is said with its cause and what to do. The broker serves meanwhile: wishes are accepted and wait.

mod diagnosis;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::app::App;
use crate::bosh::{self, Resource};
use crate::documents::Documents;
use diagnosis::{advice, is_too_old, missing};

/// The pause between two looks doubles from the first to the last while something is wrong.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// What a look at the director has shown.
#[derive(Debug)]
struct Findings {
    director: String,
    version: String,
    /// Whether the director knows who asks.
    is_known: bool,
    has: Inventory,
}

/// What the director has; none where it does not tell.
#[derive(Debug, Default)]
struct Inventory {
    cloud: Option<BTreeSet<Resource>>,
    releases: Option<BTreeSet<Resource>>,
    stemcells: Option<BTreeSet<Resource>>,
}

/// Check until all is well, and again after every new catalog.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        let mut pause = PAUSE_MIN;
        while !is_well(&app).await {
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = app.reloaded.notified() => pause = PAUSE_MIN,
            }
        }
        app.reloaded.notified().await;
    }
}

/// Look, and say what was found.
async fn is_well(app: &App) -> bool {
    match check(app).await {
        Ok((findings, complaints)) => {
            let Findings { director, version, has, .. } = findings;
            for complaint in &complaints {
                tracing::error!(director, version, "operations will fail: {complaint}");
            }
            if complaints.is_empty() {
                let is_unseen = has.cloud.is_none();
                tracing::info!(director, version, is_cloud_config_unseen = is_unseen, "the director answers");
            }
            complaints.is_empty()
        }
        Err(error) => {
            tracing::error!(cause = format!("{error:#}"), "operations wait for the director");
            false
        }
    }
}

async fn check(app: &App) -> anyhow::Result<(Findings, Vec<String>)> {
    let findings = match look(&app.director).await {
        Ok(findings) => findings,
        Err(error) => {
            let advice = advice(&error);
            return Err(anyhow::Error::new(error).context(advice));
        }
    };
    let documents = app.documents();
    let complaints = complaints(&findings, &needs(&documents)?);
    Ok((findings, complaints))
}

async fn look(director: &bosh::Director) -> Result<Findings, bosh::Error> {
    let info = director.info().await?;
    let is_known = info.user.is_some();
    // Whoever is not known gets no answer to anything else.
    let has = if is_known { inventory(director).await? } else { Inventory::default() };
    Ok(Findings { director: info.name, version: info.version, is_known, has })
}

async fn inventory(director: &bosh::Director) -> Result<Inventory, bosh::Error> {
    Ok(Inventory {
        cloud: director.cloud_resources().await?,
        releases: director.releases().await?,
        stemcells: director.stemcells().await?,
    })
}

/// What the plans need, and which plans need it.
fn needs(documents: &Documents) -> anyhow::Result<BTreeMap<Resource, Vec<&str>>> {
    let mut needs = BTreeMap::<Resource, Vec<&str>>::new();
    for plan in documents.catalog.plans() {
        let resources = documents.manifests.needs(&plan.deployment);
        for need in resources.with_context(|| format!("read the manifest of plan `{}`", plan.name))? {
            needs.entry(need).or_default().push(&plan.name);
        }
    }
    Ok(needs)
}

/// What is wrong, for the operator.
fn complaints(findings: &Findings, needs: &BTreeMap<Resource, Vec<&str>>) -> Vec<String> {
    let mut complaints = Vec::new();
    if !findings.is_known {
        complaints.push(
            "the director does not know us: check the properties `director.client` and `director.client_secret`".into(),
        );
    }
    if is_too_old(&findings.version) {
        let version = &findings.version;
        complaints.push(format!("the director is too old: it is {version}, but links need 266.12, 267.6 or later"));
    }
    for (resource, place) in missing(needs.keys(), &findings.has) {
        let plans: Vec<String> = needs[resource].iter().map(|plan| format!("`{plan}`")).collect();
        complaints.push(format!("{place} does not have the {resource}, which the plan needs: {}", plans.join(", ")));
    }
    complaints
}
