//! What a manifest's `variables:` defines and `((name))` uses: passwords, certificates and RSA keys, made once and kept
//! in one file. It plays the part that a config server (CredHub) plays for a real director. A relative name belongs to
//! its deployment; an absolute one (leading `/`) to everybody.

mod definition;
mod generate;
pub(crate) mod interpolate;
mod kept;

use std::path::Path;

use anyhow::Context;
use serde_yaml::Value;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use definition::{Definition, Kind};
use kept::{Entry, Kept};

/// The variables of every deployment.
pub(crate) struct Variables {
    /// Held while keys are made, so that two deployments do not both make the authority that they share.
    kept: Mutex<Kept>,
}

/// Why a manifest's variables cannot be filled in. The texts name variables, never values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("cannot keep the variables")]
    Store(#[source] anyhow::Error),
}

impl Variables {
    pub(crate) fn open(state: &Path) -> anyhow::Result<Self> {
        Ok(Self { kept: Mutex::new(Kept::open(&state.join("variables.json"))?) })
    }

    /// Make what `variables:` defines and is missing, then fill in every `((name))` and `((name.part))`.
    pub(crate) async fn resolve(&self, deployment: &str, manifest: &Value) -> Result<Value, Error> {
        let definitions = definition::parse(manifest).map_err(Error::Invalid)?;
        let defined = definitions.iter().map(|definition| definition.name.clone()).collect();
        let used =
            interpolate::references(manifest).union(&defined).filter(|name| is_absolute(name)).cloned().collect();
        let mut kept = self.kept.lock().await;
        let made = make_missing(&kept, deployment, definitions, OffsetDateTime::now_utc()).await?;
        let filled = interpolate::fill(manifest, &|reference| {
            let entry = find(&kept, &made, deployment, reference.name)?;
            part_of(&entry.value, reference.part)
        });
        let explain = |reference: &String| explain(reference, |name| find(&kept, &made, deployment, name).is_some());
        let problems: Vec<String> = filled.unknown.iter().map(explain).chain(filled.unfit).collect();
        if !problems.is_empty() {
            return Err(Error::Invalid(problems.join("; ")));
        }
        kept.add(deployment, made, used).map_err(Error::Store)?;
        Ok(filled.value)
    }

    /// The id and the full name of every variable that the deployment uses.
    pub(crate) async fn list(&self, deployment: &str) -> Vec<(String, String)> {
        self.kept.lock().await.list(deployment)
    }

    /// Drop the variables of a deleted deployment. Those with an absolute name belong to everybody and stay.
    pub(crate) async fn forget(&self, deployment: &str) -> anyhow::Result<()> {
        self.kept.lock().await.forget(deployment).context("forget the deployment's variables")
    }
}

fn is_absolute(name: &str) -> bool {
    name.starts_with('/')
}

type Made = Vec<(String, Entry)>;

fn find<'a>(kept: &'a Kept, made: &'a Made, deployment: &str, name: &str) -> Option<&'a Entry> {
    let fresh = made.iter().find(|(made, _)| made == name).map(|(_, entry)| entry);
    fresh.or_else(|| kept.get(deployment, name))
}

fn part_of(value: &serde_json::Value, part: Option<&str>) -> Option<Value> {
    let value = match part {
        None => value,
        Some(part) => value.get(part)?,
    };
    serde_yaml::to_value(value).ok()
}

fn explain(reference: &str, is_known: impl Fn(&str) -> bool) -> String {
    match reference.split_once('.') {
        Some((name, part)) if is_known(name) => format!("the variable {name} has no part named {part}"),
        Some((name, _)) => format!("the variable {name} is not defined in `variables:` and was not given"),
        None => format!("the variable {reference} is not defined in `variables:` and was not given"),
    }
}

/// Make the missing ones, each certificate after the authority that signs it, in whatever order they are written.
async fn make_missing(
    kept: &Kept,
    deployment: &str,
    definitions: Vec<Definition>,
    now: OffsetDateTime,
) -> Result<Made, Error> {
    let mut made = Made::new();
    let mut waiting: Vec<Definition> =
        definitions.into_iter().filter(|definition| kept.get(deployment, &definition.name).is_none()).collect();
    while !waiting.is_empty() {
        let is_ready = |definition: &Definition| {
            definition.signer().is_none_or(|signer| find(kept, &made, deployment, signer).is_some())
        };
        let Some(next) = waiting.iter().position(is_ready) else {
            return Err(Error::Invalid(no_signer(&waiting)));
        };
        let definition = waiting.remove(next);
        let signer = definition.signer().and_then(|signer| find(kept, &made, deployment, signer)).cloned();
        let name = definition.name.clone();
        let is_ca = definition.is_ca();
        let making = tokio::task::spawn_blocking(move || generate::generate(&definition, signer.as_ref(), now));
        let value = making.await.context("make a variable").map_err(Error::Store)?.map_err(Error::Invalid)?;
        made.push((name, Entry { id: String::new(), is_ca, value }));
    }
    Ok(made)
}

/// Nothing that is left can be made: an authority is not there, or they wait for each other.
fn no_signer(waiting: &[Definition]) -> String {
    let is_defined = |name: &str| waiting.iter().any(|definition| definition.name == name);
    let orphan = waiting.iter().find(|definition| definition.signer().is_some_and(|signer| !is_defined(signer)));
    match orphan.or(waiting.first()) {
        Some(Definition { name, kind: Kind::Certificate(options) }) => match &options.ca {
            Some(ca) if is_defined(ca) => format!("the certificates {name} and {ca} are to sign each other"),
            ca => format!(
                "the certificate {name} is to be signed by {}, which is not defined in `variables:`",
                ca.as_deref().unwrap_or_default()
            ),
        },
        Some(Definition { name, .. }) => format!("the variable {name} cannot be made"),
        None => "no variable is left to be made".to_owned(),
    }
}

#[cfg(test)]
mod tests;
