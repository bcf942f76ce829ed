//! PURE. The dimensions of the fault matrix. A cell is one combination, and its name says which.

mod name;

use std::str::FromStr;

use ::tests::clients::Family;
use anyhow::{Result, bail};

/// Where a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// Each server and the witness has a network namespace of its own; nobody makes a lost VM anew but the schedule.
    Network,
    /// The whole stack on one machine: the director makes the VMs and has the stable address, the broker is the witness.
    Machine,
}

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

/// Where a wall clock jumps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Jump {
    Ahead,
    Back,
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
    /// The wall clock of agent and server jumps by an hour, and back in the end. Their monotonic clocks do not.
    WallClock(Of, Jump),
    KillWitness,
    FreezeWitness,
    RestartWitness,
    KillDirector,
    FreezeDirector,
    RestartDirector,
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

/// What a pair is, for all the cells that can be played on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group {
    pub(crate) place: Place,
    pub(crate) family: Family,
    pub(crate) mode: Mode,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    pub(crate) group: Group,
    pub(crate) fault: Fault,
    pub(crate) errand: Errand,
}

const PLACES: [Place; 2] = [Place::Network, Place::Machine];
const MODES: [Mode; 2] = [Mode::Async, Mode::SemiSync];
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

/// Every pair that there can be of these families.
pub(crate) fn groups(families: &[Family]) -> Vec<Group> {
    let kinds = families.iter().flat_map(|family| MODES.map(|mode| (*family, mode)));
    let kinds: Vec<_> = kinds.collect();
    PLACES
        .into_iter()
        .flat_map(|place| kinds.iter().map(move |(family, mode)| Group { place, family: *family, mode: *mode }))
        .collect()
}

/// Every fault of a place.
fn faults(place: Place) -> Vec<Fault> {
    match place {
        Place::Network => faults_in_the_network(),
        Place::Machine => faults_on_the_machine(),
    }
}

/// The leader's and the network's first: a short run is spent on them. A server looks for room on its disk once a minute,
/// which is long.
fn faults_in_the_network() -> Vec<Fault> {
    let mut faults = vec![Fault::Nothing];
    faults.extend(faults_of(Of::Leader));
    faults.extend(CUTS.map(Fault::Cut));
    faults.extend(faults_of(Of::Follower));
    faults.extend([Fault::KillWitness, Fault::FreezeWitness, Fault::RestartWitness]);
    faults.extend(OFS.map(Fault::DiskFull));
    faults
}

/// The director's first, which are the point; and some of what it has to mend.
fn faults_on_the_machine() -> Vec<Fault> {
    let mut faults = vec![Fault::KillDirector, Fault::FreezeDirector, Fault::RestartDirector];
    faults.extend([Fault::KillWitness, Fault::FreezeWitness, Fault::RestartWitness]);
    faults.extend(PARTS.map(|part| Fault::Kill(part, Of::Leader)));
    faults.extend([Part::Agent, Part::Whole].map(|part| Fault::Freeze(part, Of::Leader)));
    faults.extend([Part::Server, Part::Whole].map(|part| Fault::Kill(part, Of::Follower)));
    faults.push(Fault::Nothing);
    faults
}

fn faults_of(of: Of) -> Vec<Fault> {
    let mut faults = PARTS.map(|part| Fault::Kill(part, of)).to_vec();
    faults.extend(PARTS.map(|part| Fault::Freeze(part, of)));
    faults.extend([Part::Server, Part::Agent].map(|part| Fault::Restart(part, of)));
    faults.push(Fault::Clock(of));
    faults.extend([Jump::Ahead, Jump::Back].map(|jump| Fault::WallClock(of, jump)));
    faults
}

/// Every cell of a group.
pub(crate) fn cells(group: Group) -> Vec<Cell> {
    let faults = faults(group.place).into_iter();
    let cells = faults.flat_map(|fault| ERRANDS.map(|errand| Cell { group, fault, errand }));
    cells.filter(|cell| (cell.fault, cell.errand) != (Fault::Nothing, Errand::Nothing)).collect()
}

impl FromStr for Cell {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Cell> {
        let all = groups(&[Family::Mariadb, Family::Mysql]).into_iter().flat_map(cells);
        let mut found = all.filter(|cell| cell.to_string() == name);
        match found.next() {
            Some(cell) => Ok(cell),
            None => bail!("there is no cell {name}; `chaos --list` prints all"),
        }
    }
}

/// Cells without end: each fault of each group in turn, with another errand each round.
pub(crate) fn round_robin(groups: &[Group], seed: u64) -> impl Iterator<Item = Cell> {
    let first = (seed % ERRANDS.len() as u64) as usize;
    let faults: Vec<Vec<Fault>> = groups.iter().map(|group| faults(group.place)).collect();
    let most = faults.iter().map(Vec::len).max().unwrap_or_default();
    let turns = (0..).flat_map(move |round| (0..most).map(move |at| (round, at)));
    let cells = turns.flat_map(move |(round, at)| {
        let of_group = groups.iter().zip(&faults).enumerate().filter_map(|(number, (group, faults))| {
            // Another errand for each neighbour, so that a short run sees all of them.
            let errand = ERRANDS[(first + round + at + number) % ERRANDS.len()];
            Some(Cell { group: *group, fault: *faults.get(at)?, errand })
        });
        of_group.collect::<Vec<Cell>>()
    });
    cells.filter(|cell| (cell.fault, cell.errand) != (Fault::Nothing, Errand::Nothing))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_cell_is_found_by_its_name() {
        let all: Vec<Cell> = groups(&[Family::Mariadb]).into_iter().flat_map(cells).collect();
        let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();

        assert_eq!(names.len(), all.len());
        for cell in all {
            assert_eq!(cell.to_string().parse::<Cell>().unwrap(), cell);
        }
        assert!("network/mariadb/async/kill-everything/switchover".parse::<Cell>().is_err());
    }

    #[test]
    fn a_run_plays_every_fault_before_any_a_second_time_and_with_every_errand_in_the_end() {
        let groups = groups(&[Family::Mariadb, Family::Mysql]);
        let once = groups.iter().map(|group| faults(group.place).len()).sum::<usize>() - groups.len();
        let all: BTreeSet<Cell> = groups.iter().copied().flat_map(cells).collect();

        let round: BTreeSet<_> = round_robin(&groups, 7).take(once).map(|cell| (cell.group, cell.fault)).collect();
        assert!(round.len() >= once, "{}", round.len());
        // Each round has another errand for each fault, so as many rounds as there are errands have no cell twice.
        let rounds: BTreeSet<Cell> = round_robin(&groups, 7).take(all.len()).collect();
        assert_eq!(rounds, all);
    }
}
