//! `chaos`: the fault matrix. Pairs of built agents and real servers, each with its witness, in network namespaces of their
//! own, or on one machine with a director and a stable address; clients that write without a break; one fault and one errand at a time, chosen by a seed; and a judge.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `world.rs` | namespaces, networks, VMs, the witness; or a stack |
//! | `pair.rs` | a pair and its operator |
//! | `cell.rs`, `schedule.rs`, `promise.rs` | PURE: the matrix, what happens when, and what is promised then |
//! | `fault.rs`, `story.rs`, `look.rs` | one schedule, from a healthy pair to a verdict |
//! | `matrix.rs` | many schedules, and the table |

mod cell;
mod fault;
mod look;
mod matrix;
mod pair;
mod promise;
mod saved;
mod schedule;
mod story;
mod world;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cell::Cell;
use world::Place;

/// Play seeded schedules of faults on real pairs and judge what their clients saw.
#[derive(Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 300)]
    schedules: usize,
    /// The first seed; each schedule adds one.
    #[arg(long)]
    seed: Option<u64>,
    /// Play only this cell; with --seed, that schedule and the ones after it.
    #[arg(long)]
    cell: Option<Cell>,
    /// Play only cells with this text in their name.
    #[arg(long, default_value = "")]
    only: String,
    /// How many pairs at once.
    #[arg(long, default_value_t = 2)]
    pairs: u8,
    /// Begin no schedule after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Print the names of all cells.
    #[arg(long)]
    list: bool,
    /// Say what cannot be played here and end well.
    #[arg(long)]
    may_skip: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(cause) => {
            eprintln!("chaos: {cause:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let place = world::place()?;
    let arguments = Arguments::parse();
    if arguments.list {
        matrix::list()?;
        return Ok(ExitCode::SUCCESS);
    }
    match place {
        Place::Inside => {
            let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
            runtime.block_on(matrix::run(&arguments))
        }
        Place::Outside => match world::obstacle() {
            None => world::enter(),
            Some(obstacle) => {
                eprintln!("SKIPPED: the fault matrix is not played: {obstacle}");
                Ok(ExitCode::from(if arguments.may_skip { 0 } else { 2 }))
            }
        },
    }
}
