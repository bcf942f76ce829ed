//! SIGHUP: the catalog and the certificate are read again, or stay.

use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::program::{Answer, Broker, certificate, read_answer, request};

#[test]
fn a_new_catalog_is_served_and_a_bad_one_is_refused() {
    let broker = Broker::start();
    let path = broker.path("documents/catalog.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    let first = broker.call("GET", "/v2/catalog", "");

    std::fs::write(&path, text.replace("One MySQL server", "A MySQL server")).unwrap();
    broker.signal(Signal::HUP);
    broker.wait_for_line("are the new ones");
    let second = broker.call("GET", "/v2/catalog", "");
    assert!(second.body.contains("A MySQL server") && first.header("etag") != second.header("etag"));

    std::fs::write(&path, text.replace("free: true", "free: maybe")).unwrap();
    broker.signal(Signal::HUP);
    let line = broker.wait_for_line("the configuration is refused");
    assert!(line.contains("services[0].plans[0].free"), "{line}");
    assert_eq!(broker.call("GET", "/v2/catalog", "").body, second.body);
}

#[test]
fn a_new_certificate_is_shown_and_a_bad_one_is_refused() {
    let (first, second) = (certificate(), certificate());
    let keys = |(certificate, key): &(String, String)| json!({"certificate": certificate, "private_key": key});
    let broker = Broker::start_with(|properties| properties["tls"] = keys(&first));
    let reconfigure = |tls: Value| {
        let path = broker.path("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["properties"]["tls"] = tls;
        std::fs::write(&path, config.to_string()).unwrap();
        broker.signal(Signal::HUP);
    };
    assert_eq!(call(&broker, &first.0).unwrap().status, 200);
    assert!(call(&broker, &second.0).is_none());

    reconfigure(keys(&second));
    broker.wait_for_line("are the new ones");
    assert_eq!(call(&broker, &second.0).unwrap().status, 200);
    assert!(call(&broker, &first.0).is_none());

    reconfigure(keys(&(first.0.clone(), second.1.clone())));
    broker.wait_for_line("`tls`: certificate and private_key do not fit");
    reconfigure(Value::Null);
    broker.wait_for_line("property `tls` has come or gone");
    assert_eq!(call(&broker, &second.0).unwrap().status, 200);
    assert!(!broker.log().contains("PRIVATE KEY"));
}

#[test]
fn a_client_in_the_clear_learns_nothing_from_a_broker_with_tls() {
    let (certificate, key) = certificate();
    let tls = json!({"certificate": certificate, "private_key": key});
    let broker = Broker::start_with(|properties| properties["tls"] = tls);
    assert!(broker.send(request("GET", "/v2/catalog", &[], "").as_bytes()).is_none());
    assert_eq!(call(&broker, &certificate).unwrap().status, 200);
}

/// The catalog, as a client gets it that believes this certificate only.
fn call(broker: &Broker, certificate: &str) -> Option<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, broker.connect());
    std::io::Write::write_all(&mut stream, request("GET", "/v2/catalog", &[], "").as_bytes()).ok()?;
    read_answer(&mut stream)
}
