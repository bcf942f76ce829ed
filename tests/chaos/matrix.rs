//! Many schedules on a few pairs side by side, one line for each, and a table at the end: what was played, how often every
//! promise was kept, how long it took until writes were acknowledged again, and how many acknowledged rows were lost.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use tests::clients::Family;
use tests::stack::tail;
use tokio::runtime::Handle;

use crate::Arguments;
use crate::cell::{self, Cell, Fault, Group};
use crate::pair::{LEASE, Pair};
use crate::schedule::{Schedule, schedule};
use crate::story::{self, Report};
use crate::world::vm::mysql_package;
use crate::world::wall_clock;

/// Lines of each log that are printed where a promise was not kept.
const LAST_WORDS: usize = 200;
/// A pair that could not be played on, or a new one that did not come up, is made anew this often.
const ATTEMPTS: u32 = 3;

/// Print every cell.
pub(crate) fn list() -> Result<()> {
    for group in groups()? {
        cell::cells(group).iter().for_each(|cell| println!("{cell}"));
    }
    Ok(())
}

/// Every family whose server is on this machine, in every mode.
fn groups() -> Result<Vec<Group>> {
    let mut families = vec![Family::Mariadb];
    match mysql_package()?.exists() {
        true => families.push(Family::Mysql),
        false => eprintln!("SKIPPED: nothing is played on MySQL, which is not in {}", mysql_package()?.display()),
    }
    Ok(cell::groups(&families))
}

/// MySQL takes minutes to start with libfaketime before it, and then does not answer in time.
fn has_wall_clock(family: Family) -> bool {
    match family {
        Family::Mariadb => wall_clock::library().is_some(),
        Family::Mysql => false,
    }
}

/// Where a wall clock cannot jump, that is said once.
fn tell_of_wall_clocks(groups: &[Group]) {
    let are_without = |family| groups.iter().any(|group| group.family == family) && !has_wall_clock(family);
    if are_without(Family::Mariadb) {
        eprintln!("SKIPPED: no wall clock jumps, because libfaketime is not here; install faketime");
    } else if are_without(Family::Mysql) {
        eprintln!("SKIPPED: no wall clock jumps on MySQL, which does not work with libfaketime");
    }
}

/// Play, print, and say whether every promise was kept.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let schedules = chosen(arguments)?;
    let begun = Instant::now();
    let stage = Arc::new(Stage {
        begun,
        deadline: arguments.seconds.map(|seconds| begun + Duration::from_secs(seconds)),
        waiting: Mutex::new(schedules.into()),
        reports: Mutex::default(),
        next_number: Mutex::new(0),
    });
    let start = |stage: Arc<Stage>| {
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(player(stage)))
    };
    let players: Vec<_> = (0..arguments.pairs).map(|_| start(stage.clone())).collect();
    for player in players {
        player.await.context("wait for a player")??;
    }
    let reports = std::mem::take(&mut *lock(&stage.reports));
    table(&reports, begun.elapsed());
    let all_kept = !reports.is_empty() && reports.iter().all(|report| report.broken.is_empty());
    Ok(if all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the players share.
struct Stage {
    begun: Instant,
    deadline: Option<Instant>,
    waiting: Mutex<VecDeque<Schedule>>,
    reports: Mutex<Vec<Report>>,
    next_number: Mutex<u8>,
}

fn chosen(arguments: &Arguments) -> Result<Vec<Schedule>> {
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("first seed {seed}");
    let cells = match arguments.cell {
        Some(cell) => vec![cell; if arguments.seed.is_some() { 1 } else { arguments.schedules }],
        None => {
            let groups = groups()?;
            tell_of_wall_clocks(&groups);
            let is_wanted = |cell: &Cell| {
                let is_playable = has_wall_clock(cell.group.family) || !matches!(cell.fault, Fault::WallClock(..));
                is_playable && cell.to_string().contains(&arguments.only)
            };
            let mut all = groups.iter().copied().flat_map(cell::cells);
            ensure!(
                all.any(|cell| is_wanted(&cell)),
                "no cell that can be played here has {} in its name",
                arguments.only
            );
            cell::round_robin(&groups, seed).filter(is_wanted).take(arguments.schedules).collect()
        }
    };
    Ok((seed..).zip(cells).map(|(seed, cell)| schedule(cell, seed, LEASE)).collect())
}

/// Play on one pair until nothing is left; a pair that was broken is replaced.
async fn player(stage: Arc<Stage>) -> Result<()> {
    let mut kept: Option<(Group, Pair)> = None;
    while let Some(schedule) = stage.next(kept.as_ref().map(|(group, _)| *group)) {
        let group = schedule.cell.group;
        for attempt in 1.. {
            let pair = match kept.take() {
                Some((of, pair)) if of == group => Ok(pair),
                Some((_, pair)) => {
                    pair.remove().await?;
                    stage.new_pair(group).await
                }
                None => stage.new_pair(group).await,
            };
            let played = match pair {
                Ok(mut pair) => match story::play(&mut pair, schedule).await {
                    Ok(report) => Ok((pair, report)),
                    Err(cause) => {
                        print_logs(&pair);
                        pair.remove().await?;
                        Err(cause)
                    }
                },
                Err(cause) => Err(cause),
            };
            match played {
                Ok((pair, report)) => {
                    if report.broken.is_empty() && !report.is_spent {
                        kept = Some((group, pair));
                    } else {
                        if !report.broken.is_empty() {
                            print_logs(&pair);
                        }
                        pair.remove().await?;
                    }
                    stage.add(report);
                    break;
                }
                Err(cause) if attempt < ATTEMPTS => {
                    eprintln!("{} seed {} is played again: {cause:#}", schedule.cell, schedule.seed);
                }
                Err(cause) => return Err(cause.context(format!("play {} seed {}", schedule.cell, schedule.seed))),
            }
        }
    }
    match kept {
        Some((_, pair)) => pair.remove().await,
        None => Ok(()),
    }
}

impl Stage {
    /// The next schedule, if there is one for the pair that this player has.
    fn next(&self, group: Option<Group>) -> Option<Schedule> {
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return None;
        }
        let mut waiting = lock(&self.waiting);
        let is_fit = |schedule: &Schedule| group.is_none_or(|group| group == schedule.cell.group);
        let at = waiting.iter().position(is_fit).unwrap_or(0);
        waiting.remove(at)
    }

    async fn new_pair(&self, group: Group) -> Result<Pair> {
        let number = {
            let mut next = lock(&self.next_number);
            *next += 1;
            *next
        };
        Pair::start(number, group).await.with_context(|| format!("start pair {number}"))
    }

    fn add(&self, report: Report) {
        println!("{:7.1} s  {}", self.begun.elapsed().as_secs_f64(), line(&report));
        lock(&self.reports).push(report);
    }
}

