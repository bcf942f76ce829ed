//! PURE. The dimensions of the fault matrix. A cell is one combination, and its name says which.

use std::fmt;
use std::str::FromStr;

use ::tests::clients::Family;
use anyhow::{Result, bail};

/// How commits are replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mode {
    Async,
    SemiSync,
}

impl Mode {
    /// The name in plans and properties.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Async => "async",
            Mode::SemiSync => "semi-sync",
        }
    }
}

/// The processes of a VM that a fault may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// The MySQL server.
    Server,
    /// The agent itself, not the processes that it started.
    Agent,
    /// Every process.
    Whole,
}

/// Which server, by what it is when the schedule begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Of {
    Leader,
    Follower,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cut {
    /// Between leader and follower.
    Pair,
    /// Between leader and witness.
    LeaderWitness,
    /// Between the leader and both others.
    Leader,
    /// Between the follower and both others.
    Follower,
    /// Between the witness and both others.
    Witness,
    /// From leader to follower only.
    ToFollower,
    /// From follower to leader only.
    FromFollower,
    /// From the leader to both others only.
    FromLeader,
    /// To the leader from both others only.
    ToLeader,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    Nothing,
    Kill(Part, Of),
    Freeze(Part, Of),
    Restart(Part, Of),
    Cut(Cut),
    /// The persistent disk.
    DiskFull(Of),
    /// The VM is rebooted, and its monotonic clock counts from another moment.
    Clock(Of),
    KillWitness,
    FreezeWitness,
    RestartWitness,
}

/// What an operator asks for meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Errand {
    Nothing,
    /// On the leader.
    Switchover,
    /// On the follower.
    MakeLeader,
    /// On the follower.
    Failover,
    /// On the follower, by an operator who says that the old leader is dead, whether it is or not.
    ForceMakeLeader,
    /// On the leader, then make-leader on the follower.
    MakeReadOnly,
    /// On the follower.
    Configure,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    pub(crate) family: Family,
    pub(crate) mode: Mode,
    pub(crate) fault: Fault,
    pub(crate) errand: Errand,
}

const PARTS: [Part; 3] = [Part::Server, Part::Agent, Part::Whole];
const OFS: [Of; 2] = [Of::Leader, Of::Follower];
const CUTS: [Cut; 9] = [
    Cut::Pair,
    Cut::LeaderWitness,
    Cut::Leader,
    Cut::Follower,
    Cut::Witness,
    Cut::ToFollower,
    Cut::FromFollower,
    Cut::FromLeader,
    Cut::ToLeader,
];
const ERRANDS: [Errand; 7] = [
    Errand::Nothing,
    Errand::Switchover,
    Errand::MakeLeader,
    Errand::Failover,
    Errand::MakeReadOnly,
    Errand::ForceMakeLeader,
    Errand::Configure,
];

impl Errand {
    /// What one asks for when the leader is gone.
    pub(crate) fn is_for_a_lost_leader(self) -> bool {
        match self {
            Errand::MakeLeader | Errand::Failover | Errand::ForceMakeLeader => true,
            Errand::Nothing | Errand::Switchover | Errand::MakeReadOnly | Errand::Configure => false,
        }
    }
}

/// Every fault, the leader's and the network's first: a short run is spent on them. A server looks for room on its disk
/// once a minute, which is long.
pub(crate) fn faults() -> Vec<Fault> {
    let mut faults = vec![Fault::Nothing];
    faults.extend(faults_of(Of::Leader));
    faults.extend(CUTS.map(Fault::Cut));
    faults.extend(faults_of(Of::Follower));
    faults.extend([Fault::KillWitness, Fault::FreezeWitness, Fault::RestartWitness]);
    faults.extend(OFS.map(Fault::DiskFull));
    faults
}

fn faults_of(of: Of) -> Vec<Fault> {
    let mut faults = PARTS.map(|part| Fault::Kill(part, of)).to_vec();
    faults.extend(PARTS.map(|part| Fault::Freeze(part, of)));
    faults.extend([Part::Server, Part::Agent].map(|part| Fault::Restart(part, of)));
    faults.push(Fault::Clock(of));
    faults
}

