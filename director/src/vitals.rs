//! What a `retrieve vm-stats` task answers: one JSON line for each instance (or for each VM), with the state of its
//! processes as its supervisor sees it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cpi::{Process, ProcessState, VmState};
use crate::director::{Director, VMS_IN_FLIGHT, side_by_side};
use crate::error::Result;
use crate::model::{Deployment, DesiredState, Instance, Vm};
use crate::task::Running;

/// Which lines are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    Instances,
    /// Only instances with a VM.
    Vms,
}

pub(crate) async fn retrieve(director: Arc<Director>, task: Running, name: String, lines: Lines) -> Result<String> {
    let deployment = director.store.deployment(&name)?;
    let chosen = deployment.instances.iter().filter(|instance| lines == Lines::Instances || instance.vm.is_some());
    let work = chosen.map(|instance| {
        let (director, task, deployment) = (&director, &task, &deployment);
        async move { task.result_line(&line(director, deployment, instance).await) }
    });
    side_by_side(VMS_IN_FLIGHT, work.collect()).await?;
    Ok(String::new())
}

async fn line(director: &Director, deployment: &Deployment, instance: &Instance) -> Value {
    let state = match &instance.vm {
        Some(vm) => Some(director.cpi.vm_state(&vm.cid).await),
        None => None,
    };
    let job_state = state.as_ref().map(|state| job_state(instance.state, state));
    let processes = match &state {
        Some(VmState::Present { processes }) => processes.as_slice(),
        Some(VmState::Missing | VmState::Silent) | None => &[],
    };
    let vm = instance.vm.as_ref();
    let disks: Vec<&str> = instance.disk.iter().map(|disk| disk.cid.as_str()).collect();
    json!({
        "vm_cid": vm.map(|vm| &vm.cid), "active": vm.map(|_| true), "vm_created_at": vm.map(|vm| &vm.created_at),
        "cloud_properties": {}, "disk_cid": disks.first(), "disk_cids": disks, "ips": ips(instance),
        "agent_id": vm.map(|vm| &vm.agent_id), "job_name": instance.group, "index": instance.index,
        "job_state": job_state, "state": instance.state.name(), "vm_type": vm.map(|vm| &vm.vm_type),
        "vitals": vitals(state.as_ref(), processes),
        "processes": processes.iter().map(process).collect::<Vec<_>>(),
        "az": instance.az, "id": instance.id, "bootstrap": instance.bootstrap, "ignore": instance.is_ignored,
        "resurrection_paused": false, "stemcell": stemcell(deployment),
    })
}

/// An instance without a VM shows no address: nothing listens there.
fn ips(instance: &Instance) -> Vec<String> {
    instance.vm.iter().map(|vm| vm.address.to_string()).collect()
}

fn job_state(wanted: DesiredState, state: &VmState) -> &'static str {
    let VmState::Present { processes } = state else { return "unresponsive agent" };
    let any = |state: ProcessState| processes.iter().any(|process| process.state == state);
    if any(ProcessState::Failing) {
        "failing"
    } else if any(ProcessState::Starting) {
        "starting"
    } else if any(ProcessState::Stopped) || wanted != DesiredState::Started {
        "stopped"
    } else {
        "running"
    }
}

fn process(process: &Process) -> Value {
    let state = match process.state {
        ProcessState::Running => "running",
        ProcessState::Starting => "starting",
        ProcessState::Stopped => "stopped",
        ProcessState::Failing => "failing",
    };
    json!({"name": process.name, "state": state, "uptime": {"secs": process.uptime_secs},
        "mem": {"kb": process.memory_kb, "percent": 0.0}, "cpu": {"total": 0.0}})
}

/// As texts, as in BOSH; what one machine cannot say of one VM is left out.
fn vitals(state: Option<&VmState>, processes: &[Process]) -> Value {
    let Some(VmState::Present { .. }) = state else { return Value::Null };
    let memory_kb: u64 = processes.iter().map(|process| process.memory_kb).sum();
    let uptime_secs = processes.iter().map(|process| process.uptime_secs).max().unwrap_or(0);
    json!({"cpu": {}, "disk": {}, "load": [], "mem": {"kb": memory_kb.to_string(), "percent": "0"}, "swap": {},
        "uptime": {"secs": uptime_secs}})
}

fn stemcell(deployment: &Deployment) -> Value {
    let stemcells = crate::manifest::references(deployment.manifest().unwrap_or_default(), "stemcells");
    stemcells.first().map_or(
        Value::Null,
        |stemcell| json!({"name": stemcell.name, "version": stemcell.version, "api_version": null}),
    )
}

/// A row of `GET /deployments/D/instances` or `/vms`: cheap, without a task and without asking any VM.
pub(crate) fn row(instance: &Instance, lines: Lines) -> Value {
    let field = |get: fn(&Vm) -> &String| instance.vm.as_ref().map(get);
    let mut row = json!({
        "agent_id": field(|vm| &vm.agent_id), "cid": field(|vm| &vm.cid), "job": instance.group,
        "index": instance.index, "id": instance.id, "az": instance.az, "ips": ips(instance),
        "vm_created_at": field(|vm| &vm.created_at),
    });
    match lines {
        Lines::Instances => row["expects_vm"] = json!(instance.state != DesiredState::Detached),
        Lines::Vms => {
            row["active"] = json!(true);
            row["permanent_nats_credentials"] = json!(false);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_vm_follows_from_its_processes() {
        use ProcessState::{Failing, Running, Starting, Stopped};
        let (started, stopped) = (DesiredState::Started, DesiredState::Stopped);
        let table: [(DesiredState, &[ProcessState], &str); 7] = [
            (started, &[], "running"),
            (started, &[Running, Running], "running"),
            (started, &[Running, Starting], "starting"),
            (started, &[Starting, Failing], "failing"),
            (started, &[Running, Stopped], "stopped"),
            (stopped, &[Stopped], "stopped"),
            (stopped, &[], "stopped"),
        ];
        for (wanted, states, expected) in table {
            let processes = states.iter().map(|state| Process {
                name: "p".into(),
                state: *state,
                pid: None,
                uptime_secs: 0,
                memory_kb: 0,
            });
            let state = VmState::Present { processes: processes.collect() };
            assert_eq!(job_state(wanted, &state), expected, "{wanted:?} {states:?}");
        }
        assert_eq!(job_state(started, &VmState::Missing), "unresponsive agent");
    }
}
