//! How a request shows who sends it.

use std::sync::{Mutex, PoisonError};

use reqwest::Client;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;

pub(super) enum Credentials {
    Nobody,
    /// This header.
    Fixed(String),
    Client(UaaClient),
}

/// A client of a UAA, with the token that it has.
pub(super) struct UaaClient {
    uaa: String,
    basic: String,
    token: Mutex<Option<String>>,
}

impl Credentials {
    pub(super) fn client(uaa: &str, basic: &str) -> Self {
        Self::Client(UaaClient { uaa: uaa.to_owned(), basic: basic.to_owned(), token: Mutex::default() })
    }

    /// The value of the header, if there is one.
    pub(super) async fn authorization(&self, http: &Client) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Fixed(header) => Some(header.clone()),
            Self::Client(client) => Some(format!("bearer {}", client.token(http).await)),
        }
    }

    /// Ask for another token next time. `false` where that would change nothing.
    pub(super) fn forget(&self) -> bool {
        match self {
            Self::Nobody | Self::Fixed(_) => false,
            Self::Client(client) => client.kept().take().is_some(),
        }
    }
}

impl UaaClient {
    async fn token(&self, http: &Client) -> String {
        if let Some(token) = self.kept().clone() {
            return token;
        }
        let token = self.ask(http).await;
        *self.kept() = Some(token.clone());
        token
    }

    /// The CLI's request.
    async fn ask(&self, http: &Client) -> String {
        let request = http.post(format!("{}/oauth/token", self.uaa)).header(AUTHORIZATION, &self.basic);
        let request = request.header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = request.body("grant_type=client_credentials").send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        assert_eq!(status, 200, "{} gives no token: {text}", self.uaa);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&answer["token_type"], answer["expires_in"].is_u64()), (&Value::from("bearer"), true));
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
