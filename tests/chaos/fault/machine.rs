//! On one machine: what ends by itself is started again by the director, and the director by the schedule.

use std::time::Duration;

use anyhow::{Result, bail};
use tests::history::Side;
use tests::processes;
use tests::wait::until;

use super::side;
use crate::cell::Fault;
use crate::world::machine::Machine;

const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn begin(machine: &Machine, fault: Fault, leader: Side) -> Result<()> {
    match fault {
        Fault::Nothing => {}
        Fault::Kill(part, of) => machine.pids(part, side(of, leader))?.into_iter().for_each(processes::kill),
        Fault::Freeze(part, of) => machine.pids(part, side(of, leader))?.into_iter().for_each(processes::pause),
        Fault::Restart(part, of) => machine.pids(part, side(of, leader))?.into_iter().for_each(processes::terminate),
        Fault::KillWitness => processes::kill(machine.broker_pid()?),
        Fault::FreezeWitness => processes::pause(machine.broker_pid()?),
        Fault::RestartWitness => processes::terminate(machine.broker_pid()?),
        Fault::KillDirector => processes::kill(machine.stack.director_pid()?),
        Fault::FreezeDirector => processes::pause(machine.stack.director_pid()?),
        Fault::RestartDirector => {
            let pid = machine.stack.director_pid()?;
            processes::terminate(pid);
            until("the director ends", LIMIT, || !processes::is_alive(pid)).await?;
            machine.stack.start_director().await?;
        }
        Fault::Cut(_) | Fault::DiskFull(_) | Fault::Clock(_) | Fault::WallClock(..) => {
            bail!("{fault} cannot be played on one machine")
        }
    }
    Ok(())
}

pub(super) async fn end(machine: &Machine) -> Result<()> {
    processes::of_stack(machine.stack.directory()).into_iter().for_each(|process| processes::resume(process.pid));
    match processes::is_alive(machine.stack.director_pid()?) {
        true => Ok(()),
        false => machine.stack.start_director().await,
    }
}
