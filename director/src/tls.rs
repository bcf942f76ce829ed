//! The director's own certificate authority and its key, made at the first start, and the certificate of its HTTPS
//! address, which the authority signs anew at every start (so a changed `listen` needs nothing else).

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use time::{Duration, OffsetDateTime};

use crate::file;

/// Ten years: a one-machine director has nobody who would renew its authority.
const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
/// RSA, because over TLS 1.2 the `bosh` CLI offers no cipher suite for another kind of key.
const KEY_BITS: usize = 2048;
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
    let key = server_key(&directory.join("server.key"))?;
    let certificate = make_certificate(&issuer, &key, listen, now)?;
    let made = RustlsConfig::from_pem(certificate.into_bytes(), key.serialize_pem().into_bytes()).await;
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

/// Kept, because an RSA key takes long to make.
fn server_key(path: &Path) -> Result<KeyPair> {
    if !path.exists() {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, KEY_BITS).context("make the director's key")?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).context("write the director's key")?;
        file::replace(path, pem.as_bytes())?;
    }
    let pem = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    KeyPair::from_pem(&pem).with_context(|| format!("use the key in {}", path.display()))
}

fn make_certificate(
    issuer: &Issuer<'_, KeyPair>,
    key: &KeyPair,
    listen: IpAddr,
    now: OffsetDateTime,
) -> Result<String> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    if listen != Ipv4Addr::LOCALHOST && !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    let params = CertificateParams::new(names).context("name the director's certificate")?;
    let mut params = lasting(params, now, CERTIFICATE_LIFETIME);
    params.distinguished_name.push(DnType::CommonName, "tandem-director");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, issuer).context("sign the director's certificate")?;
    Ok(certificate.pem())
}

fn lasting(mut params: CertificateParams, now: OffsetDateTime, lifetime: Duration) -> CertificateParams {
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
    params
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::{cipher_suite, default_provider};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{
        ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
        SupportedProtocolVersion, version,
    };

    use super::*;

    /// A client that knows the authority and speaks one version.
    fn client(ca: &Path, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let mut provider = default_provider();
        // As the CLI: for TLS 1.2 with an RSA certificate only.
        provider.cipher_suites =
            vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
        let config = ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[version]).unwrap();
        config.with_root_certificates(roots).with_no_client_auth().into()
    }

    fn spoken(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Option<ProtocolVersion> {
        let mut client = ClientConnection::new(client, "127.0.0.1".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let (mut asked, mut answered) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut asked).unwrap();
            }
            server.read_tls(&mut asked.as_slice()).unwrap();
            server.process_new_packets().ok()?;
            while server.wants_write() {
                server.write_tls(&mut answered).unwrap();
            }
            client.read_tls(&mut answered.as_slice()).unwrap();
            client.process_new_packets().ok()?;
        }
        client.protocol_version()
    }

    #[tokio::test]
    async fn clients_of_tls_1_2_and_1_3_are_served_and_the_key_is_kept() {
        // Another test of this program may have been first.
        let _ = default_provider().install_default();
        let state = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let key = || std::fs::read(state.path().join("tls/server.key")).unwrap();
        let start = || server_config(state.path(), Ipv4Addr::LOCALHOST.into(), now);
        start().await.unwrap();
        let first = key();

        let server = start().await.unwrap().get_inner();

        assert_eq!(key(), first);
        let ca = state.path().join("tls/ca.pem");
        for (version, expected) in
            [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
        {
            assert_eq!(spoken(client(&ca, version), server.clone()), Some(expected));
        }
    }
}
