//! The part of a UAA that a machine needs: bearer tokens for clients, signed by this director and good until they expire.
//! The key is made at every start, so a token dies with the director that gave it, as if it had expired.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const ALGORITHM: &str = "HS256";

/// Gives tokens and knows them again.
pub(crate) struct Tokens {
    key: hmac::Key,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The token's own id.
    pub(crate) jti: String,
    /// Seconds since 1970.
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    pub(crate) client_id: String,
    pub(crate) scope: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
}

impl Tokens {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> serde_json::Result<String> {
        let header = Header { alg: ALGORITHM.to_owned(), typ: "JWT".to_owned() };
        let signed = format!("{}.{}", encode(&serde_json::to_vec(&header)?), encode(&serde_json::to_vec(claims)?));
        let signature = encode(hmac::sign(&self.key, signed.as_bytes()).as_ref());
        Ok(format!("{signed}.{signature}"))
    }

    /// The claims of a token that is ours and good at this moment. A refresh token (`-r`) is not for a director.
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        hmac::verify(&self.key, signed.as_bytes(), &decode(signature)?).ok()?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        let is_good = header.alg == ALGORITHM && claims.exp > now && !claims.jti.is_empty();
        Some(claims).filter(|claims| is_good && !claims.jti.ends_with("-r"))
    }
}

impl Claims {
    /// What UAA answers to a client that asks for a token.
    pub(crate) fn answer(&self, token: &str) -> Value {
        serde_json::json!({"access_token": token, "token_type": "bearer", "expires_in": self.exp - self.iat - 1,
            "scope": self.scope.join(" "), "jti": self.jti})
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(jti: &str, exp: i64) -> Claims {
        let scope = vec!["bosh.admin".to_owned()];
        Claims { jti: jti.to_owned(), iat: 1_000, exp, client_id: "broker".to_owned(), scope }
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let tokens = Tokens::new([7; 32]);
        let given = claims("j", 2_000);
        let token = tokens.sign(&given).unwrap();

        assert_eq!(tokens.verify(&token, 1_999), Some(given));
        assert_eq!(tokens.verify(&token, 2_000), None);
    }

    #[test]
    fn what_another_director_gave_or_somebody_changed_is_refused() {
        let tokens = Tokens::new([7; 32]);
        let token = tokens.sign(&claims("j", 2_000)).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let longer = encode(&serde_json::to_vec(&claims("j", 9_000)).unwrap());
        let none = encode(br#"{"alg":"none","typ":"JWT"}"#);

        for wrong in [
            Tokens::new([8; 32]).sign(&claims("j", 2_000)).unwrap(),
            tokens.sign(&claims("j-r", 2_000)).unwrap(),
            tokens.sign(&claims("", 2_000)).unwrap(),
            [parts[0], &longer, parts[2]].join("."),
            [&none, parts[1], parts[2]].join("."),
            [&none, parts[1], ""].join("."),
            parts[..2].join("."),
            String::new(),
        ] {
            assert_eq!(tokens.verify(&wrong, 1_500), None, "{wrong}");
        }
    }

    #[test]
    fn the_answer_is_what_clients_of_a_uaa_read() {
        let answer = claims("j", 4_600).answer("h.c.s");

        let expected =
            r#"{"access_token":"h.c.s","expires_in":3599,"jti":"j","scope":"bosh.admin","token_type":"bearer"}"#;
        assert_eq!(answer.to_string(), expected);
    }
}