/// Every cell of a family and a mode.
pub(crate) fn cells(family: Family, mode: Mode) -> Vec<Cell> {
    let faults = faults().into_iter();
    let cells = faults.flat_map(|fault| ERRANDS.map(|errand| Cell { family, mode, fault, errand }));
    cells.filter(|cell| (cell.fault, cell.errand) != (Fault::Nothing, Errand::Nothing)).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Nothing => f.write_str("no-fault"),
            Fault::Kill(part, of) => write!(f, "kill-{}", on(*part, *of)),
            Fault::Freeze(part, of) => write!(f, "freeze-{}", on(*part, *of)),
            Fault::Restart(part, of) => write!(f, "restart-{}", on(*part, *of)),
            Fault::Cut(cut) => f.write_str(match cut {
                Cut::Pair => "cut-leader-follower",
                Cut::LeaderWitness => "cut-leader-witness",
                Cut::Leader => "cut-leader-off",
                Cut::Follower => "cut-follower-off",
                Cut::Witness => "cut-witness-off",
                Cut::ToFollower => "lose-leader-to-follower",
                Cut::FromFollower => "lose-follower-to-leader",
                Cut::FromLeader => "lose-from-leader",
                Cut::ToLeader => "lose-to-leader",
            }),
            Fault::DiskFull(of) => write!(f, "disk-full@{}", of_name(*of)),
            Fault::Clock(of) => write!(f, "reboot-with-other-clock@{}", of_name(*of)),
            Fault::KillWitness => f.write_str("kill-witness"),
            Fault::FreezeWitness => f.write_str("freeze-witness"),
            Fault::RestartWitness => f.write_str("restart-witness"),
        }
    }
}

fn on(part: Part, of: Of) -> String {
    let part = match part {
        Part::Server => "server",
        Part::Agent => "agent",
        Part::Whole => "vm",
    };
    format!("{part}@{}", of_name(of))
}

fn of_name(of: Of) -> &'static str {
    match of {
        Of::Leader => "leader",
        Of::Follower => "follower",
    }
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Errand::Nothing => "no-errand",
            Errand::Switchover => "switchover",
            Errand::MakeLeader => "make-leader",
            Errand::Failover => "failover",
            Errand::ForceMakeLeader => "force-make-leader",
            Errand::MakeReadOnly => "make-read-only",
            Errand::Configure => "configure",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.family.name(), self.mode.name(), self.fault, self.errand)
    }
}

impl FromStr for Cell {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Cell> {
        let families = [Family::Mariadb, Family::Mysql];
        let modes = [Mode::Async, Mode::SemiSync];
        let all = families.into_iter().flat_map(|family| modes.into_iter().flat_map(move |mode| cells(family, mode)));
        let mut found = all.filter(|cell| cell.to_string() == name);
        match found.next() {
            Some(cell) => Ok(cell),
            None => bail!("there is no cell {name}; `chaos --list` prints all"),
        }
    }
}

/// Cells without end: each fault of each family and mode in turn, with another errand each round.
pub(crate) fn round_robin(groups: &[(Family, Mode)], seed: u64) -> impl Iterator<Item = Cell> {
    let first = (seed % ERRANDS.len() as u64) as usize;
    let turns = (0..).flat_map(move |round| {
        let faults = faults().into_iter().enumerate();
        // Another errand for each neighbour, so that a short run sees all of them.
        faults
            .flat_map(move |(at, fault)| (0..groups.len()).map(move |group| (group, fault, first + round + at + group)))
    });
    let cells = turns.map(move |(group, fault, turn)| {
        let (family, mode) = groups[group];
        Cell { family, mode, fault, errand: ERRANDS[turn % ERRANDS.len()] }
    });
    cells.filter(|cell| (cell.fault, cell.errand) != (Fault::Nothing, Errand::Nothing))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_cell_is_found_by_its_name() {
        let all = cells(Family::Mariadb, Mode::SemiSync);
        let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();

        assert_eq!(names.len(), all.len());
        for cell in all {
            assert_eq!(cell.to_string().parse::<Cell>().unwrap(), cell);
        }
        assert!("mariadb/async/kill-everything/switchover".parse::<Cell>().is_err());
    }

    #[test]
    fn a_run_plays_every_fault_before_any_a_second_time_and_with_every_errand_in_the_end() {
        let groups = [(Family::Mariadb, Mode::Async), (Family::Mysql, Mode::SemiSync)];
        let once = groups.len() * faults().len();
        let all: BTreeSet<Cell> = groups.into_iter().flat_map(|(family, mode)| cells(family, mode)).collect();

        let round: BTreeSet<_> = round_robin(&groups, 7).take(once - 2).map(|cell| (cell.family, cell.fault)).collect();
        assert!(round.len() >= once - 2, "{}", round.len());
        // Each round has another errand for each fault, so as many rounds as there are errands have no cell twice.
        let rounds: BTreeSet<Cell> = round_robin(&groups, 7).take(all.len()).collect();
        assert_eq!(rounds, all);
    }
}
