//! A seeded simulation of whole operations against a director that loses answers, delays requests, fails and forgets
//! tasks and holds locks, while the broker is killed at every point and users delete what is still being made. The interpreter here does
//! what `reconciler` does with a step: record, send, look up.

mod world;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use world::{Faults, Sent, World};

/// Longer than the world delays a request.
const SETTLE: u64 = 30;
const DEADLINE: u64 = 3000;
/// From then on the director is well, so that everything must come to a good end.
const FAULTS_END: u64 = 8000;
const SEEDS: u64 = 1000;

/// A row of the state database.
#[derive(Clone, Debug)]
struct Row {
    number: u64,
    wish: Wish,
    submission: Option<Submission>,
    started_at: u64,
    /// None: in progress. The text says how it ended.
    ending: Option<Result<(), String>>,
}

/// The broker: the rows survive it, the rest does not.
struct Broker {
    rows: Vec<Row>,
    /// How many the plan has for each operation.
    errands: usize,
    newest: Option<TaskId>,
    unanswered_since: Option<u64>,
}

impl Broker {
    fn new(wish: Wish, errands: usize) -> Broker {
        let mut broker = Broker { rows: vec![], errands, newest: None, unanswered_since: None };
        broker.start(wish, 0);
        broker
    }

    fn start(&mut self, wish: Wish, now: u64) {
        let number = self.rows.len() as u64;
        self.rows.push(Row { number, wish, submission: None, started_at: now, ending: None });
        self.restart();
    }

    fn restart(&mut self) {
        self.newest = None;
        self.unanswered_since = None;
    }

    fn row(&mut self) -> &mut Row {
        self.rows.last_mut().unwrap()
    }

    /// A user deletes: what is in progress is halted.
    fn delete(&mut self, now: u64) {
        let row = self.row();
        // While it is updated the instance cannot be deleted.
        if !matches!(row.wish, Wish::Create { .. }) && row.ending.is_none() {
            return;
        }
        row.ending.get_or_insert(Err("halted".into()));
        self.start(Wish::Delete, now);
    }

    /// One turn, as in `reconciler`.
    fn turn(&mut self, world: &mut World, random: &mut StdRng) {
        let row = self.row().clone();
        let is_overdue = world.now > row.started_at + DEADLINE;
        let has_begun = self.rows.iter().any(|other| {
            let is_deletion = other.submission.is_some_and(|sent| sent.act == Act::DeleteDeployment);
            other.number < row.number && is_deletion
        });
        let errands = if has_begun { 0 } else { self.errands };
        let desired = Desired { wish: row.wish, errands, submission: row.submission, is_overdue };
        if random.random_bool(world.fault_rate()) {
            if is_overdue {
                self.row().ending = Some(Err("unreachable".into()));
            }
            return;
        }
        let mut observed = self.observe(world, &row);
        self.newest = observed.tasks.last().map(|task| task.id);
        let mut step = next_step(&desired, &observed);
        if step == Step::AskServers {
            observed.servers = world.servers(random);
            step = next_step(&desired, &observed);
        }
        self.act(world, random, &row, step);
    }

    fn observe(&mut self, world: &World, row: &Row) -> Observed {
        let tasks = row.submission.map(|_| world.tasks_of(row.number)).unwrap_or_default();
        let mut unanswered = is_unanswered(row.submission, tasks.last().map(|task| task.id));
        let halted = row.number.checked_sub(1).map(|number| self.rows[number as usize].clone());
        let halted = halted.filter(|halted| match halted.wish {
            Wish::Create { .. } => row.wish == Wish::Delete,
            Wish::Update { .. } => halted.ending != Some(Ok(())),
            Wish::Delete => false,
        });
        let is_waiting = tasks.iter().any(|task| task.state == TaskState::Unfinished);
        let halted_number = halted.as_ref().map(|halted| halted.number);
        let others = if is_waiting { vec![] } else { world.other_tasks(row.number, halted_number) };
        if let Some(halted) = &halted {
            let newest = world.tasks_of(halted.number).last().map(|task| task.id);
            unanswered |= is_unanswered(halted.submission, newest);
        }
        let is_deployed = row.wish != Wish::Delete || world.is_deployed;
        let in_doubt = unanswered && world.now - *self.unanswered_since.get_or_insert(world.now) < SETTLE;
        if !unanswered {
            self.unanswered_since = None;
        }
        Observed { tasks, others, is_deployed, in_doubt, servers: Servers::NotAsked }
    }

    fn act(&mut self, world: &mut World, random: &mut StdRng, row: &Row, step: Step) {
        match step {
            Step::Deploy => self.send(world, random, row, Act::Deploy),
            Step::Configure => self.send(world, random, row, Act::Configure),
            Step::RunErrand(errand) => self.send(world, random, row, Act::RunErrand(errand)),
            Step::DeleteDeployment { force } => {
                world.is_forced = force;
                self.send(world, random, row, Act::DeleteDeployment);
            }
            Step::Cancel(task) => world.cancel(task),
            Step::Wait(_) | Step::AskServers => {}
            Step::Done => self.row().ending = Some(Ok(())),
            Step::Fail(ending) => self.row().ending = Some(Err(ending.sentence.into())),
        }
    }

