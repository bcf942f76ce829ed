//! Making a fault, and ending it.

mod machine;
mod nodes;

use anyhow::Result;
use tests::history::Side;

use crate::cell::{Fault, Of};
use crate::pair::{Ground, Pair};

/// What must be so before the fault can be made. The pair may need a while to come to itself.
pub(crate) async fn prepare(pair: &mut Pair, fault: Fault) -> Result<()> {
    match (&mut pair.ground, fault) {
        (Ground::Network(nodes), Fault::WallClock(..)) => nodes::give_wall_clocks(nodes).await,
        (Ground::Network(_) | Ground::Machine(_), _) => Ok(()),
    }
}

/// Make the fault. `leader` is the side that led when the schedule began.
pub(crate) async fn begin(pair: &mut Pair, fault: Fault, leader: Side) -> Result<()> {
    match &mut pair.ground {
        Ground::Network(nodes) => nodes::begin(nodes, fault, leader).await,
        Ground::Machine(machine) => machine::begin(machine, fault, leader).await,
    }
}

/// End whatever fault there is: the network is whole, the disks have room, and everything runs.
pub(crate) async fn end(pair: &mut Pair) -> Result<()> {
    match &mut pair.ground {
        Ground::Network(nodes) => nodes::end(nodes),
        Ground::Machine(machine) => machine::end(machine).await,
    }
}

fn side(of: Of, leader: Side) -> Side {
    match of {
        Of::Leader => leader,
        Of::Follower => leader.other(),
    }
}
