//! `link-address`: the address by which clients reach a deployment, asked for as a broker does.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Body, Director};
use super::{Outcome, Success, print};

pub(super) async fn address(director: &Director, deployment: &str) -> Outcome {
    let providers = director.get(&["link_providers"], &[("deployment", deployment)]).await?;
    let provider = providers.as_array().into_iter().flatten().find(|provider| provider["shared"] == true);
    let provider = provider.with_context(|| {
        let how = "its manifest needs a job with `provides: {LINK: {as: LINK, shared: true}}`";
        format!("deployment '{deployment}' shares no link: {how}")
    })?;
    let consumer = json!({"owner_object": {"name": "link-address", "type": "external"}});
    let body = json!({"link_provider_id": provider["id"], "link_consumer": consumer});
    let link = director.change(Method::POST, &["links"], &[], Body::Json(&body)).await?;
    let id = link["id"].as_str().context("the director made a link without an id")?;
    let asked = director.get(&["link_address"], &[("link_id", id), ("status", "healthy")]).await;
    director.change(Method::DELETE, &["links", id], &[], Body::Empty).await.context("give the link back")?;
    let answer = asked?;
    let address = answer.get("address").and_then(Value::as_str).context("the director knows no address")?;
    print(&format!("{address}\n"))?;
    Ok(Success::Silent)
}
