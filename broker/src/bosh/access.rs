//! What requests to the director are authorized with. `GET /info`, which needs no authorization, says whether that is the
//! broker's name and secret (`basic`) or a token that the director's UAA gives for them (`uaa`). What was learned is used until
//! shortly before it expires, or until the director refuses it.

mod uaa;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::config::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Error, document, refusal, send};
use crate::config;

/// For so long a failure is everybody's answer, and a second refusal is taken for the director's last word: a UAA that is in
/// trouble, or that the director does not believe, is not asked more often than this.
const PAUSE: Duration = Duration::from_secs(2);

/// Who we are to the director.
#[derive(Debug)]
pub(super) struct Access {
    director: reqwest::Client,
    uaa: reqwest::Client,
    url: String,
    client: String,
    client_secret: Secret,
    last: Mutex<Option<Attempt>>,
    /// One asks at a time, and for everybody who waits.
    asking: Semaphore,
}

/// Why there is no authorization; cheap to give to everybody who waits for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the director does not say how it is to be asked")]
    Director(#[source] Arc<Error>),
    #[error("the director's `user_authentication` is not understood: {0}")]
    Unknown(String),
    #[error("the UAA {url} cannot be reached")]
    Unreachable {
        url: String,
        #[source]
        cause: Arc<reqwest::Error>,
    },
    #[error("the UAA {url} answers {status} {word}")]
    Refused { url: String, status: StatusCode, word: String },
    #[error("the answer of the UAA {url} is not understood: {why}")]
    Garbled { url: String, why: &'static str },
}

/// What came of asking.
#[derive(Debug)]
struct Attempt {
    outcome: Result<HeaderValue, Denied>,
    ended_at: Instant,
    expires_at: Option<Instant>,
    /// It came in the place of one that the director had refused.
    is_replacement: bool,
}

/// What is sent, and for how long.
struct Authorization {
    header: HeaderValue,
    lifetime: Option<Duration>,
}

/// The part of `/info` that counts here. Directors without it know nothing but `basic`.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    user_authentication: UserAuthentication,
}

#[derive(Deserialize)]
#[serde(default)]
struct UserAuthentication {
    #[serde(rename = "type")]
    kind: String,
    options: Options,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    url: Option<String>,
    urls: Vec<String>,
}

impl Default for UserAuthentication {
    fn default() -> UserAuthentication {
        UserAuthentication { kind: "basic".into(), options: Options::default() }
    }
}

impl Access {
    pub(super) fn new(director: reqwest::Client, uaa: reqwest::Client, url: &str, config: &config::Director) -> Access {
        Access {
            director,
            uaa,
            url: url.to_owned(),
            client: config.client.clone(),
            client_secret: config.client_secret.clone(),
            last: Mutex::default(),
            asking: Semaphore::new(1),
        }
    }

    /// The header `Authorization`.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, Denied> {
        self.other_than(None).await
    }

    /// What takes the place of a header that the director refused; the same one where asking again would change nothing.
    pub(super) async fn instead_of(&self, refused: &HeaderValue) -> Result<HeaderValue, Denied> {
        self.other_than(Some(refused)).await
    }

    async fn other_than(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, Denied> {
        if let Some(known) = self.known(refused) {
            return known;
        }
        let _asking = self.asking.acquire().await;
        if let Some(known) = self.known(refused) {
            return known;
        }
        let attempt = self.attempt(refused.is_some()).await;
        let outcome = attempt.outcome.clone();
        *self.last() = Some(attempt);
        outcome
    }

    fn known(&self, refused: Option<&HeaderValue>) -> Option<Result<HeaderValue, Denied>> {
        let last = self.last();
        let attempt = last.as_ref().filter(|attempt| attempt.is_enough(refused, Instant::now()))?;
        Some(attempt.outcome.clone())
    }

    fn last(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self, is_replacement: bool) -> Attempt {
        let begun_at = Instant::now();
        let (outcome, lifetime) = match self.authorize().await {
            Ok(Authorization { header, lifetime }) => (Ok(header), lifetime),
            Err(denied) => (Err(denied), None),
        };
        let expires_at = lifetime.and_then(|lifetime| begun_at.checked_add(lifetime));
        Attempt { outcome, ended_at: Instant::now(), expires_at, is_replacement }
    }

    async fn authorize(&self) -> Result<Authorization, Denied> {
        let UserAuthentication { kind, options } = self.user_authentication().await?;
        match kind.as_str() {
            "basic" => Ok(Authorization { header: self.basic(), lifetime: None }),
            "uaa" => {
                let urls = if options.urls.is_empty() { Vec::from_iter(options.url) } else { options.urls };
                uaa::authorize(&self.uaa, &urls, self.basic()).await
            }
            other => Err(Denied::Unknown(format!("the type `{other}` is neither `basic` nor `uaa`"))),
        }
    }

    async fn user_authentication(&self) -> Result<UserAuthentication, Denied> {
        let act = "ask the director how it is to be asked";
        let asked = async {
            let response = send(act, self.director.get(format!("{}/info", self.url))).await?;
            match response.status().is_success() {
                true => document::<Info>(act, response).await,
                false => Err(refusal(act, response).await),
            }
        };
        let info = asked.await.map_err(|cause| Denied::Director(Arc::new(cause)))?;
        Ok(info.user_authentication)
    }

    fn basic(&self) -> HeaderValue {
        let encoded = STANDARD.encode(format!("{}:{}", self.client, self.client_secret.reveal()));
        secret_header(format!("Basic {encoded}")).expect("base64 is made of visible characters")
    }
}

impl Attempt {
    /// Whether what it brought spares another one.
    fn is_enough(&self, refused: Option<&HeaderValue>, now: Instant) -> bool {
        let is_fresh = now.duration_since(self.ended_at) < PAUSE;
        match &self.outcome {
            Err(_) => is_fresh,
            Ok(header) if refused == Some(header) => self.is_replacement && is_fresh,
            Ok(_) => self.expires_at.is_none_or(|expires_at| now < expires_at),
        }
    }
}

/// A header that does not print; nothing where the text cannot be one.
fn secret_header(text: String) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(outcome: Result<&'static str, ()>, is_replacement: bool) -> (Attempt, Instant) {
        let now = Instant::now();
        let outcome = outcome.map(HeaderValue::from_static).map_err(|()| Denied::Unknown("x".into()));
        let expires_at = Some(now + Duration::from_secs(60));
        (Attempt { outcome, ended_at: now, expires_at, is_replacement }, now)
    }

    #[test]
    fn what_was_learned_is_enough_until_it_expires_or_is_refused() {
        let (first, second) = (HeaderValue::from_static("1"), HeaderValue::from_static("2"));
        for (outcome, is_replacement, refused, seconds, expected) in [
            (Ok("1"), false, None, 59, true),
            (Ok("1"), false, None, 60, false),
            // Somebody else has replaced it meanwhile.
            (Ok("2"), true, Some(&first), 1, true),
            (Ok("1"), false, Some(&first), 0, false),
            // The director refuses what is new, too.
            (Ok("2"), true, Some(&second), 1, true),
            (Ok("2"), true, Some(&second), 2, false),
            (Err(()), false, None, 1, true),
            (Err(()), false, None, 2, false),
            (Err(()), true, Some(&first), 1, true),
        ] {
            let (attempt, now) = attempt(outcome, is_replacement);
            let is_enough = attempt.is_enough(refused, now + Duration::from_secs(seconds));
            assert_eq!(is_enough, expected, "{outcome:?} {is_replacement} {refused:?} {seconds}");
        }
    }
}
