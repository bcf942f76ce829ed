//! Errands on simulated VMs: what they do to the roles of the servers, with the lines that operators know.

use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use time::OffsetDateTime;
use time::macros::format_description;

use super::server::Role;
use super::{ErrandOutput, Machine, World};

impl ErrandOutput {
    /// An end without a word.
    pub(super) fn silent(exit_code: i32) -> Self {
        Self { exit_code, stdout: String::new(), stderr: String::new() }
    }
}

/// Carry an errand out at once. A refusal is its exit code 1, as on a real VM.
pub(super) fn run(world: &World, cid: &str, errand: &str) -> anyhow::Result<ErrandOutput> {
    let mut machines = world.lock();
    let machine = machines.get(cid).with_context(|| format!("there is no VM {cid}"))?;
    ensure!(machine.kept.jobs.iter().any(|job| job.name == errand), "VM {cid} has no errand named {errand}");
    let (own, peers) = (machine.kept.address, machine.kept.peers());
    let mut pair: Vec<&mut Machine> = machines
        .values_mut()
        .filter(|machine| machine.kept.is_running)
        .filter(|machine| machine.kept.address == own || peers.contains(&machine.kept.address))
        .collect();
    let done = carry_out(errand, own, &peers, &mut pair);
    pair.iter().try_for_each(|machine| machine.save_server())?;
    let began = line(&format!("Started executing command: {errand}"));
    Ok(match done {
        Ok(said) => {
            let ended = line(&format!("Successfully executed command: {errand}"));
            ErrandOutput { exit_code: 0, stdout: format!("{began}{said}{ended}"), stderr: String::new() }
        }
        Err(refusal) => ErrandOutput { exit_code: 1, stdout: began, stderr: line(&refusal) },
    })
}

/// What an errand on the VM `own` does to the servers that run.
fn carry_out(errand: &str, own: Ipv4Addr, peers: &[Ipv4Addr], pair: &mut [&mut Machine]) -> Result<String, String> {
    let leader = pair.iter().find(|machine| machine.server.role == Role::Leader).map(|machine| machine.kept.address);
    let other = peers.first().copied();
    match errand {
        "configure-leader-follower" => {
            if let Some(away) = peers.iter().find(|peer| !pair.iter().any(|machine| machine.kept.address == **peer)) {
                return Err(format!("Unable to configure: the agent at {away} does not answer"));
            }
            let leader = leader.unwrap_or(own);
            appoint(leader, true, pair);
            Ok(line(&format!("Leader: {leader}")))
        }
        "make-read-only" => {
            of(own, pair).for_each(|machine| machine.server.turn_read_only());
            Ok(String::new())
        }
        "make-leader" => match leader.filter(|leader| *leader != own) {
            Some(leader) => Err(format!("Unable to promote to avoid data divergence. Reason: {leader} is writable")),
            None => {
                appoint(own, false, pair);
                Ok(line(&format!("{own} is the leader")))
            }
        },
        "switchover" if leader != Some(own) => Err(format!("{own} does not lead; run this on the leader")),
        "switchover" => {
            appoint(other.unwrap_or(own), true, pair);
            Ok(line(&format!("Leader: {}", other.unwrap_or(own))))
        }
        "failover" | "force-make-leader" => {
            appoint(own, true, pair);
            Ok(line(&format!("{own} is the leader")))
        }
        "inspect" => {
            let said = pair.iter().map(|machine| line(&format!("{}: {:?}", machine.kept.address, machine.server.role)));
            Ok(said.collect())
        }
        _ => Ok(String::new()),
    }
}

/// One server leads, and the others follow it, or are told nothing.
fn appoint(leader: Ipv4Addr, others_follow: bool, pair: &mut [&mut Machine]) {
    for machine in pair {
        if machine.kept.address == leader {
            machine.server.lead();
        } else if others_follow {
            machine.server.follow(leader);
        }
    }
}

fn of<'a>(address: Ipv4Addr, pair: &'a mut [&mut Machine]) -> impl Iterator<Item = &'a mut Machine> {
    pair.iter_mut().filter(move |machine| machine.kept.address == address).map(|machine| &mut **machine)
}

/// As the errands write it.
fn line(text: &str) -> String {
    let format = format_description!("[year]/[month]/[day] [hour]:[minute]:[second]");
    let now = OffsetDateTime::now_utc().format(format).unwrap_or_default();
    format!("{now} {text}\n")
}
