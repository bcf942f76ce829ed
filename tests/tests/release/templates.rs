//! What the templates come to: the document that the one-machine director writes, and nothing else.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::job::{self, ERRANDS, Instance, document, jobs, release, render};

fn pair() -> Instance {
    Instance::new("service-instance_1", &["10.0.8.11".to_owned(), "10.0.8.12".to_owned()], 1)
}

/// The names of the jobs in the release.
fn names() -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(release().join("jobs")).context("list the jobs")?;
    entries.map(|entry| Ok(entry.context("list the jobs")?.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn the_release_has_the_jobs_that_the_one_machine_director_knows() -> Result<()> {
    let known = document("release.yml")?;
    let listed = known["jobs"].as_array().context("the release has jobs")?;
    let listed: BTreeSet<String> = listed.iter().filter_map(|job| job["name"].as_str().map(str::to_owned)).collect();

    assert_eq!(names()?, listed);
    assert!(ERRANDS.iter().all(|errand| listed.contains(*errand)));
    Ok(())
}

#[test]
fn each_job_of_a_pair_and_of_a_single_node_gets_its_properties_as_they_stand_in_the_manifest() -> Result<()> {
    for topology in ["leader-follower.yml", "single-node.yml"] {
        for (name, mut properties) in jobs(&document(topology)?)? {
            if properties.get("witness").is_some() {
                properties["witness"] = json!({"host": "10.0.9.2", "port": 8009});
            }
            if name == "mysql-agent" {
                properties["parameters"] = json!({"workload": "read-heavy"});
            }

            let rendered = render(&name, &pair(), &properties)?;

            let config: Value = serde_json::from_str(&rendered["config.json"])?;
            assert_eq!(config["properties"], properties, "{topology}, {name}");
            assert_eq!(config["spec"]["id"], "id-1");
            assert_eq!(config["spec"]["ip"], "10.0.8.12");
            let linked = config["links"]["mysql"]["instances"].as_array().map(Vec::len);
            assert_eq!(linked, (name == "mysql-agent").then_some(2), "{topology}, {name}");
        }
    }
    Ok(())
}

#[test]
fn an_undeclared_property_of_the_manifest_goes_nowhere_and_a_missing_one_that_is_needed_is_named() -> Result<()> {
    let tls = json!({"ca": "c", "certificate": "d", "private_key": "k"});

    let config = &render("inspect", &pair(), &json!({"tls": tls, "strange": 1}))?["config.json"];
    let missing = render("inspect", &pair(), &json!({"tls": {"ca": "c"}})).map(drop);

    assert_eq!(serde_json::from_str::<Value>(config)?["properties"], json!({"tls": tls}));
    let complaint = missing.err().context("an errand without keys is refused")?.to_string();
    assert!(complaint.contains("Can't find property 'tls.certificate'"), "{complaint}");
    Ok(())
}

#[test]
fn a_link_that_gives_names_is_refused_with_what_to_write() -> Result<()> {
    let names = ["a.mysql.default.service-instance-1.bosh".to_owned()];
    let properties = &jobs(&document("single-node.yml")?)?["mysql-agent"];

    let refused = render("mysql-agent", &Instance::new("d", &names, 0), properties).map(drop);

    let complaint = refused.err().context("a name is refused")?.to_string();
    assert!(complaint.contains("{mysql: {from: mysql, ip_addresses: true}}"), "{complaint}");
    Ok(())
}

/// The broker's example, with an answer for each question to the operator that is no text.
fn example() -> Result<Value> {
    let mut properties = jobs(&document("release/examples/broker.yml")?)?["mysql-broker"].clone();
    properties["catalog"] = document("catalog.yml")?;
    properties["service_instances"] =
        json!({"stemcell": {"os": "ubuntu-noble", "version": "1.17"}, "network": "services"});
    Ok(properties)
}

#[test]
fn the_broker_gets_the_manifests_of_this_repository_for_the_operators_stemcell_and_network() -> Result<()> {
    let rendered = render("mysql-broker", &pair(), &example()?)?;

    let parse = |name: &str| serde_yaml::from_str::<Value>(&rendered[&format!("documents/{name}.yml")]);
    assert_eq!(parse("catalog")?, document("catalog.yml")?);
    for topology in ["leader-follower", "single-node"] {
        let mut expected = document(&format!("{topology}.yml"))?;
        expected["stemcells"] = json!([{"alias": "default", "os": "ubuntu-noble", "version": "1.17"}]);
        let group = &mut expected["instance_groups"][0];
        group["networks"] = json!([{"name": "services"}]);
        group["jobs"][0]["consumes"]["mysql"]["ip_addresses"] = true.into();
        assert_eq!(parse(topology)?, expected, "{topology}");
    }
    Ok(())
}

#[test]
fn every_script_is_one_that_bash_reads_and_that_stops_at_an_error() -> Result<()> {
    let tls = json!({"ca": "c", "certificate": "d", "private_key": "k"});
    for name in names()? {
        let properties = match name.as_str() {
            "mysql-broker" => example()?,
            _ => json!({"tls": tls, "topology": "single-node", "admin_password": "p"}),
        };
        let rendered = render(&name, &pair(), &properties)?;
        let scripts: Vec<_> = rendered.iter().filter(|(path, _)| path.starts_with("bin/")).collect();
        ensure!(!scripts.is_empty(), "{name} has no script");
        for (path, text) in scripts {
            ensure!(text.starts_with("#!/bin/bash\n"), "{name}: {path} does not say which shell runs it");
            ensure!(text.contains("\nset -euo pipefail\n"), "{name}: {path} goes on after an error");
            let checked = Command::new("bash").args(["-n", "-c", text]).output().context("start bash")?;
            let complaint = String::from_utf8_lossy(&checked.stderr);
            ensure!(checked.status.success(), "{name}: {path} is not usable: {complaint}");
        }
        assert_eq!(
            job::ERRANDS.contains(&name.as_str()),
            rendered["monit"].is_empty(),
            "{name}: only daemons have a monit"
        );
    }
    Ok(())
}
