//! The check, on a director and a UAA that are right or wrong in one thing each.

use serde_json::{Value, json};

use super::*;
use crate::app::fixture::app;
use crate::bosh::Director;
use crate::bosh::fixture::{CLIENT_SECRET, Foreign, TOKEN};

const CLOUD_CONFIG: &str = "{azs: [{name: z1}, {name: z2}], vm_types: [{name: small}], networks: [{name: default}], \
    disk_types: [{name: 5GB, disk_size: 5120}]}";
const NO_SCOPE: &str = r#"{"code":600000,"description":"Require one of the scopes: bosh.admin"}"#;

/// A director that has all that our documents need.
async fn good() -> Foreign {
    let foreign = Foreign::with_uaa().await;
    let mut world = foreign.world();
    world.documents.insert("/configs", cloud_config(CLOUD_CONFIG));
    world.documents.insert("/releases", releases("0.1.0"));
    world.documents.insert("/stemcells", stemcells("1.930"));
    drop(world);
    foreign
}

fn cloud_config(content: &str) -> Value {
    json!([{"content": content, "id": "1", "type": "cloud", "name": "default", "team": null, "current": true}])
}

fn releases(version: &str) -> Value {
    json!([{"name": "tandem", "release_versions": [{"version": version, "currently_deployed": true, "job_names": []}]}])
}

fn stemcells(version: &str) -> Value {
    json!([{"name": "bosh-jammy", "operating_system": "ubuntu-jammy", "version": version, "cid": "c", "deployments": []}])
}

/// What the check says of it, one thing a line.
async fn said(director: Director) -> String {
    let (mut app, _directory) = app().await;
    app.director = director;
    let said = match check(&app).await {
        Ok((_, complaints)) => complaints.join("\n"),
        Err(error) => format!("{error:#}"),
    };
    for secret in [CLIENT_SECRET, TOKEN] {
        assert!(!said.contains(secret), "{said}");
    }
    said
}

#[tokio::test]
async fn nothing_is_said_of_a_director_that_has_everything_or_tells_nothing() {
    let foreign = good().await;
    assert_eq!(said(foreign.client()).await, "");

    foreign.world().documents.clear();
    assert_eq!(said(foreign.client()).await, "");

    foreign.world().denies = Some((401, NO_SCOPE));
    assert_eq!(said(foreign.client()).await, "");
}

#[tokio::test]
async fn what_the_director_lacks_is_named_with_the_plans_that_need_it() {
    let both = "`db-single`, `db-leader-follower`";
    let cloud = |from: &str, to: &str| ("/configs", cloud_config(&CLOUD_CONFIG.replace(from, to)));
    for ((path, document), words) in [
        (cloud("{name: z2}", "{name: z3}"), "cloud config does not have the availability zone `z2`"),
        (cloud("small", "big"), "does not have the VM type `small`"),
        (cloud("5GB", "6GB"), "does not have the disk type `5GB`"),
        (cloud("default", "private"), "does not have the network `default`"),
        (("/releases", releases("0.0.9")), "does not have the release `tandem/0.1.0`"),
        (("/releases", json!([])), "does not have the release `tandem/0.1.0`"),
        (("/stemcells", stemcells("1.931")), "does not have the stemcell `ubuntu-jammy/1.930`"),
    ] {
        let foreign = good().await;
        foreign.world().documents.insert(path, document);

        let said = said(foreign.client()).await;

        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(words) && said.ends_with(both), "{said}");
    }
}

#[tokio::test]
async fn a_director_that_is_too_old_or_does_not_know_us_is_named() {
    let foreign = good().await;
    foreign.world().version = "267.5.0 (00000000)";
    assert!(said(foreign.client()).await.contains("it is 267.5.0 (00000000), but links need 266.12, 267.6 or later"));

    let foreign = Foreign::start().await;
    foreign.world().client_secret = "another";
    assert!(said(foreign.client()).await.starts_with("the director does not know us: check the properties"));
}

#[tokio::test]
async fn whatever_is_in_the_way_is_named_with_the_property_to_look_at() {
    let (foreign, other) = (good().await, Foreign::with_uaa().await);
    let client = |url: &str, ca: &str| {
        let config = json!({"url": url, "ca": ca, "client": "c", "client_secret": CLIENT_SECRET});
        Director::new(&serde_json::from_value(config).unwrap()).unwrap()
    };
    let says = async |director: Director, words: &str| {
        let said = said(director).await;
        assert!(said.starts_with(words), "{said}");
    };

    says(client("https://127.0.0.1:1", &foreign.ca), "nothing answers at the property `director.url`").await;
    says(client(&foreign.url, &other.ca), "the certificate of the director is not signed by the property").await;
    let localhost = foreign.url.replace("127.0.0.1", "localhost");
    says(client(&localhost, &foreign.ca), "the certificate of the director is not for the host").await;
    foreign.world().uaa_answers.push_back((503, "<html></html>"));
    says(foreign.client(), "the UAA, or a proxy before it, is in trouble").await;
    foreign.world().uaa_answers.push_back((200, "<html></html>"));
    says(foreign.client(), "what answers where the director names its UAA is no UAA").await;
    foreign.world().client_secret = "another";
    says(foreign.client(), "the UAA refuses the client: check the properties `director.client`").await;
    foreign.world().uaa_urls = vec![other.url.clone()];
    says(foreign.client(), "the certificate of the UAA is not signed by the property `director.uaa_ca`").await;
    foreign.world().uaa_urls = vec!["https://127.0.0.1:1".into()];
    says(foreign.client(), "the UAA that the director names does not answer").await;
}
