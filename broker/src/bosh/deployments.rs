//! Deployments of the director: make, delete, look at, run an errand on.

use std::net::IpAddr;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Director, Error, TaskId};

/// The director's code for a deployment that it does not know.
const NO_SUCH_DEPLOYMENT: u64 = 70000;

/// An instance of a deployment.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    #[serde(rename = "job")]
    pub(crate) group: String,
    pub(crate) index: u32,
    /// None, or `null`, where the manifest names none.
    pub(crate) az: Option<String>,
    #[serde(default)]
    pub(crate) ips: Vec<IpAddr>,
}

/// Where an errand runs: a group (`mysql`) or an instance of one, by index or id (`mysql/0`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub(crate) struct Target {
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Target {
    pub(crate) fn of(instance: &Instance) -> Target {
        Target { group: instance.group.clone(), id: Some(instance.id.clone()) }
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Target, String> {
        let words: Vec<&str> = text.split('/').collect();
        match words[..] {
            [group] if !group.is_empty() => Ok(Target { group: group.into(), id: None }),
            [group, id] if !group.is_empty() && !id.is_empty() => {
                Ok(Target { group: group.into(), id: Some(id.into()) })
            }
            _ => Err(format!("`{text}` is neither a group nor an instance of one (`mysql`, `mysql/0`)")),
        }
    }
}

impl Director {
    /// Make the deployment of a manifest. Nobody uses it yet, so no canary and all instances at once.
    pub(crate) async fn deploy_first(&self, manifest: String, context: &str) -> Result<TaskId, Error> {
        // Any other content type than exactly this one is answered with 404.
        let request = self
            .request(Method::POST, "/deployments")
            .query(&[("canaries", "0"), ("max_in_flight", "100%")])
            .header(CONTENT_TYPE, "text/yaml")
            .body(manifest);
        self.submit("create the deployment", context, request).await
    }

    /// Bring a deployment to what its manifest says, in the order of the manifest's block `update`.
    pub(crate) async fn deploy(&self, manifest: String, context: &str) -> Result<TaskId, Error> {
        let request = self.request(Method::POST, "/deployments").header(CONTENT_TYPE, "text/yaml").body(manifest);
        self.submit("update the deployment", context, request).await
    }

    /// The same where VMs may be dead: one that goes is deleted all the same, and one that stays is made again.
    pub(crate) async fn deploy_and_fix(&self, manifest: String, context: &str) -> Result<TaskId, Error> {
        let request = self.request(Method::POST, "/deployments").query(&[("fix", "true")]);
        let request = request.header(CONTENT_TYPE, "text/yaml").body(manifest);
        self.submit("update the deployment", context, request).await
    }

    /// Delete a deployment; none where the director does not know it.
    pub(crate) async fn delete_deployment(
        &self,
        name: &str,
        force: bool,
        context: &str,
    ) -> Result<Option<TaskId>, Error> {
        let mut request = self.request(Method::DELETE, &format!("/deployments/{name}"));
        if force {
            request = request.query(&[("force", "true")]);
        }
        present(self.submit("delete the deployment", context, request).await)
    }

    /// Run an errand on these, or wherever its job is. What is not aimed at instances waits for dead ones.
    pub(crate) async fn run_errand(
        &self,
        deployment: &str,
        errand: &str,
        targets: &[Target],
        context: &str,
    ) -> Result<TaskId, Error> {
        let body = json!({"keep-alive": false, "when-changed": false, "instances": targets});
        let path = format!("/deployments/{deployment}/errands/{errand}/runs");
        self.submit("run an errand", context, self.request(Method::POST, &path).json(&body)).await
    }

    /// Whether the director knows the deployment, perhaps half made or half deleted.
    pub(crate) async fn is_deployed(&self, name: &str) -> Result<bool, Error> {
        let act = "look at the deployment";
        present(self.get_response(act, &format!("/deployments/{name}"), &[]).await).map(|found| found.is_some())
    }

    /// The instances of a deployment, by index; none where the director does not know it.
    pub(crate) async fn instances(&self, deployment: &str) -> Result<Vec<Instance>, Error> {
        let path = format!("/deployments/{deployment}/instances");
        let found = present(self.get::<Vec<Instance>>("list the instances", &path, &[]).await)?;
        let mut instances = found.unwrap_or_default();
        instances.sort_by_key(|instance| instance.index);
        Ok(instances)
    }
}

fn present<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::Refused { status: StatusCode::NOT_FOUND, code: NO_SUCH_DEPLOYMENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
