//! The stable client address of a deployment, by way of the director's links.

use anyhow::Context;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Director, Error, document, refusal};
use crate::manifest::MYSQL_LINK;

#[derive(Deserialize)]
struct Provider {
    id: Value,
    name: String,
}

#[derive(Deserialize)]
struct Link {
    id: Value,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

impl Director {
    /// The address at which the healthy server of a deployment answers, for as long as the deployment lives.
    ///
    /// One consumer for all bindings: a director gives the same link to the same consumer, and nobody deletes it, so
    /// concurrent bindings cannot take it from each other. It goes with the deployment.
    pub(crate) async fn client_address(&self, deployment: &str) -> anyhow::Result<String> {
        let query = [("deployment", deployment)];
        let providers: Vec<Provider> = self.get("list the link providers", "/link_providers", &query).await?;
        let provider = providers
            .into_iter()
            .find(|provider| provider.name == MYSQL_LINK)
            .with_context(|| format!("the deployment {deployment} offers no shared link `{MYSQL_LINK}`"))?;
        let link = self.link(provider.id).await?;
        let query = [("link_id", link.as_str()), ("status", "healthy")];
        let found: Address = self.get("ask for the address of a link", "/link_address", &query).await?;
        Ok(found.address)
    }

    async fn link(&self, provider: Value) -> Result<String, Error> {
        let act = "make a link";
        let owner = json!({"name": agent::api::BROKER_NAME, "type": "external"});
        let body = json!({"link_provider_id": provider, "link_consumer": {"owner_object": owner}});
        let response = self.send(act, self.request(Method::POST, "/links").json(&body)).await?;
        if !response.status().is_success() {
            return Err(refusal(act, response).await);
        }
        let link: Link = document(act, response).await?;
        Ok(match link.id {
            Value::String(id) => id,
            other => other.to_string(),
        })
    }
}
