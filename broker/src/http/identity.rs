//! Who sends a request, and on whose behalf: for the log, so decoded, bounded and made harmless. What cannot be decoded is no
//! reason to refuse a request.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::osb::ORIGINATING_IDENTITY_HEADER;
use serde_json::Value;
use uuid::Uuid;

/// The longest text that is kept in logs and rows.
const LENGTH_LIMIT: usize = 100;
/// The longest identity that is decoded: Kubernetes sends all the groups of a user.
const HEADER_LIMIT: usize = 16 * 1024;
/// How the platforms name a user: Cloud Foundry, and Kubernetes.
const USER: [&str; 3] = ["user_id", "username", "uid"];

/// The id of a request: the platform's, or one of ours.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

pub(super) fn request_id(identity: Option<&HeaderValue>) -> RequestId {
    let given = identity.and_then(|value| value.to_str().ok());
    RequestId(given.map_or_else(|| Uuid::new_v4().to_string(), harmless))
}

/// `platform/user`; nothing where the platform acts for nobody.
pub(super) fn originator(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(ORIGINATING_IDENTITY_HEADER)?;
    Some(decode(value).unwrap_or_else(|| "not readable".into()))
}

/// The part of a text that a log line can have.
pub(super) fn harmless(text: &str) -> String {
    let show = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(LENGTH_LIMIT).map(show).collect()
}

fn decode(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok().filter(|text| text.len() <= HEADER_LIMIT)?;
    let (platform, encoded) = text.split_once(' ')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if platform.is_empty() || !platform.bytes().all(is_word) {
        return None;
    }
    let Ok(Value::Object(claims)) = serde_json::from_slice(&STANDARD.decode(encoded.trim()).ok()?) else { return None };
    let user = USER.iter().find_map(|name| claims.get(*name)?.as_str()).unwrap_or("nobody");
    Some(format!("{}/{}", harmless(platform), harmless(user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originator_of(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGINATING_IDENTITY_HEADER, HeaderValue::from_str(value).unwrap());
        originator(&headers)
    }

    #[test]
    fn the_originator_is_the_platform_and_its_user() {
        assert_eq!(originator(&HeaderMap::new()), None);
        for (platform, claims, words) in [
            ("cloudfoundry", r#"{"user_id":"683ea748-3092"}"#, "cloudfoundry/683ea748-3092"),
            (
                "kubernetes",
                r#"{"username":"system:admin","uid":"1","groups":[],"extra":{}}"#,
                "kubernetes/system:admin",
            ),
            ("other", "{}", "other/nobody"),
            ("cloudfoundry", r#"{"user_id":"a\nERROR \u001b[31m"}"#, "cloudfoundry/a?ERROR??[31m"),
            ("cloudfoundry", r#"{"user_id":["a"]}"#, "cloudfoundry/nobody"),
            ("cloudfoundry", "[]", "not readable"),
            ("cloud foundry", "{}", "not readable"),
            ("cloudfoundry\t", "{}", "not readable"),
        ] {
            let shown = originator_of(&format!("{platform} {}", STANDARD.encode(claims)));
            assert_eq!(shown.as_deref(), Some(words), "{platform} {claims}");
        }
        for value in ["", "cloudfoundry", "cloudfoundry ???", " e30="] {
            assert_eq!(originator_of(value).as_deref(), Some("not readable"), "{value}");
        }
        let long = STANDARD.encode(serde_json::json!({"user_id": "u".repeat(1000)}).to_string());
        assert_eq!(originator_of(&format!("cloudfoundry {long}")).unwrap().len(), "cloudfoundry/".len() + LENGTH_LIMIT);
    }

    #[test]
    fn a_request_has_the_id_that_it_came_with_or_one_of_ours() {
        assert_eq!(request_id(Some(&HeaderValue::from_static("id-1"))).0, "id-1");
        assert_eq!(request_id(Some(&HeaderValue::from_str(&"x".repeat(1000)).unwrap())).0.len(), LENGTH_LIMIT);
        for unreadable in [None, Some(&HeaderValue::from_bytes(b"\xff").unwrap())] {
            assert!(Uuid::parse_str(&request_id(unreadable).0).is_ok());
        }
    }
}
