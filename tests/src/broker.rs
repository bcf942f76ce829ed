//! The broker as a platform sees it: Open Service Broker API requests in raw JSON.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::wait::eventually;

/// The offering of `manifests/catalog.yml`.
pub const SERVICE_ID: &str = "7b7d8c3e-6f0e-4f6b-9a0d-3c0f5d4f1a10";
/// The plan `db-single`.
pub const DB_SINGLE: &str = "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21";
/// The plan `db-leader-follower`.
pub const DB_LEADER_FOLLOWER: &str = "5d2f3f7c-1b1f-4d7e-b6cb-2f7a0a8a9e32";
/// The version of the specification that the requests speak.
const API_VERSION: &str = "2.17";
/// Time for an operation to end.
const OPERATION_LIMIT: Duration = Duration::from_secs(180);
/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A broker and its platform's credentials.
#[derive(Clone)]
pub struct Broker {
    /// `http://VM:8080`.
    pub url: String,
    /// The platform's user.
    pub username: String,
    /// The platform's password.
    pub password: String,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("url", &self.url).finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null where it is not JSON.
    pub body: Value,
}

/// A new service instance or binding id.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The deployment of a service instance.
#[must_use]
pub fn deployment_of(instance: &str) -> String {
    format!("service-instance_{instance}")
}

/// The body of a provision request.
#[must_use]
pub fn provision_body(plan: &str) -> Value {
    json!({
        "service_id": SERVICE_ID,
        "plan_id": plan,
        "organization_guid": "3f2c1c9e-7f3e-4f43-9a5c-0d1f8a1b2c3d",
        "space_guid": "a1b2c3d4-0000-4000-8000-000000000001",
        "context": {"platform": "cloudfoundry"},
    })
}

impl Broker {
    /// The broker that a VM's `config.json` describes.
    ///
    /// # Errors
    /// A field is missing.
    pub fn from_config(config: &Value) -> Result<Broker> {
        let word = |value: &Value, name: &str| -> Result<String> {
            value.as_str().map(str::to_owned).with_context(|| format!("read {name} of the broker's configuration"))
        };
        let properties = &config["properties"];
        let ip = word(&config["spec"]["ip"], "spec.ip")?;
        let port = properties["port"].as_u64().context("read properties.port of the broker's configuration")?;
        Ok(Broker {
            url: format!("http://{ip}:{port}"),
            username: word(&properties["username"], "properties.username")?,
            password: word(&properties["password"], "properties.password")?,
        })
    }

    /// Send a request with good credentials and the version header.
    ///
    /// # Errors
    /// No answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let request = self.request(method, path)?.basic_auth(&self.username, Some(&self.password));
        let request = request.header("X-Broker-API-Version", API_VERSION);
        send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// A request without credentials or headers, for the tests that give bad ones.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(ANSWER_LIMIT).build();
        Ok(http.context("make the HTTP client")?.request(method, format!("{}{path}", self.url)))
    }

    /// `GET`.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// Ask for a service instance.
    ///
    /// # Errors
    /// No answer.
    pub async fn provision(&self, instance: &str, plan: &str) -> Result<Answer> {
        let path = format!("/v2/service_instances/{instance}?accepts_incomplete=true");
        self.call(Method::PUT, &path, Some(&provision_body(plan))).await
    }

    /// Ask for a change of a service instance: what the body has beside the offering.
    ///
    /// # Errors
    /// No answer.
    pub async fn update(&self, instance: &str, changes: &Value) -> Result<Answer> {
        let mut body = changes.clone();
        body["service_id"] = SERVICE_ID.into();
        let path = format!("/v2/service_instances/{instance}?accepts_incomplete=true");
        self.call(Method::PATCH, &path, Some(&body)).await
    }

    /// Ask for the end of a service instance.
    ///
    /// # Errors
    /// No answer.
    pub async fn deprovision(&self, instance: &str, plan: &str) -> Result<Answer> {
        let path =
            format!("/v2/service_instances/{instance}?accepts_incomplete=true&service_id={SERVICE_ID}&plan_id={plan}");
        self.call(Method::DELETE, &path, None).await
    }

    /// What `last_operation` says now.
    ///
    /// # Errors
    /// No answer.
    pub async fn last_operation(&self, instance: &str) -> Result<Answer> {
        self.get(&format!("/v2/service_instances/{instance}/last_operation")).await
    }

    /// Wait until the operation is over; the state is `succeeded`, `failed` or (a finished delete, 410) `gone`.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn settled(&self, instance: &str) -> Result<Value> {
        eventually(format!("the operation on {instance} ends"), OPERATION_LIMIT, async || {
            let answer = self.last_operation(instance).await?;
            match (answer.status, answer.body["state"].as_str()) {
                (410, _) => Ok(Some(json!({"state": "gone"}))),
                (200, Some("in progress")) => Ok(None),
                (200, Some(_)) => Ok(Some(answer.body)),
                _ => bail!("last_operation answered {}: {}", answer.status, answer.body),
            }
        })
        .await
    }

    /// Provision and wait for success.
    ///
    /// # Errors
    /// It fails.
    pub async fn provisioned(&self, instance: &str, plan: &str) -> Result<()> {
        let answer = self.provision(instance, plan).await?;
        ensure!(answer.status == 202, "provision was answered with {}: {}", answer.status, answer.body);
        let end = self.settled(instance).await?;
        ensure!(end["state"] == "succeeded", "the provision ended as {end}");
        Ok(())
    }

    /// Deprovision and wait for success.
    ///
    /// # Errors
    /// It fails.
    pub async fn deprovisioned(&self, instance: &str, plan: &str) -> Result<()> {
        let answer = self.deprovision(instance, plan).await?;
        ensure!(answer.status == 202, "deprovision was answered with {}: {}", answer.status, answer.body);
        let end = self.settled(instance).await?;
        ensure!(end["state"] == "gone" || end["state"] == "succeeded", "the deprovision ended as {end}");
        Ok(())
    }

    /// Bind.
    ///
    /// # Errors
    /// No answer.
    pub async fn bind(&self, instance: &str, plan: &str, binding: &str) -> Result<Answer> {
        let body = json!({"service_id": SERVICE_ID, "plan_id": plan});
        let path = format!("/v2/service_instances/{instance}/service_bindings/{binding}");
        self.call(Method::PUT, &path, Some(&body)).await
    }

    /// Unbind.
    ///
    /// # Errors
    /// No answer.
    pub async fn unbind(&self, instance: &str, plan: &str, binding: &str) -> Result<Answer> {
        let path = format!(
            "/v2/service_instances/{instance}/service_bindings/{binding}?service_id={SERVICE_ID}&plan_id={plan}"
        );
        self.call(Method::DELETE, &path, None).await
    }
}

/// Send a request and read whatever comes back.
///
/// # Errors
/// No answer.
pub async fn send(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await.context("ask the broker")?;
    let status = response.status().as_u16();
    let text = response.text().await.context("read the broker's answer")?;
    Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}
