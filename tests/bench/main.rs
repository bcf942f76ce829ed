//! What Tandem costs above the floor: the same work by hand with bare servers (`floor.sh`), measured in turns in one
//! run, as ratios of medians. Absolute times belong to the machine; ratios are what can be compared.

mod commits;
mod floor;
mod idle;
mod plans;
mod provision;
mod seeding;
mod settings;
mod switchover;
mod table;
mod timeline;
mod unplanned;
mod words;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tests::Stack;
use tests::clients::Family;
use tests::stack::{self, Wiring};

use floor::Floor;
use plans::Mode;
use settings::Settings;
use table::Row;

/// Measure provisioning, planned and unplanned outages, commits, re-seeding and the idle cost.
#[derive(Parser)]
struct Arguments {
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only this family; otherwise both, MySQL where it was fetched.
    #[arg(long)]
    family: Option<String>,
    /// Planned switchovers of each kind.
    #[arg(long, default_value_t = 30)]
    switchovers: u32,
    /// Everything else: repetitions of each measurement.
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Commits by each writer in each of ten turns.
    #[arg(long, default_value_t = 100)]
    commits: u32,
    /// How much a follower is seeded with.
    #[arg(long, default_value_t = 500)]
    megabytes: u32,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Provision,
    Switchover,
    /// Not a measurement: every statement of one switchover with its time.
    Timeline,
    Unplanned,
    Commits,
    Seeding,
    Idle,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        if self.only.is_empty() { part != Part::Timeline } else { self.only.contains(&part) }
    }

    fn families(&self) -> Result<Vec<Family>> {
        let mysql = stack::programs()?.with_file_name("mysql").join("bin/mysqld");
        let families = [Family::Mariadb, Family::Mysql];
        let wanted = families.into_iter().filter(|one| self.family.as_deref().is_none_or(|name| name == one.name()));
        let (found, missing): (Vec<_>, Vec<_>) = wanted.partition(|one| *one == Family::Mariadb || mysql.is_file());
        missing.iter().for_each(|one| eprintln!("NOT MEASURED: {}, which was not fetched", one.name()));
        Ok(found)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Runtime::new().context("make a runtime")?.block_on(bench(&arguments))
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let stack = Stack::start_offering(Wiring::Direct, &plans::all()).await?;
    let mut rows = Vec::new();
    for family in arguments.families()? {
        rows.extend(of_family(&stack, family, arguments).await?);
    }
    if arguments.wants(Part::Idle) {
        rows.extend(idle::measure(&stack).await?);
    }
    table::print(&rows);
    println!("\nMeasured in {} s", started.elapsed().as_secs());
    stack.shutdown()
}

async fn of_family(stack: &Stack, family: Family, arguments: &Arguments) -> Result<Vec<Row>> {
    eprintln!("{}: the first provision prepares the template of the data directory", family.name());
    let settings = Settings::of_plan(stack, plans::pair(family, Mode::Async)).await?;
    let semi_sync = Settings::of_plan(stack, plans::pair(family, Mode::SemiSync)).await?;
    let floor = Floor::prepare(stack, family, &settings)?;
    let modes = [(Mode::Async, &settings), (Mode::SemiSync, &semi_sync)];
    let mut rows = Vec::new();
    if arguments.wants(Part::Provision) {
        rows.extend(provision::measure(stack, &floor, &settings, arguments.repetitions).await?);
    }
    for (mode, settings) in modes {
        if arguments.wants(Part::Switchover) {
            rows.extend(switchover::measure(stack, &floor, mode, settings, arguments.switchovers).await?);
        }
        if arguments.wants(Part::Timeline) {
            timeline::print(stack, family, mode).await?;
        }
    }
    if arguments.wants(Part::Unplanned) {
        rows.extend(unplanned::measure(stack, &floor, &settings, arguments.repetitions).await?);
    }
    for (mode, settings) in modes {
        if arguments.wants(Part::Commits) {
            rows.extend(commits::measure(stack, &floor, mode, settings, arguments.commits).await?);
        }
    }
    if arguments.wants(Part::Seeding) {
        let repetitions = arguments.repetitions.div_ceil(2);
        rows.extend(seeding::measure(stack, &floor, &settings, arguments.megabytes, repetitions).await?);
    }
    Ok(rows)
}
