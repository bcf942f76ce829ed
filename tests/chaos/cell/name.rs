//! PURE. The names of cells.

use std::fmt;

use super::{Cell, Cut, Errand, Fault, Group, Jump, Of, Part, Place};

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
            Fault::WallClock(of, Jump::Ahead) => write!(f, "wall-clock-ahead@{}", of_name(*of)),
            Fault::WallClock(of, Jump::Back) => write!(f, "wall-clock-back@{}", of_name(*of)),
            Fault::KillWitness => f.write_str("kill-witness"),
            Fault::FreezeWitness => f.write_str("freeze-witness"),
            Fault::RestartWitness => f.write_str("restart-witness"),
            Fault::KillDirector => f.write_str("kill-director"),
            Fault::FreezeDirector => f.write_str("freeze-director"),
            Fault::RestartDirector => f.write_str("restart-director"),
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

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Network => "network",
            Place::Machine => "machine",
        };
        write!(f, "{place}/{}/{}", self.family.name(), self.mode.name())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group, self.fault, self.errand)
    }
}
