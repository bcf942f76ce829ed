//! The variables against a real file, and certificates against the verifier that the agents use.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

const MANIFEST: &str = "
password: ((admin))
url: mysql://root:((admin))@host
tls: ((tls))
root: ((root.certificate))
variables:
- {name: admin, type: password}
- {name: tls, type: certificate, options: {ca: middle, common_name: c, alternative_names: [mysql.internal, 127.0.0.1], extended_key_usage: [server_auth]}}
- {name: middle, type: certificate, options: {ca: root, is_ca: true, common_name: middle}}
- {name: root, type: certificate, options: {is_ca: true, common_name: root, organization: o, duration: 30}}
- {name: pin, type: password, options: {length: 12}}
";

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().fold(value, |value, key| &value[*key]).as_str().unwrap()
}

/// Does a client that trusts `ca` take `certificate` for `name`?
fn verify(ca: &str, certificate: &str, name: &str) -> Result<(), rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).map(drop)
}

#[tokio::test]
async fn a_manifest_is_filled_in_the_same_way_each_time_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let variables = Variables::open(dir.path()).unwrap();

    let first = variables.resolve("d", &yaml(MANIFEST)).await.unwrap();

    let password = text(&first, &["password"]);
    assert!(password.len() == 40 && password.chars().all(|c| c.is_ascii_alphanumeric()), "{password}");
    assert_eq!(text(&first, &["url"]), format!("mysql://root:{password}@host"));
    assert_eq!(variables.resolve("d", &yaml(MANIFEST)).await.unwrap(), first);
    let mode = dir.path().join("variables.json").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let reopened = Variables::open(dir.path()).unwrap();
    assert_eq!(reopened.resolve("d", &yaml(MANIFEST)).await.unwrap(), first);
    let other = reopened.resolve("other", &yaml(MANIFEST)).await.unwrap();
    assert_ne!(text(&other, &["password"]), password, "a relative name belongs to its deployment");
}

#[tokio::test]
async fn a_certificate_is_signed_by_its_authority_and_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let variables = Variables::open(dir.path()).unwrap();

    let filled = variables.resolve("d", &yaml(MANIFEST)).await.unwrap();

    let (ca, leaf) = (text(&filled, &["tls", "ca"]), text(&filled, &["tls", "certificate"]));
    verify(ca, leaf, "mysql.internal").unwrap();
    verify(ca, leaf, "127.0.0.1").unwrap();
    assert!(verify(ca, leaf, "elsewhere").is_err());
    assert!(verify(text(&filled, &["root"]), leaf, "mysql.internal").is_err(), "the intermediate is not sent along");
    rcgen::KeyPair::from_pem(text(&filled, &["tls", "private_key"])).unwrap();
}

#[tokio::test]
async fn an_absolute_name_is_shared_and_outlives_the_deployment() {
    let dir = tempfile::tempdir().unwrap();
    let variables = Variables::open(dir.path()).unwrap();
    let manifest = "
ca: ((/tandem/ca.certificate))
own: ((own))
variables:
- {name: /tandem/ca, type: certificate, options: {is_ca: true, common_name: ca}}
- {name: own, type: password}
";
    let first = variables.resolve("a", &yaml(manifest)).await.unwrap();
    assert_eq!(text(&variables.resolve("b", &yaml(manifest)).await.unwrap(), &["ca"]), text(&first, &["ca"]));
    let defined_only = "{variables: [{name: /tandem/ca, type: certificate, options: {is_ca: true}}]}";
    variables.resolve("e", &yaml(defined_only)).await.unwrap();
    let names = |list: Vec<(String, String)>| list.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names(variables.list("b").await), ["/tandem/b/own", "/tandem/ca"]);
    assert_eq!(names(variables.list("e").await), ["/tandem/ca"]);

    variables.forget("a").await.unwrap();
    variables.forget("a").await.unwrap();

    assert!(variables.list("a").await.is_empty());
    let again = variables.resolve("a", &yaml(manifest)).await.unwrap();
    assert_eq!(text(&again, &["ca"]), text(&first, &["ca"]));
    assert_ne!(text(&again, &["own"]), text(&first, &["own"]));
    let unseen = "{ca: ((/tandem/ca.certificate))}";
    assert_eq!(text(&variables.resolve("c", &yaml(unseen)).await.unwrap(), &["ca"]), text(&first, &["ca"]));
}

#[tokio::test]
async fn what_cannot_be_filled_in_is_named_and_nothing_is_kept() {
    let cases = [
        ("{a: ((nope))}", "the variable nope is not defined"),
        ("{a: ((nope.part)), b: ((other))}", "the variable nope is not defined"),
        ("{a: ((p.part)), variables: [{name: p, type: password}]}", "the variable p has no part named part"),
        ("{variables: 1}", "`variables:` must be a list"),
        ("{variables: [{name: p}]}", "the variable p: missing field `type`"),
        ("{variables: [{name: p, type: ssh}]}", "type ssh is not one of password, certificate, rsa"),
        ("{variables: [{name: p, type: password}, {name: p, type: password}]}", "the variable p is defined twice"),
        ("{variables: [{name: p, type: password, options: {size: 3}}]}", "options of the variable p: unknown field"),
        ("{variables: [{name: p, type: password, options: {length: 3}}]}", "a length from 8 to 1024"),
        ("{variables: [{name: 'p q', type: password}]}", "a name has letters"),
        ("{variables: [{name: p, type: password, update_mode: converge}]}", "no-overwrite is"),
        ("{variables: [{name: c, type: certificate}]}", "the certificate c needs one of the options `ca`"),
        (
            "{variables: [{name: c, type: certificate, options: {ca: nope}}]}",
            "the certificate c is to be signed by nope, which is not defined",
        ),
        (
            "{variables: [{name: c, type: certificate, options: {ca: d}}, {name: d, type: certificate, options: {ca: c}}]}",
            "the certificates c and d are to sign each other",
        ),
        (
            "{variables: [{name: c, type: certificate, options: {ca: d}}, {name: d, type: certificate, options: {self_sign: true}}]}",
            "the certificate c is to be signed by d, which has no `is_ca: true`",
        ),
        ("{variables: [{name: r, type: rsa, options: {key_length: 512}}]}", "key_length is 2048, 3072 or 4096"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let variables = Variables::open(dir.path()).unwrap();
    for (manifest, expected) in cases {
        let error = variables.resolve("d", &yaml(manifest)).await.unwrap_err().to_string();

        assert!(error.contains(expected), "{manifest}: {error}");
    }
    assert!(!dir.path().join("variables.json").exists());
}

#[tokio::test]
async fn an_rsa_key_has_its_three_parts() {
    let dir = tempfile::tempdir().unwrap();
    let variables = Variables::open(dir.path()).unwrap();

    let manifest = yaml("{key: ((r)), variables: [{name: r, type: rsa}]}");
    let filled = variables.resolve("d", &manifest).await.unwrap();

    assert!(text(&filled, &["key", "private_key"]).starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(text(&filled, &["key", "public_key"]).starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_eq!(text(&filled, &["key", "public_key_fingerprint"]).len(), 32 * 3 - 1);
}
