//! In network namespaces of their own.

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use std::fs::File;
use std::time::Duration;
use tests::eventually;
use tests::history::Side;

use super::side;
use crate::cell::{Cut, Fault, Jump, Part};
use crate::world::network::Node;
use crate::world::nodes::{Nodes, node};

const LIMIT: Duration = Duration::from_secs(60);
/// Half a jump.
const JUMPED: Duration = Duration::from_secs(1800);
/// How often a disk is filled to the brim.
const FILLINGS: u32 = 20;

/// Each VM is rebooted with a wall clock of its own, once; and its server is seen to have it.
pub(super) async fn give_wall_clocks(nodes: &mut Nodes) -> Result<()> {
    for vm in nodes.vms.iter_mut().filter(|vm| !vm.has_wall_clock()) {
        vm.kill(Part::Whole).await?;
        vm.give_wall_clock()?;
        vm.start()?;
        let right = eventually("the server says its time", LIMIT, async || vm.server_time().await.map(Some)).await?;
        for (jump, is_far) in [(Some(Jump::Ahead), true), (None, false)] {
            vm.set_wall_clock(jump)?;
            eventually("the server's clock has jumped", LIMIT, async || {
                Ok(((vm.server_time().await? > right + JUMPED) == is_far).then_some(()))
            })
            .await?;
        }
    }
    Ok(())
}

pub(super) async fn begin(nodes: &mut Nodes, fault: Fault, leader: Side) -> Result<()> {
    match fault {
        Fault::Nothing => Ok(()),
        Fault::Kill(part, of) => nodes.vm_mut(side(of, leader)).kill(part).await,
        Fault::Freeze(part, of) => {
            nodes.vm(side(of, leader)).freeze(part);
            Ok(())
        }
        Fault::Restart(part, of) => {
            let vm = nodes.vm_mut(side(of, leader));
            vm.terminate(part).await?;
            vm.start()
        }
        Fault::Cut(cut) => cuts(cut, leader).into_iter().try_for_each(|(from, to)| nodes.network.cut(from, to)),
        Fault::DiskFull(of) => fill(nodes, side(of, leader)),
        Fault::Clock(of) => {
            let vm = nodes.vm_mut(side(of, leader));
            vm.kill(Part::Whole).await?;
            vm.turn_clock();
            vm.start()
        }
        Fault::WallClock(of, jump) => nodes.vm(side(of, leader)).set_wall_clock(Some(jump)),
        Fault::KillWitness => {
            nodes.witness.kill();
            Ok(())
        }
        Fault::FreezeWitness => {
            nodes.witness.freeze();
            Ok(())
        }
        Fault::RestartWitness => nodes.witness.restart().await,
        Fault::KillDirector | Fault::FreezeDirector | Fault::RestartDirector => bail!("there is no director"),
    }
}

pub(super) fn end(nodes: &mut Nodes) -> Result<()> {
    nodes.network.heal()?;
    nodes.witness.thaw();
    nodes.witness.start()?;
    for side in Side::BOTH {
        let vm = nodes.vm_mut(side);
        vm.thaw();
        if vm.has_wall_clock() {
            vm.set_wall_clock(None)?;
        }
        let filler = vm.disk().join("filler");
        if filler.exists() {
            std::fs::remove_file(filler).context("make room on a disk")?;
        }
        vm.start()?;
    }
    Ok(())
}

/// Every direction in which packets are lost.
fn cuts(cut: Cut, leader: Side) -> Vec<(Node, Node)> {
    let (leads, follows, witness) = (node(leader), node(leader.other()), Node::Witness);
    let both_ways = |one: Node, other: Node| vec![(one, other), (other, one)];
    match cut {
        Cut::Pair => both_ways(leads, follows),
        Cut::LeaderWitness => both_ways(leads, witness),
        Cut::Leader => [both_ways(leads, follows), both_ways(leads, witness)].concat(),
        Cut::Follower => [both_ways(leads, follows), both_ways(follows, witness)].concat(),
        Cut::Witness => [both_ways(leads, witness), both_ways(follows, witness)].concat(),
        Cut::ToFollower => vec![(leads, follows)],
        Cut::FromFollower => vec![(follows, leads)],
        Cut::FromLeader => vec![(leads, follows), (leads, witness)],
        Cut::ToLeader => vec![(follows, leads), (witness, leads)],
    }
}

/// Leave no room on the disk. The server takes some of it at the same time, so what is left is asked for until it is little.
fn fill(nodes: &Nodes, side: Side) -> Result<()> {
    let disk = nodes.vm(side).disk();
    let filler = File::create(disk.join("filler")).context("make a file that fills a disk")?;
    let mut filled = 0;
    for _ in 0..FILLINGS {
        let room = statvfs(&disk).context("ask for the room on a disk")?;
        let wanted = room.f_bavail * room.f_bsize;
        if wanted == 0 {
            return Ok(());
        }
        match fallocate(&filler, FallocateFlags::empty(), filled, wanted) {
            Ok(()) => filled += wanted,
            Err(Errno::NOSPC) => {}
            Err(cause) => return Err(cause).context("fill a disk"),
        }
    }
    ensure!(filled > 0, "a disk cannot be filled");
    Ok(())
}
