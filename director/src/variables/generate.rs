//! Making the value of one variable. Errors name the variable and never show a key.

use rand::Rng;
use rand::distr::Alphanumeric;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::sha2::{Digest, Sha256};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::definition::{CertificateOptions, Definition, ExtendedKeyUsage, Kind};
use super::kept::Entry;

/// Against clocks that differ a little.
const BACKDATED: Duration = Duration::hours(1);

pub(super) fn generate(definition: &Definition, signer: Option<&Entry>, now: OffsetDateTime) -> Result<Value, String> {
    let name = &definition.name;
    match &definition.kind {
        Kind::Password(options) => Ok(password(options.length, &mut rand::rng())),
        Kind::Certificate(options) => {
            if let Some(ca) = options.ca.as_ref().filter(|_| signer.is_some_and(|signer| !signer.is_ca)) {
                return Err(format!("the certificate {name} is to be signed by {ca}, which has no `is_ca: true`"));
            }
            let made = certificate(options, signer.map(|signer| &signer.value), now);
            made.map_err(|error| format!("the certificate {name} cannot be made: {error}"))
        }
        Kind::Rsa(options) => {
            rsa_key(options.key_length).map_err(|error| format!("the RSA key {name} cannot be made: {error}"))
        }
    }
}

fn password(length: usize, random: &mut impl Rng) -> Value {
    Value::String(random.sample_iter(Alphanumeric).take(length).map(char::from).collect())
}

/// `ca` is the certificate of whoever signed, as CredHub gives it; of itself, where it signed itself.
fn certificate(
    options: &CertificateOptions,
    signer: Option<&Value>,
    now: OffsetDateTime,
) -> Result<Value, rcgen::Error> {
    let key = KeyPair::generate()?;
    let params = params(options, now)?;
    let part = |value: &Value, part: &str| value[part].as_str().unwrap_or_default().to_owned();
    let (certificate, ca) = match signer {
        Some(signer) => {
            let ca = part(signer, "certificate");
            let signer_key = KeyPair::from_pem(&part(signer, "private_key"))?;
            (params.signed_by(&key, &Issuer::from_ca_cert_pem(&ca, signer_key)?)?.pem(), ca)
        }
        None => {
            let own = params.self_signed(&key)?.pem();
            (own.clone(), own)
        }
    };
    Ok(json!({"ca": ca, "certificate": certificate, "private_key": key.serialize_pem()}))
}

fn params(options: &CertificateOptions, now: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(options.alternative_names.clone())?;
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(options.duration.into());
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(common_name) = &options.common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    if let Some(organization) = &options.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    let purpose = |usage: &ExtendedKeyUsage| match usage {
        ExtendedKeyUsage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
    };
    params.extended_key_usages = options.extended_key_usage.iter().map(purpose).collect();
    if options.is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    }
    Ok(params)
}

fn rsa_key(length: usize) -> Result<Value, Box<dyn std::error::Error>> {
    let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, length)?;
    let public = private.to_public_key();
    let digest = Sha256::digest(public.to_public_key_der()?.as_bytes());
    Ok(json!({
        "private_key": private.to_pkcs8_pem(LineEnding::LF)?.to_string(),
        "public_key": public.to_public_key_pem(LineEnding::LF)?,
        "public_key_fingerprint": digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
    }))
}
