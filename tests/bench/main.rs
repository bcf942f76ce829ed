//! What Tandem costs above the floor: the same work by hand with bare servers (`floor.sh`), measured in turns in one
//! run, as ratios of medians. Absolute times belong to the machine; ratios are what can be compared.

mod broker;
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
mod update;
mod words;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tests::Stack;
use tests::clients::Family;
use tests::stack::{self, Wiring};

use floor::Floor;
use plans::Mode;
use settings::Settings;
use table::Row;

/// No part begins after this long, so that the whole ends within 20 minutes.
const BUDGET: Duration = Duration::from_secs(1080);

/// Measure the broker alone, then provisioning, planned and unplanned outages, updates, commits, re-seeding and the idle cost.
#[derive(Parser)]
struct Arguments {
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only this family; otherwise both, MySQL where it was fetched.
    #[arg(long)]
    family: Option<String>,
    /// Planned switchovers of each kind; half as many in semi-sync.
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
    /// The broker alone, on simulated VMs.
    Broker,
    Provision,
    Switchover,
    /// Not a measurement: every statement of one switchover with its time.
    Timeline,
    Unplanned,
    /// Both servers of a pair restarted, under writes.
    Update,
    Commits,
    Seeding,
    Idle,
}

impl Arguments {
    fn wants(&self, part: Part, started: Instant) -> bool {
        let is_wanted = if self.only.is_empty() { part != Part::Timeline } else { self.only.contains(&part) };
        if is_wanted && started.elapsed() > BUDGET {
            eprintln!("NOT MEASURED: {part:?}, since {} s are over", BUDGET.as_secs());
            return false;
        }
        is_wanted
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
    if arguments.wants(Part::Broker, started) {
        let mut rows = Vec::new();
        let measured = broker::measure(&mut rows).await;
        table::print_beside(&rows);
        measured?;
    }
    if arguments.only != [Part::Broker] {
        beside_the_floor(arguments, started).await?;
    }
    println!("\nMeasured in {} s", started.elapsed().as_secs());
    Ok(())
}

async fn beside_the_floor(arguments: &Arguments, started: Instant) -> Result<()> {
    let stack = Stack::start_offering(Wiring::Direct, &plans::all()).await?;
    let mut rows = Vec::new();
    let measured = measure(&stack, arguments, started, &mut rows).await;
    // What was measured before an error counts, too.
    table::print(&rows);
    stack.shutdown()?;
    measured
}

async fn measure(stack: &Stack, arguments: &Arguments, started: Instant, rows: &mut Vec<Row>) -> Result<()> {
    for family in arguments.families()? {
        of_family(stack, family, arguments, started, rows).await?;
    }
    if arguments.wants(Part::Idle, started) {
        rows.extend(idle::measure(stack).await?);
    }
    Ok(())
}

async fn of_family(
    stack: &Stack,
    family: Family,
    arguments: &Arguments,
    started: Instant,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let wants = |part| arguments.wants(part, started);
    eprintln!("{}: the first provision prepares the template of the data directory", family.name());
    let settings = Settings::of_plan(stack, plans::pair(family, Mode::Async)).await?;
    let semi_sync = Settings::of_plan(stack, plans::pair(family, Mode::SemiSync)).await?;
    let floor = Floor::prepare(stack, family, &settings)?;
    let switchovers = arguments.switchovers;
    let modes = [(Mode::Async, &settings, switchovers), (Mode::SemiSync, &semi_sync, switchovers.div_ceil(2))];
    if wants(Part::Provision) {
        rows.extend(provision::measure(stack, &floor, &settings, arguments.repetitions).await?);
    }
    for (mode, settings, switchovers) in modes {
        if wants(Part::Switchover) {
            rows.extend(switchover::measure(stack, &floor, mode, settings, switchovers).await?);
        }
        if wants(Part::Timeline) {
            timeline::print(stack, family, mode).await?;
        }
    }
    if wants(Part::Unplanned) {
        rows.extend(unplanned::measure(stack, &floor, &settings, arguments.repetitions).await?);
    }
    if wants(Part::Update) {
        rows.extend(update::measure(stack, family, arguments.repetitions).await?);
    }
    for (mode, settings, _) in modes {
        if wants(Part::Commits) {
            rows.extend(commits::measure(stack, &floor, mode, settings, arguments.commits).await?);
        }
    }
    if wants(Part::Seeding) {
        rows.extend(seeding::measure(stack, &floor, &settings, arguments.megabytes, arguments.repetitions).await?);
    }
    Ok(())
}
