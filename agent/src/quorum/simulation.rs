//! Two agents and a witness in thousands of random but repeatable schedules: messages are lost, late, doubled, or get
//! through in one direction only; processes die and stand still between any two acts; clocks run unequally. Whatever
//! happens, two servers are never writable at once, and the witness never believes that a follower has everything while its leader goes
//! on alone. And each rule is needed: without it, a schedule is found that breaks this.
//!
//! A schedule with its story, by its seed: `QUORUM_SEED=7 cargo test -p agent --lib quorum -- --nocapture`. More of them
//! than by default: `QUORUM_SCHEDULES=100000`, which is for a release build (0.15 ms each; a debug build takes ten times that).
//!
//! What the model leaves out: machines that stand still as a whole (their guard reads the clock that went on meanwhile
//! and is not later than the server's clients), disks that come back older, and `force-make-leader`, which asks nobody.

mod agent;
mod campaign;
mod clock;
mod faults;
mod network;
mod queue;
mod renewal;
mod rules;
mod server;
mod task;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clock::{LEASE, Micros};
use faults::FAULTS_END;
use rules::{ALL, Rules};
use world::{Command, Event, World};

/// How many schedules are played, where the environment does not say otherwise.
const SCHEDULES: u64 = 2_000;
/// In so many, the lack of any rule is found.
const ENOUGH: u64 = 20_000;

/// What a schedule came to.
#[derive(Default)]
struct Outcome {
    broken: Option<String>,
    story: String,
    /// Epochs in which a server was opened.
    leaderships: u64,
}

fn play(seed: u64, rules: Rules, tells: bool) -> Outcome {
    let mut world = World::new(seed, rules, tells);
    world.begin();
    world.play_until(FAULTS_END + LEASE);
    if (seed / 4).is_multiple_of(4) {
        settle(&mut world);
    }
    let mut epochs: Vec<u64> = world.opened.iter().map(|opened| opened.0).collect();
    epochs.sort_unstable();
    epochs.dedup();
    Outcome { broken: world.broken.take(), story: world.story(), leaderships: epochs.len() as u64 }
}

/// All is well again: with at most one command somebody leads, and goes on.
fn settle(world: &mut World) {
    const LATE: Micros = 5 * LEASE;
    world.play_until(FAULTS_END + LATE);
    if world.writable() == 0 {
        let node = usize::from(world.opened.last().is_some_and(|opened| opened.1 == 1));
        world.schedule(world.now, Event::Command(node, Command::MakeLeader));
        world.play_until(FAULTS_END + LATE + 3 * LEASE);
    }
    if world.writable() == 0 {
        world.broken.get_or_insert("nobody leads though all is well".into());
    }
}

fn schedules() -> u64 {
    number("QUORUM_SCHEDULES").unwrap_or(SCHEDULES)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Give each number to one of as many threads as there are processors.
fn in_parallel(numbers: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let turns = || {
        while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < numbers) {
            work(number);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(turns))));
}

#[test]
fn never_two_writable_servers_whatever_happens() {
    let rules = Rules { without: None };
    if let Some(seed) = number("QUORUM_SEED") {
        let outcome = play(seed, rules, true);
        println!("{}\n{:?}", outcome.story, outcome.broken);
        return;
    }
    let leaderships = AtomicU64::new(0);

    in_parallel(schedules(), |seed| {
        let outcome = play(seed, rules, false);
        leaderships.fetch_add(outcome.leaderships, Ordering::Relaxed);
        if let Some(broken) = outcome.broken {
            panic!("seed {seed}: {broken}\n{}", play(seed, rules, true).story);
        }
    });

    // The schedules reach what they are for.
    let leaderships = leaderships.into_inner();
    println!("{} schedules, {leaderships} leaderships", schedules());
    assert!(leaderships > schedules(), "{leaderships} leaderships in {} schedules", schedules());
}

#[test]
fn without_any_one_rule_a_schedule_breaks() {
    let unneeded = Mutex::new(Vec::new());

    in_parallel(ALL.len() as u64, |number| {
        let rule = ALL[number as usize];
        let rules = Rules { without: Some(rule) };
        match (0..ENOUGH).find_map(|seed| Some((seed, play(seed, rules, false).broken?))) {
            Some((seed, broken)) => println!("without {rule:?}, seed {seed}: {broken}"),
            None => unneeded.lock().unwrap().push(rule),
        }
    });

    assert_eq!(unneeded.into_inner().unwrap(), [], "not missed in {ENOUGH} schedules");
}
