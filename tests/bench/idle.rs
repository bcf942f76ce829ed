//! What the programs cost while nothing is asked of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::processes::{self, Process};
use tests::{Service, Stack};

use crate::table::Row;

/// Over how long the processor time is counted: the kernel's clock of a process ticks every hundredth of a second.
const WINDOW: Duration = Duration::from_secs(30);
/// The most that an agent may hold in memory.
const AGENT_MB: f64 = 15.0;

/// Memory and processor time of each program beside one idle pair.
pub(crate) async fn measure(stack: &Stack) -> Result<Vec<Row>> {
    let service = Service::pair_on(stack).await?;
    let programs = processes::of_stack(stack.directory());
    let before = usages(&programs)?;
    let started = Instant::now();
    eprintln!("watching the idle programs for {} s", WINDOW.as_secs());
    tokio::time::sleep(WINDOW).await;
    let (after, elapsed) = (usages(&programs)?, started.elapsed());
    let rows = programs.iter().zip(before.iter().zip(&after)).filter(|(process, _)| process.program != "mariadbd");
    let rows = rows.map(|(process, (before, after))| {
        let cpu = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        let target = (process.program == "mysql-agent").then_some(AGENT_MB);
        let what = format!("idle {} {}", process.program, process.vm.as_deref().map_or("", |_| "(on a VM)"));
        Row::size(what.trim(), after.resident_kb as f64 / 1024.0, cpu, target)
    });
    let rows = rows.collect();
    service.delete().await?;
    Ok(rows)
}

fn usages(programs: &[Process]) -> Result<Vec<processes::Usage>> {
    let usage = |process: &Process| {
        processes::usage(process.pid).with_context(|| format!("{} ended while it was watched", process.program))
    };
    programs.iter().map(usage).collect()
}
