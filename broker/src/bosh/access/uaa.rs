//! A token of the director's UAA: OAuth 2.0, client credentials (RFC 6749, 4.4). There is no refresh token: who needs another
//! one asks again. Of an answer nothing is repeated but the word of an error: a token may stand anywhere in it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::super::whole;
use super::{Authorization, Denied, secret_header};

/// A token is not used for this long before its end, or for half of its time: it must not expire on the way.
const MARGIN: Duration = Duration::from_secs(30);
/// The longest word of an error that is repeated.
const WORD_LIMIT: usize = 40;

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
}

/// A token from the first of these UAAs that grants or refuses one.
pub(super) async fn authorize(
    http: &reqwest::Client,
    urls: &[String],
    credentials: HeaderValue,
) -> Result<Authorization, Denied> {
    let mut denied = Denied::Unknown("the type is `uaa`, but there is no `url` of one".into());
    for url in urls {
        match ask(http, url.trim_end_matches('/'), &credentials).await {
            Ok(authorization) => return Ok(authorization),
            Err(Denied::Refused { url, status, word }) if status.is_client_error() => {
                return Err(Denied::Refused { url, status, word });
            }
            Err(other) => denied = other,
        }
    }
    Err(denied)
}

async fn ask(http: &reqwest::Client, url: &str, credentials: &HeaderValue) -> Result<Authorization, Denied> {
    let request = http
        .post(format!("{url}/oauth/token"))
        .header(AUTHORIZATION, credentials)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials");
    let url = url.to_owned();
    let response = match request.send().await {
        Ok(response) => response,
        Err(cause) => return Err(Denied::Unreachable { url, cause: Arc::new(cause) }),
    };
    let status = response.status();
    let Ok(body) = whole("ask for a token", response).await else {
        return Err(Denied::Garbled { url, why: "it breaks off, or is far too long" });
    };
    match status.is_success() {
        true => granted(&body).map_err(|why| Denied::Garbled { url, why }),
        false => Err(Denied::Refused { url, status, word: word(&body) }),
    }
}

fn granted(body: &[u8]) -> Result<Authorization, &'static str> {
    let Ok(granted) = serde_json::from_slice::<Granted>(body) else { return Err("it holds no token") };
    let header = secret_header(format!("bearer {}", granted.access_token)).ok_or("its token fits no header")?;
    Ok(Authorization { header, lifetime: granted.expires_in.map(usable) })
}

/// How long a token is used.
fn usable(expires_in: u64) -> Duration {
    let lifetime = Duration::from_secs(expires_in);
    lifetime - MARGIN.min(lifetime / 2)
}

/// OAuth's word for an error, as `invalid_client`; nothing where the text could be anything else.
fn word(body: &[u8]) -> String {
    let Refusal { error } = serde_json::from_slice(body).unwrap_or_default();
    let is_word = error.len() <= WORD_LIMIT && error.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if is_word { error } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        for (body, expected) in [
            (r#"{"access_token":"h.p.s","token_type":"bearer","expires_in":3599,"scope":"bosh.admin"}"#, Some(3569)),
            (r#"{"access_token":"h.p.s","expires_in":10}"#, Some(5)),
            (r#"{"access_token":"h.p.s"}"#, None),
        ] {
            let authorization = granted(body.as_bytes()).unwrap();
            assert_eq!(authorization.header, "bearer h.p.s");
            assert_eq!(authorization.lifetime, expected.map(Duration::from_secs), "{body}");
        }
    }

    #[test]
    fn of_what_is_not_understood_nothing_is_repeated() {
        for body in [r#"{"token":"h.p.s"}"#, r#"{"access_token":["h.p.s"]}"#, r#"{"access_token":"h.p.s\n"}"#, "h.p.s"]
        {
            let Err(why) = granted(body.as_bytes()) else { panic!("{body} is a token") };
            assert!(!why.contains("h.p.s"), "{body}: {why}");
        }
        for (body, expected) in [
            (r#"{"error":"invalid_client","error_description":"Bad credentials: h.p.s"}"#, "invalid_client"),
            (r#"{"error":"h.p.s"}"#, ""),
            ("<html>h.p.s</html>", ""),
        ] {
            assert_eq!(word(body.as_bytes()), expected);
        }
    }

    #[test]
    fn a_header_with_a_token_does_not_print() {
        let authorization = granted(br#"{"access_token":"h.p.s"}"#).unwrap();
        assert!(!format!("{:?}", authorization.header).contains("h.p.s"));
    }
}
