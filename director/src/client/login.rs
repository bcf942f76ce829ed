//! How we show a director who we are: with our name and secret in every request, or with a token of its UAA, which gets
//! them once.

use anyhow::{Context, bail};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde_json::Value;

/// The name and the secret of a client.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) client: String,
    pub(super) secret: Option<String>,
}

/// What a director wants to see.
#[derive(Clone)]
pub(super) enum Login {
    Basic,
    Token { uaa: Url, token: String },
}

impl Login {
    /// As `/info` says.
    pub(super) async fn new(http: &Client, info: &Value, credentials: &Credentials) -> anyhow::Result<Self> {
        let authentication = &info["user_authentication"];
        if authentication["type"] != "uaa" {
            return Ok(Self::Basic);
        }
        let url = authentication["options"]["url"].as_str().unwrap_or_default();
        let uaa = Url::parse(url).with_context(|| format!("the director's UAA has no usable address: '{url}'"))?;
        let token = ask_for_token(http, &uaa, credentials).await?;
        Ok(Self::Token { uaa, token })
    }

    /// The same with another token; `None` where there is none.
    pub(super) async fn renewed(&self, http: &Client, credentials: &Credentials) -> anyhow::Result<Option<Self>> {
        match self {
            Self::Basic => Ok(None),
            Self::Token { uaa, .. } => {
                let token = ask_for_token(http, uaa, credentials).await?;
                Ok(Some(Self::Token { uaa: uaa.clone(), token }))
            }
        }
    }

    pub(super) fn sign(&self, request: RequestBuilder, credentials: &Credentials) -> RequestBuilder {
        match self {
            Self::Basic => request.basic_auth(&credentials.client, credentials.secret.as_ref()),
            Self::Token { token, .. } => request.bearer_auth(token),
        }
    }
}

async fn ask_for_token(http: &Client, uaa: &Url, credentials: &Credentials) -> anyhow::Result<String> {
    let url = format!("{}/oauth/token", uaa.as_str().trim_end_matches('/'));
    let request = http.post(url).basic_auth(&credentials.client, credentials.secret.as_ref());
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = request.body("grant_type=client_credentials").send().await;
    let answer =
        answer.map_err(reqwest::Error::without_url).with_context(|| format!("cannot reach the UAA at {uaa}"))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            bail!("the UAA does not know this client: set BOSH_CLIENT and BOSH_CLIENT_SECRET")
        }
        status => bail!("the UAA answered {status} instead of a token"),
    }
    let text = answer.text().await.context("read the UAA's answer")?;
    let answer: Value = serde_json::from_str(&text).context("understand the UAA's answer")?;
    answer["access_token"].as_str().map(str::to_owned).context("the UAA's answer has no token")
}
