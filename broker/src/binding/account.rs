//! The account of a binding: made once, sealed, and the same in every later answer.

use agent::api::{Access, MYSQL_PORT, User};
use anyhow::{Context, anyhow};
use broker::osb::Credentials;
use rand::distr::slice::Choose;
use rand::{CryptoRng, Rng};

use crate::admission::BindingAttributes;
use crate::admission::bind_parameters::BindParameters;
use crate::app::App;
use crate::store::bindings::{Key, Stored};

/// The schema of every binding that asks for no other.
const SCHEMA: &str = "service_instance_db";
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A binding's user: how to connect as it, and what it may do.
pub(super) struct Account {
    pub(super) credentials: Credentials,
    access: Access,
}

impl Account {
    /// A new one, with what the request asks for.
    pub(super) fn new(
        hostname: &str,
        attributes: &BindingAttributes,
        random: &mut impl CryptoRng,
    ) -> anyhow::Result<Account> {
        let BindParameters { access, username, schema } = read(attributes)?;
        let username = username.unwrap_or_else(|| format!("{:032x}", random.random::<u128>()));
        let letters = Choose::new(ALPHABET).expect("the alphabet is not empty");
        let password: String = random.sample_iter(letters).take(16).map(|letter| char::from(*letter)).collect();
        let schema = schema.as_deref().unwrap_or(SCHEMA);
        Ok(Account { credentials: Credentials::new(hostname, MYSQL_PORT, schema, &username, &password), access })
    }

    /// The one that was recorded.
    pub(super) fn open(app: &App, key: &Key, stored: &Stored) -> anyhow::Result<Account> {
        let text = app.sealer.open(&key.instance, &key.binding, &stored.sealed)?;
        let credentials = serde_json::from_slice(&text).context("read the credentials")?;
        Ok(Account { credentials, access: read(&stored.known.attributes)?.access })
    }

    /// What the leader's agent is asked for.
    pub(super) fn user(&self) -> User {
        let Credentials { password, name, .. } = &self.credentials;
        User { password: password.clone(), schema: name.clone(), access: self.access }
    }
}

/// The parameters of a request that was admitted.
fn read(attributes: &BindingAttributes) -> anyhow::Result<BindParameters> {
    let parsed = BindParameters::parse(&attributes.parameters());
    parsed.map_err(|complaints| anyhow!("read the parameters of a binding: {complaints:?}"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::json;

    use super::*;

    fn account(parameters: serde_json::Value) -> Account {
        let rest = json!({"parameters": parameters});
        let attributes = BindingAttributes { service_id: "s".into(), plan_id: "p".into(), rest };
        Account::new("10.0.0.20", &attributes, &mut rand::rngs::StdRng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn credentials_have_the_form_of_the_reference() {
        let credentials = account(json!({})).credentials;
        assert_eq!(credentials.username.len(), 32);
        assert!(credentials.username.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(credentials.password.len(), 16);
        assert!(credentials.password.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z')));
        assert_eq!(credentials.name, "service_instance_db");
    }

    #[test]
    fn what_was_asked_for_is_in_the_credentials_and_in_the_wish_for_the_user() {
        let account = account(json!({"username": "bob", "schema": "other", "read-only": true}));
        assert_eq!((account.credentials.username.as_str(), account.credentials.name.as_str()), ("bob", "other"));
        assert_eq!((account.user().schema.as_str(), account.user().access), ("other", Access::ReadOnly));
    }
}