fn line(report: &Report) -> String {
    let Report { schedule, broken, outage, acknowledged, lost, errand, helped, is_spent } = report;
    let verdict = if broken.is_empty() { "kept".to_owned() } else { format!("BROKEN: {}", broken.join("; ")) };
    let helped = match (helped, is_spent) {
        (true, _) => ", then configured",
        (false, true) => ", then a human must look",
        (false, false) => "",
    };
    format!(
        "{} seed {}: {verdict}\n           {:?}, fault {:.2} s, outage {:.2} s, {acknowledged} acknowledged, {lost} lost, \
         errand {errand}{helped}",
        schedule.cell,
        schedule.seed,
        schedule.order,
        schedule.duration.as_secs_f64(),
        outage.as_secs_f64(),
    )
}

fn print_logs(pair: &Pair) {
    for (name, log) in pair.logs() {
        println!("--- {name} of pair {} said last:\n{}", pair.number, tail(&log, LAST_WORDS));
    }
}

/// One line for each fault of each group, and one for each group.
fn table(reports: &[Report], took: Duration) {
    println!("\n{:54} {:>6} {:>6} {:>10} {:>10} {:>6}", "cell", "played", "kept", "median s", "worst s", "lost");
    rows(reports, |cell| format!("{:25} {}", cell.group.to_string(), cell.fault));
    println!();
    rows(reports, |cell| format!("{:25} all", cell.group.to_string()));
    let broken = reports.iter().filter(|report| !report.broken.is_empty()).count();
    println!("{} schedules in {:.0} s, {broken} with a broken promise", reports.len(), took.as_secs_f64());
}

/// One line for each name that the cells have.
fn rows(reports: &[Report], name: impl Fn(&Cell) -> String) {
    let mut named: BTreeMap<String, Vec<&Report>> = BTreeMap::new();
    for report in reports {
        named.entry(name(&report.schedule.cell)).or_default().push(report);
    }
    for (name, reports) in &named {
        let kept = reports.iter().filter(|report| report.broken.is_empty()).count();
        let mut outages: Vec<f64> = reports.iter().map(|report| report.outage.as_secs_f64()).collect();
        outages.sort_by(f64::total_cmp);
        let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
        let lost: usize = reports.iter().map(|report| report.lost).sum();
        println!("{name:54} {:>6} {kept:>6} {median:>10.2} {worst:>10.2} {lost:>6}", reports.len());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
