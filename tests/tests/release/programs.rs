//! The real programs with what the release renders for them, started, asked and stopped by its scripts.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use agent::api::BROKER_NAME;
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::wait::until;
use tests::{Authority, Broker, eventually, processes};

use crate::job::{ERRANDS, Instance, document, jobs};
use crate::vm::{Vm, text};

const DEPLOYMENT: &str = "service-instance_1";
const CERTIFICATE_NAME: &str = "service-instance-1";
pub(crate) const AGENT: &str = "mysql-agent";
const BROKER: &str = "mysql-broker";
const LIMIT: Duration = Duration::from_secs(60);

/// An address that nobody else on this machine has.
fn address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let process = std::process::id();
    format!("127.{}.{}.{}", 84 + process % 12, process / 12 % 256, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// VMs of one service instance, with the agent and every errand on each.
pub(crate) fn service_instance(size: usize, topology: &str) -> Result<Vec<Vm>> {
    let addresses: Vec<String> = (0..size).map(|_| address()).collect();
    let tls = json!(Authority::new()?.issue(CERTIFICATE_NAME)?);
    (0..size)
        .map(|index| {
            let vm = Vm::new(&Instance::new(DEPLOYMENT, &addresses, index))?;
            vm.install(
                AGENT,
                &json!({"topology": topology, "admin_password": "adm1n", "replication_password": "repl1ca", "tls": tls,
                    "lease_ttl_in_ms": 3000}),
            )?;
            for errand in ERRANDS {
                vm.install(errand, &json!({"tls": tls}))?;
            }
            Ok(vm)
        })
        .collect()
}

/// Run an errand. Its program looks for the configuration below `/var/vcap`, unless it is told.
fn errand(vm: &Vm, name: &str) -> Result<std::process::Output> {
    let config = vm.path(name, "config.json");
    let config = config.to_str().context("the path is text")?;
    vm.run(name, "bin/run", &["--config", config], &[])
}

#[tokio::test]
async fn the_broker_starts_with_its_rendered_configuration_is_asked_and_stops() -> Result<()> {
    let instance = Instance::new(BROKER, &[address()], 0);
    let vm = Vm::new(&instance)?;
    let mut properties = jobs(&document("release/examples/broker.yml")?)?[BROKER].clone();
    properties["catalog"] = document("catalog.yml")?;
    properties["agent_tls"] = json!(Authority::new()?.issue(BROKER_NAME)?);
    properties["director"]["url"] = json!(format!("https://{}:25555", address()));
    properties["director"]["ca"] = properties["agent_tls"]["ca"].clone();
    vm.install(BROKER, &properties)?;

    vm.succeeds(BROKER, "bin/ctl", &["start"])?;
    let pid = vm.pid(BROKER)?;
    vm.succeeds(BROKER, "bin/ctl", &["start"])?;

    let config: Value = serde_json::from_slice(&std::fs::read(vm.path(BROKER, "config.json"))?)?;
    let broker = Broker::from_config(&config)?;
    eventually("the broker serves its catalog", LIMIT, async || {
        Ok((broker.get("/v2/catalog").await?.status == 200).then_some(()))
    })
    .await?;
    assert_eq!(broker.request(Method::GET, "/v2/catalog")?.send().await?.status(), 401);
    assert_eq!(vm.pid(BROKER)?, pid, "a broker that runs is not started again");
    vm.succeeds(BROKER, "bin/ctl", &["stop"])?;
    ensure!(!processes::is_alive(pid), "the broker runs although it was stopped");
    ensure!(vm.pid(BROKER).is_err(), "the process id of a stopped broker is still written down");
    Ok(())
}

#[test]
fn each_errand_reads_its_rendered_configuration_and_says_that_no_agent_answers() -> Result<()> {
    let vms = service_instance(1, "single-node")?;

    for name in ERRANDS {
        let output = errand(&vms[0], name)?;

        let (said, complaint) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{name}: {complaint}");
        assert!(said.contains(&format!("Started executing command: {name}\n")), "{name}: {said}");
        assert!(complaint.contains("does not answer"), "{name}: {complaint}");
    }
    Ok(())
}

#[test]
fn hooks_of_an_agent_that_is_not_there_fail_but_let_the_stop_go_on() -> Result<()> {
    let vms = service_instance(1, "single-node")?;

    let healthy = vms[0].run(AGENT, "bin/dns/healthy", &[], &[])?;
    let stopped = vms[0].run(AGENT, "bin/pre-stop", &[], &[])?;
    let started = vms[0].run(AGENT, "bin/post-start", &["--limit-in-seconds", "1"], &[])?;

    assert_eq!(healthy.status.code(), Some(1));
    assert_eq!(started.status.code(), Some(1));
    let complaint = text(&started.stderr);
    assert!(complaint.contains("wait 1 s for the agent"), "{complaint}");
    assert_eq!(stopped.status.code(), Some(0));
    let complaint = text(&stopped.stderr);
    assert!(complaint.contains("does not answer") && complaint.contains("the stop goes on"), "{complaint}");
    Ok(())
}

/// Does BOSH DNS send the clients of the deployment here?
fn is_healthy(vm: &Vm) -> Result<bool> {
    Ok(vm.run(AGENT, "bin/dns/healthy", &[], &[])?.status.success())
}

/// Wait until it does. A check on a busy machine may take longer than it is allowed to.
pub(crate) async fn leads(vm: &Vm) -> Result<()> {
    until("the server leads", LIMIT, || is_healthy(vm).unwrap_or_default()).await
}

/// Stop a VM as BOSH does, up to the point at which monit ends the agent.
fn before_stop(vm: &Vm, deployment_next_state: &str) -> Result<String> {
    let next = [("BOSH_VM_NEXT_STATE", "keep"), ("BOSH_DEPLOYMENT_NEXT_STATE", deployment_next_state)];
    let output = vm.run(AGENT, "bin/pre-stop", &[], &next)?;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    Ok(text(&output.stdout))
}

#[tokio::test]
async fn a_planned_stop_hands_the_leadership_over_and_a_deletion_does_not() -> Result<()> {
    let vms = service_instance(2, "leader-follower")?;
    for vm in &vms {
        vm.succeeds(AGENT, "bin/pre-start", &[])?;
        vm.succeeds(AGENT, "bin/ctl", &["start"])?;
    }
    for vm in &vms {
        let said = vm.succeeds(AGENT, "bin/post-start", &[])?;
        assert!(said.contains(" answers, role "), "{said}");
    }
    let configured = errand(&vms[0], "configure-leader-follower")?;
    assert!(configured.status.success(), "{}", text(&configured.stderr));
    let (leader, follower) =
        eventually("one of them leads", LIMIT, async || match (is_healthy(&vms[0])?, is_healthy(&vms[1])?) {
            (true, false) => Ok(Some((&vms[0], &vms[1]))),
            (false, true) => Ok(Some((&vms[1], &vms[0]))),
            (false, false) | (true, true) => Ok(None),
        })
        .await?;

    let deleted = before_stop(leader, "delete")?;
    assert!(deleted.contains("being deleted"), "{deleted}");
    let followed = before_stop(follower, "keep")?;
    assert!(followed.contains("Nothing to hand over"), "{followed}");
    leads(leader).await?;
    assert!(!is_healthy(follower)?);
    // As in an update: the follower was restarted a moment ago, and its server starts yet.
    follower.succeeds(AGENT, "bin/ctl", &["stop"])?;
    follower.succeeds(AGENT, "bin/ctl", &["start"])?;
    let handed_over = before_stop(leader, "keep")?;
    assert!(handed_over.contains("is the leader"), "{handed_over}");

    leads(follower).await?;
    assert!(!is_healthy(leader)?);
    for vm in &vms {
        vm.succeeds(AGENT, "bin/ctl", &["stop"])?;
    }
    until("no process of the VMs is left", LIMIT, || vms.iter().all(|vm| processes::of_stack(vm.root()).is_empty()))
        .await
}

/// Monit asks for the stop of a job whose agent is gone as well. The server must not outlive it: nobody would fence it.
#[tokio::test]
async fn a_server_whose_agent_was_killed_ends_with_its_job() -> Result<()> {
    for (size, topology) in [(1, "single-node"), (2, "leader-follower")] {
        let vms = service_instance(size, topology)?;
        for vm in &vms {
            vm.succeeds(AGENT, "bin/pre-start", &[])?;
            vm.succeeds(AGENT, "bin/ctl", &["start"])?;
        }
        for vm in &vms {
            vm.succeeds(AGENT, "bin/post-start", &[])?;
        }
        if size == 2 {
            let configured = errand(&vms[0], "configure-leader-follower")?;
            assert!(configured.status.success(), "{}", text(&configured.stderr));
        }

        for vm in &vms {
            processes::kill(vm.pid(AGENT)?);
            let is_server = |process: &processes::Process| process.program != AGENT;
            assert!(
                processes::of_stack(vm.root()).iter().any(is_server),
                "{topology}: the server ended with its agent"
            );
            vm.succeeds(AGENT, "bin/ctl", &["stop"])?;

            assert_eq!(processes::of_stack(vm.root()), [], "{topology}");
            ensure!(vm.pid(AGENT).is_err(), "{topology}: the process id of a stopped agent is still written down");
        }
    }
    Ok(())
}
