//! Which director is asked, and what for: as the environment says it, or a lab.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;

use crate::api::Api;
use crate::lab::Lab;

const NEEDED: [&str; 5] = [
    "TANDEM_BOSH_ENVIRONMENT",
    "TANDEM_BOSH_CLIENT",
    "TANDEM_BOSH_CLIENT_SECRET",
    "TANDEM_BOSH_CA_CERT",
    "TANDEM_BOSH_MANIFEST",
];
const ERRAND: &str = "TANDEM_BOSH_ERRAND";
pub(super) const VARIABLES: [&str; 6] = [NEEDED[0], NEEDED[1], NEEDED[2], NEEDED[3], NEEDED[4], ERRAND];

pub(super) struct Given {
    url: String,
    /// A user, or a client of the director's UAA.
    pub(super) client: String,
    secret: String,
    /// PEM, one or several.
    ca: Vec<u8>,
    /// Of a deployment that this director can make; its name does not matter.
    pub(super) manifest: String,
    pub(super) errand: Option<String>,
    is_near: bool,
}

impl Given {
    /// None where no director is named. A director of which half is known is a mistake.
    pub(super) fn by(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable(NEEDED[0]).is_none() {
            return Ok(None);
        }
        let [Some(address), Some(client), Some(secret), Some(ca), Some(manifest)] = NEEDED.map(variable) else {
            let missing: Vec<&str> = NEEDED.into_iter().filter(|name| variable(name).is_none()).collect();
            return Err(format!("{} is set, but not {}", NEEDED[0], missing.join(", ")));
        };
        let read = |path: &str| std::fs::read_to_string(path).map_err(|cause| format!("read {path}: {cause}"));
        // As the CLI takes it: the text itself, or where it is.
        let ca = if ca.contains("-----BEGIN ") { ca } else { read(&ca)? };
        let (url, manifest) = (url(&address)?, read(&manifest)?);
        Ok(Some(Self { url, client, secret, ca: ca.into_bytes(), manifest, errand: variable(ERRAND), is_near: false }))
    }

    pub(super) fn of(lab: &Lab) -> Self {
        Self {
            url: lab.url.clone(),
            client: "admin".to_owned(),
            secret: "secret".to_owned(),
            ca: std::fs::read(lab.directory().join("state/tls/ca.pem")).unwrap(),
            manifest: lab.manifest(),
            errand: Some("fails".to_owned()),
            is_near: true,
        }
    }

    pub(super) fn stranger(&self) -> Api {
        let stranger = Api::at(&self.url, &self.ca);
        if self.is_near { stranger.near() } else { stranger }
    }

    /// `/info` says how to log in.
    pub(super) async fn director(&self) -> Api {
        let authentication = self.stranger().get("/info").await.shown()["user_authentication"].clone();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", self.client, self.secret)));
        match authentication["type"].as_str() {
            Some("basic") => self.stranger().with(&basic),
            Some("uaa") => self.stranger().with_client(authentication["options"]["url"].as_str().unwrap(), &basic),
            _ => panic!("an unknown authentication: {authentication}"),
        }
    }
}

/// The CLI's defaults: HTTPS, port 25555.
fn url(address: &str) -> Result<String, String> {
    let whole = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let wrong = |cause: String| format!("{} is no address: {cause}", NEEDED[0]);
    let mut url = Url::parse(&whole).map_err(|cause| wrong(cause.to_string()))?;
    if url.port().is_none() {
        url.set_port(Some(25_555)).map_err(|()| wrong(address.to_owned()))?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[test]
fn an_address_is_completed_as_the_cli_does_it() {
    for (address, expected) in [
        ("10.0.0.6", "https://10.0.0.6:25555"),
        ("https://bosh.example.com/", "https://bosh.example.com:25555"),
        ("bosh.example.com:8443", "https://bosh.example.com:8443"),
    ] {
        assert_eq!(url(address).as_deref(), Ok(expected));
    }
}
