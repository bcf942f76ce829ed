//! Seals the credentials of bindings, so that the state database alone opens no MySQL server.
//!
//! ChaCha20-Poly1305 with the SHA-256 of the configured key, a random nonce for each row, and the row's ids as
//! associated data: a sealed text that is moved to another row does not open.

use agent::config::Secret;
use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::ids::{BindingId, InstanceId};

/// Seals and opens with one key.
pub(crate) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// The sealer of a configured key.
    pub(crate) fn new(key: &Secret) -> Sealer {
        let digest = digest(&SHA256, key.reveal().as_bytes());
        let key = UnboundKey::new(&CHACHA20_POLY1305, digest.as_ref()).expect("a SHA-256 has the length of the key");
        Sealer { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }

    /// The text for the row of this binding.
    pub(crate) fn seal(&self, instance: &InstanceId, binding: &BindingId, text: &[u8]) -> anyhow::Result<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok().context("draw a nonce")?;
        let mut sealed = text.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let ids = Aad::from(associated(instance, binding));
        self.key.seal_in_place_append_tag(unique, ids, &mut sealed).ok().context("seal the credentials")?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed for the row of this binding.
    pub(crate) fn open(&self, instance: &InstanceId, binding: &BindingId, sealed: &str) -> anyhow::Result<Vec<u8>> {
        let bytes = STANDARD.decode(sealed).context("read the sealed credentials")?;
        let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE_LEN>() else {
            bail!("the sealed credentials are too short");
        };
        let mut opened = sealed.to_vec();
        let ids = Aad::from(associated(instance, binding));
        let text = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), ids, &mut opened);
        let text = text.ok().context("open the sealed credentials: was property `encryption_key` changed?")?;
        Ok(text.to_vec())
    }
}

/// Ids hold no `/`, so two pairs of ids never give the same text.
fn associated(instance: &InstanceId, binding: &BindingId) -> Vec<u8> {
    format!("{instance}/{binding}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: &str) -> Sealer {
        Sealer::new(&serde_json::from_value(key.into()).unwrap())
    }

    fn instance(id: &str) -> InstanceId {
        InstanceId::parse(id).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_row_only() {
        let binding = BindingId::parse("b").unwrap();
        let sealed = sealer("key").seal(&instance("i"), &binding, b"z9z6").unwrap();
        assert!(!sealed.contains("z9z6"));
        assert_eq!(sealer("key").open(&instance("i"), &binding, &sealed).unwrap(), b"z9z6");
        assert!(sealer("key").open(&instance("j"), &binding, &sealed).is_err());
        let error = sealer("other").open(&instance("i"), &binding, &sealed).unwrap_err();
        assert!(error.to_string().contains("encryption_key"));
        assert!(sealer("key").open(&instance("i"), &binding, "AAAA").is_err());
    }

    #[test]
    fn the_same_text_is_sealed_differently_each_time() {
        let binding = BindingId::parse("b").unwrap();
        let seal = || sealer("key").seal(&instance("i"), &binding, b"text").unwrap();
        assert_ne!(seal(), seal());
    }
}