    fn send(&mut self, world: &mut World, random: &mut StdRng, row: &Row, act: Act) {
        let after = self.newest.unwrap_or(TaskId(0));
        self.row().submission = Some(Submission { act, after });
        let rate = world.fault_rate();
        if random.random_bool(rate) {
            // Killed between the record and the request.
            return self.restart();
        }
        let is_halted_meanwhile = random.random_bool(world.final_fault_rate());
        match world.request(random, row.number, act) {
            Sent::Answered | Sent::Unknown => self.unanswered_since = None,
            Sent::NeverMade => self.row().submission = row.submission,
        }
        if is_halted_meanwhile && act != Act::DeleteDeployment {
            self.delete(world.now);
        }
        if random.random_bool(rate) {
            self.restart();
        }
    }
}

/// Run until the newest operation ends; every turn is followed by some time.
fn run_to_end(broker: &mut Broker, world: &mut World, random: &mut StdRng, delete_at: Option<u64>) {
    while broker.row().ending.is_none() {
        if delete_at.is_some_and(|at| world.now >= at) {
            broker.delete(world.now);
        }
        if random.random_bool(world.fault_rate()) {
            broker.restart();
        }
        broker.turn(world, random);
        let ticks = random.random_range(1..=5);
        world.pass(random, ticks);
        let started_at = broker.row().started_at;
        assert!(world.now < started_at + DEADLINE + 2000, "the operation does not end: {:?}", broker.rows);
    }
}

/// Users change what is there, to a pair, to a single server, to other parameters, whatever the last change has left.
fn change_often(broker: &mut Broker, world: &mut World, random: &mut StdRng, seed: u64) {
    for _ in 0..random.random_range(0..4) {
        let is_pair = random.random_bool(0.5);
        broker.start(Wish::Update { is_pair }, world.now);
        run_to_end(broker, world, random, None);
        let row = broker.row().clone();
        if row.ending == Some(Ok(())) {
            assert_eq!(world.deployed_last_by, Some(row.number), "seed {seed}: success is a lie");
            assert!(!is_pair || world.was_done(row.number, Act::Configure), "seed {seed}: success is a lie");
            world.assert_errands_done(row.number, broker.errands);
        }
    }
}

/// Every third plan has none.
fn errands(seed: u64) -> usize {
    [0, 1, 3][(seed % 3) as usize]
}

fn run(seed: u64, is_pair: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(Faults::All, FAULTS_END);
    let mut broker = Broker::new(Wish::Create { is_pair }, errands(seed));
    let delete_at = random.random_bool(0.5).then(|| random.random_range(0..300));

    run_to_end(&mut broker, &mut world, &mut random, delete_at);
    let row = broker.row().clone();
    if matches!(row.wish, Wish::Create { .. }) && row.ending == Some(Ok(())) {
        assert!(world.is_deployed && world.errands_done >= usize::from(is_pair), "seed {seed}: success is a lie");
        world.assert_errands_done(row.number, broker.errands);
        change_often(&mut broker, &mut world, &mut random, seed);
    }

    while broker.row().wish != Wish::Delete || broker.row().ending != Some(Ok(())) {
        broker.delete(world.now);
        run_to_end(&mut broker, &mut world, &mut random, None);
    }
    assert!(!world.is_deployed, "seed {seed}: a deployment is left at the end of its deletion");
    world.pass(&mut random, 500);
    assert!(!world.is_deployed && world.is_quiet(), "seed {seed}: something came back after the deletion");
}

#[test]
fn every_operation_of_a_pair_ends_and_leaves_nothing() {
    (0..SEEDS).for_each(|seed| run(seed, true));
}

#[test]
fn every_operation_of_a_single_server_ends_and_leaves_nothing() {
    (0..SEEDS).for_each(|seed| run(seed, false));
}

fn creation_succeeds(seed: u64, faults: Faults, is_pair: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(faults, FAULTS_END);
    let mut broker = Broker::new(Wish::Create { is_pair }, errands(seed));
    run_to_end(&mut broker, &mut world, &mut random, None);
    let ending = broker.row().ending.clone();
    assert_eq!(ending, Some(Ok(())), "seed {seed}, {faults:?}, at {}", world.now);
    assert!(world.is_deployed && world.errands_done >= usize::from(is_pair), "seed {seed}: success is a lie");
}

fn updates_succeed(seed: u64, faults: Faults) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(faults, FAULTS_END);
    let mut broker = Broker::new(Wish::Create { is_pair: false }, errands(seed));
    run_to_end(&mut broker, &mut world, &mut random, None);
    change_often(&mut broker, &mut world, &mut random, seed);
    assert!(broker.rows.iter().all(|row| row.ending == Some(Ok(()))), "seed {seed}, {faults:?}: {:?}", broker.rows);
}

#[test]
fn every_update_succeeds_where_faults_are_only_transient() {
    for faults in [Faults::None, Faults::Transient] {
        (0..SEEDS).for_each(|seed| updates_succeed(seed, faults));
    }
}

#[test]
fn every_create_succeeds_where_faults_are_only_transient() {
    for faults in [Faults::None, Faults::Transient] {
        (0..SEEDS).for_each(|seed| creation_succeeds(seed, faults, seed % 2 == 0));
    }
}
