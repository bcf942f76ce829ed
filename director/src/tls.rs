//! The director's own certificate authority, made at the first start, and the certificate of its HTTPS address, which
//! the authority signs anew at every start (so a changed `listen` needs nothing else).

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::file;

/// Ten years: a one-machine director has nobody who would renew its authority.
const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
const CERTIFICATE_LIFETIME: Duration = Duration::days(365);
/// Against clocks that differ a little.
const BACKDATED: Duration = Duration::hours(1);

/// What the HTTPS server needs; `STATE/tls/ca.pem` is what its clients need.
pub(crate) async fn server_config(state: &Path, listen: IpAddr, now: OffsetDateTime) -> Result<RustlsConfig> {
    let directory = state.join("tls");
    file::private_directory(&directory)?;
    let (ca_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
    if !ca_path.exists() {
        let (certificate, key) = make_authority(now)?;
        file::replace(&key_path, key.as_bytes())?;
        file::replace(&ca_path, certificate.as_bytes())?;
    }
    let ca = std::fs::read_to_string(&ca_path).with_context(|| format!("read {}", ca_path.display()))?;
    let key = std::fs::read_to_string(&key_path).with_context(|| format!("read {}", key_path.display()))?;
    let issuer = KeyPair::from_pem(&key)
        .and_then(|key| Issuer::from_ca_cert_pem(&ca, key))
        .with_context(|| format!("use the authority in {}", directory.display()))?;
    let (certificate, key) = make_certificate(&issuer, listen, now)?;
    let made = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes()).await;
    let mut config = (*made.context("use the director's certificate")?.get_inner()).clone();
    // The listener's limits are those of HTTP/1.1, as those of a real director's nginx.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

fn make_authority(now: OffsetDateTime) -> Result<(String, String)> {
    let mut params = lasting(CertificateParams::default(), now, AUTHORITY_LIFETIME);
    params.distinguished_name.push(DnType::CommonName, "tandem-director CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("make the authority's key")?;
    let certificate = params.self_signed(&key).context("sign the authority's certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn make_certificate(issuer: &Issuer<'_, KeyPair>, listen: IpAddr, now: OffsetDateTime) -> Result<(String, String)> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    if listen != Ipv4Addr::LOCALHOST && !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    let params = CertificateParams::new(names).context("name the director's certificate")?;
    let mut params = lasting(params, now, CERTIFICATE_LIFETIME);
    params.distinguished_name.push(DnType::CommonName, "tandem-director");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("make the director's key")?;
    let certificate = params.signed_by(&key, issuer).context("sign the director's certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn lasting(mut params: CertificateParams, now: OffsetDateTime, lifetime: Duration) -> CertificateParams {
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
    params
}
