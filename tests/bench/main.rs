//! What Tandem costs above the floor: the same work by hand with bare servers (`floor.sh`), measured in turns in one
//! run, as ratios of medians. Absolute times belong to the machine; ratios are what can be compared.

mod floor;
mod idle;
mod outage;
mod provision;
mod table;

use anyhow::{Context, Result};
use clap::Parser;
use tests::Stack;
use tests::broker::{DB_LEADER_FOLLOWER, DB_SINGLE};
use tests::stack::Wiring;

use floor::{Floor, Topology};
use table::Row;

/// Measure provisioning, the planned outage and the idle cost.
#[derive(Parser)]
struct Arguments {
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 10)]
    repetitions: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Runtime::new().context("make a runtime")?.block_on(bench(arguments.repetitions))
}

async fn bench(repetitions: u32) -> Result<()> {
    let stack = Stack::start(Wiring::Direct).await?;
    eprintln!("warming up: the first provision prepares the data directory's template");
    let settings = provision::warm_up(&stack).await?;
    let floor = Floor::prepare(&stack, &settings)?;
    let mut rows = Vec::new();
    for (plan, topology) in [(DB_SINGLE, Topology::Single), (DB_LEADER_FOLLOWER, Topology::Pair)] {
        let (product, bare) = provision::measure(&stack, &floor, plan, topology, repetitions).await?;
        rows.push(Row::ratio(&format!("PUT to succeeded, {}", topology.plan()), product, bare, 2.0));
    }
    let (product, bare) = outage::measure(&stack, &floor, repetitions).await?;
    rows.push(Row::ratio("writer's outage, planned switchover", product, bare, 3.0));
    rows.extend(idle::measure(&stack).await?);
    table::print(&rows, repetitions);
    stack.shutdown()
}
