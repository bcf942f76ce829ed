//! Links: how somebody outside of a deployment finds its address.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::answer::{self, Answer, Query};
use crate::error::{Code, Error, Result};
use crate::link;
use crate::model::{Link, Provider};

#[derive(Deserialize)]
pub(super) struct DeploymentQuery {
    deployment: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct AddressQuery {
    link_id: Option<String>,
}

#[derive(Deserialize)]
struct Create {
    link_provider_id: Value,
    link_consumer: Consumer,
}

#[derive(Deserialize)]
struct Consumer {
    owner_object: Owner,
}

#[derive(Deserialize)]
struct Owner {
    name: String,
}

pub(super) async fn providers(State(app): State<App>, Query(query): Query<DeploymentQuery>) -> Answer {
    let name = required(query.deployment)?;
    let deployment = app.store.deployment(&name)?;
    let row = |provider: &Provider| {
        json!({"id": provider.id.to_string(), "name": provider.name, "shared": provider.shared, "deployment": name,
            "link_provider_definition": {"type": provider.kind, "name": provider.original_name},
            "owner_object": {"type": "job", "name": provider.job, "info": {"instance_group": provider.group}}})
    };
    answer::json(&deployment.providers.iter().map(row).collect::<Vec<Value>>())
}

pub(super) async fn list(State(app): State<App>, Query(query): Query<DeploymentQuery>) -> Answer {
    let deployment = app.store.deployment(&required(query.deployment)?)?;
    let name = |link: &Link| deployment.providers.iter().find(|p| p.id == link.provider).map(|p| &p.original_name);
    answer::json(&deployment.links.iter().map(|link| row(link, name(link))).collect::<Vec<Value>>())
}

pub(super) async fn create(State(app): State<App>, body: Bytes) -> Answer {
    let create: Create = serde_json::from_slice(&body).map_err(|cause| invalid(&cause.to_string()))?;
    let provider = create.link_provider_id.as_str().map_or(create.link_provider_id.to_string(), str::to_owned);
    let provider = provider.parse().map_err(|_| invalid("link_provider_id must be the id of a link provider"))?;
    let (link, name) = link::create(&app, provider, &create.link_consumer.owner_object.name).await?;
    answer::json(&row(&link, Some(&name)))
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Answer {
    link::delete(&app, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `status` and `azs` choose among instances; the one address that there is follows the healthy one by itself.
pub(super) async fn address(State(app): State<App>, Query(query): Query<AddressQuery>) -> Answer {
    let id = query.link_id.ok_or_else(|| Error::new(Code::LinkMissingId, "Link id is required"))?;
    answer::json(&json!({"address": link::address(&app, &id)?}))
}

fn row(link: &Link, name: Option<&String>) -> Value {
    json!({"id": link.id.to_string(), "name": name, "link_consumer_id": link.id.to_string(),
        "link_provider_id": link.provider.to_string(), "created_at": link.created_at})
}

fn required(deployment: Option<String>) -> Result<String> {
    let missing = || Error::new(Code::MissingParameter, "Deployment name is required as a parameter");
    deployment.filter(|name| !name.is_empty()).ok_or_else(missing)
}

fn invalid(cause: &str) -> Error {
    Error::new(Code::LinkInvalidPayload, format!("Invalid request: {cause}"))
}
