//! Seals the credentials of bindings, so that the state database alone opens no MySQL server.
//!
//! ChaCha20-Poly1305 with the SHA-256 of the configured key, a random nonce for each row, and the row's ids as
//! associated data: a sealed text that is moved to another row does not open. Of several keys the first seals and each
//! opens, so that keys can be changed: the new one is listed before the old one until everything is sealed anew.

use agent::config::Secret;
use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::ids::{BindingId, InstanceId};

/// Seals with the first key, opens with any.
pub(crate) struct Sealer {
    keys: Vec<LessSafeKey>,
    random: SystemRandom,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// The sealer of the configured keys.
    pub(crate) fn new(keys: &[Secret]) -> anyhow::Result<Sealer> {
        ensure!(!keys.is_empty(), "property `encryption_keys` must list at least one key");
        Ok(Sealer { keys: keys.iter().map(sealing_key).collect(), random: SystemRandom::new() })
    }

    /// There are keys that seal nothing any more.
    pub(crate) fn has_old_keys(&self) -> bool {
        self.keys.len() > 1
    }

    /// The text for the row of this binding.
    pub(crate) fn seal(&self, instance: &InstanceId, binding: &BindingId, text: &[u8]) -> anyhow::Result<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok().context("draw a nonce")?;
        let mut sealed = text.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let ids = Aad::from(associated(instance, binding));
        self.keys[0].seal_in_place_append_tag(unique, ids, &mut sealed).ok().context("seal the credentials")?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed for the row of this binding.
    pub(crate) fn open(&self, instance: &InstanceId, binding: &BindingId, sealed: &str) -> anyhow::Result<Vec<u8>> {
        open_with(&self.keys, &associated(instance, binding), sealed)
    }

    /// The text sealed anew, where it was not the first key that sealed it.
    pub(crate) fn renew(
        &self,
        instance: &InstanceId,
        binding: &BindingId,
        sealed: &str,
    ) -> anyhow::Result<Option<String>> {
        if open_with(&self.keys[..1], &associated(instance, binding), sealed).is_ok() {
            return Ok(None);
        }
        let text = self.open(instance, binding, sealed)?;
        self.seal(instance, binding, &text).map(Some)
    }
}

fn sealing_key(key: &Secret) -> LessSafeKey {
    let digest = digest(&SHA256, key.reveal().as_bytes());
    let key = UnboundKey::new(&CHACHA20_POLY1305, digest.as_ref()).expect("a SHA-256 has the length of the key");
    LessSafeKey::new(key)
}

fn open_with(keys: &[LessSafeKey], ids: &[u8], sealed: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = STANDARD.decode(sealed).context("read the sealed credentials")?;
    let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE_LEN>() else {
        bail!("the sealed credentials are too short");
    };
    let opened = keys.iter().find_map(|key| {
        let mut opened = sealed.to_vec();
        let text = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(ids), &mut opened);
        text.ok().map(|text| text.to_vec())
    });
    opened.context("open the sealed credentials: was property `encryption_keys` changed?")
}

/// Ids hold no `/`, so two pairs of ids never give the same text.
fn associated(instance: &InstanceId, binding: &BindingId) -> Vec<u8> {
    format!("{instance}/{binding}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer_of(keys: &[&str]) -> Sealer {
        Sealer::new(&serde_json::from_value::<Vec<Secret>>(keys.into()).unwrap()).unwrap()
    }

    fn sealer(key: &str) -> Sealer {
        sealer_of(&[key])
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
        assert!(error.to_string().contains("encryption_keys"));
        assert!(sealer("key").open(&instance("i"), &binding, "AAAA").is_err());
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens_until_everything_is_sealed_anew() {
        let (instance, binding) = (instance("i"), BindingId::parse("b").unwrap());
        let old = sealer("old").seal(&instance, &binding, b"z9z6").unwrap();
        let both = sealer_of(&["new", "old"]);

        assert_eq!(both.open(&instance, &binding, &old).unwrap(), b"z9z6");
        let renewed = both.renew(&instance, &binding, &old).unwrap().unwrap();
        assert_eq!(sealer("new").open(&instance, &binding, &renewed).unwrap(), b"z9z6");
        assert_eq!(both.renew(&instance, &binding, &renewed).unwrap(), None);
        assert!(both.renew(&instance, &binding, &sealer("lost").seal(&instance, &binding, b"x").unwrap()).is_err());
    }

    #[test]
    fn the_same_text_is_sealed_differently_each_time() {
        let binding = BindingId::parse("b").unwrap();
        let seal = || sealer("key").seal(&instance("i"), &binding, b"text").unwrap();
        assert_ne!(seal(), seal());
    }
}
