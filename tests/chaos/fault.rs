//! Making a fault, and ending it.

mod machine;
mod nodes;

use anyhow::Result;
use tests::history::Side;

use crate::cell::{Fault, Of};
use crate::pair::{Ground, Pair};

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
