//! The director of the simulation: one deployment, its tasks, and requests that are on their way.

use rand::Rng;
use rand::rngs::StdRng;

use super::super::*;

/// How long a request may be on its way after its sender gave up.
const DELAY_MAX: u64 = 20;
/// How long an errand by hand or a repair may hold the deployment's lock. Ours wait for it for less than 60.
const LOCK_MAX: u64 = 600;
/// The operation of tasks that are not the broker's.
const NOT_OURS: u64 = u64::MAX;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    None,
    /// What passes: lost answers, dying workers and brokers, held locks, forgotten tasks.
    Transient,
    /// Those, work that fails for good, and users who delete.
    All,
}

/// What the sender of a request knows.
pub(super) enum Sent {
    Answered,
    NeverMade,
    Unknown,
}

#[derive(Clone, Debug)]
struct SimTask {
    id: TaskId,
    operation: u64,
    act: Act,
    state: TaskState,
    ends_at: u64,
    /// How it will end.
    outcome: TaskState,
    is_cancelling: bool,
    is_forgotten: bool,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) is_deployed: bool,
    pub(super) is_forced: bool,
    pub(super) errands_done: usize,
    /// Whose manifest the deployment has, where the newest attempt came to its end.
    pub(super) deployed_last_by: Option<u64>,
    faults: Faults,
    faults_end: u64,
    last_task: u64,
    tasks: Vec<SimTask>,
    /// When it arrives, for which operation, and what it is.
    under_way: Vec<(u64, u64, Act)>,
}

impl World {
    pub(super) fn new(faults: Faults, faults_end: u64) -> World {
        World {
            now: 0,
            is_deployed: false,
            is_forced: false,
            errands_done: 0,
            deployed_last_by: None,
            faults,
            faults_end,
            last_task: 0,
            tasks: vec![],
            under_way: vec![],
        }
    }

    pub(super) fn fault_rate(&self) -> f64 {
        if self.faults != Faults::None && self.now < self.faults_end { 0.08 } else { 0.0 }
    }

    /// Of what does not pass by itself.
    pub(super) fn final_fault_rate(&self) -> f64 {
        if self.faults == Faults::All { self.fault_rate() } else { 0.0 }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && self.tasks.iter().all(|task| task.state != TaskState::Unfinished)
    }

    pub(super) fn servers(&self, random: &mut StdRng) -> Servers {
        match random.random_bool(0.3 + self.fault_rate()) {
            true => Servers::NotReady("not yet".into()),
            false => Servers::Ready,
        }
    }

    pub(super) fn tasks_of(&self, operation: u64) -> Vec<Task> {
        let own = self.tasks.iter().filter(|task| task.operation == operation && !task.is_forgotten);
        own.map(|task| Task { id: task.id, act: task.act, state: task.state.clone() }).collect()
    }

    pub(super) fn other_tasks(&self, operation: u64, halted: Option<u64>) -> Vec<OtherTask> {
        let others = self.tasks.iter().filter(|task| task.operation != operation);
        let unfinished = others.filter(|task| task.state == TaskState::Unfinished);
        let to_other = |task: &SimTask| {
            let is_to_be_cancelled = Some(task.operation) == halted && !task.is_cancelling;
            OtherTask { id: task.id, is_to_be_cancelled }
        };
        unfinished.map(to_other).collect()
    }

    /// Whether the director did this for an operation, also where it has forgotten it.
    pub(super) fn was_done(&self, operation: u64, act: Act) -> bool {
        self.tasks.iter().any(|task| task.operation == operation && task.act == act && task.state == TaskState::Done)
    }

    /// Every errand of a plan was done for an operation. That none is done twice is checked when they arrive.
    pub(super) fn assert_errands_done(&self, operation: u64, errands: usize) {
        for errand in 0..errands {
            let is_it = |task: &&SimTask| task.operation == operation && task.act == Act::RunErrand(errand);
            let done = self.tasks.iter().filter(is_it).filter(|task| task.state == TaskState::Done).count();
            assert!(done >= 1, "operation {operation}: errand {errand} was done {done} times");
        }
    }

    pub(super) fn cancel(&mut self, id: TaskId) {
        let ends_at = self.now + 10;
        for task in self.tasks.iter_mut().filter(|task| task.id == id) {
            task.is_cancelling = true;
            task.ends_at = task.ends_at.min(ends_at);
            task.outcome = TaskState::Failed(Failure { reason: Reason::Final, cause: "cancelled".into() });
        }
    }

    /// A request is sent; what becomes of it is a matter of luck.
    pub(super) fn request(&mut self, random: &mut StdRng, operation: u64, act: Act) -> Sent {
        let rate = self.fault_rate();
        if random.random_bool(rate) {
            return Sent::NeverMade;
        }
        if random.random_bool(rate) {
            // Lost on the way there, or only late.
            if random.random_bool(0.5) {
                self.under_way.push((self.now + random.random_range(1..DELAY_MAX), operation, act));
            }
            return Sent::Unknown;
        }
        if random.random_bool(rate) {
            // Somebody was quicker.
            self.hold_lock(random);
        }
        self.arrive(random, operation, act);
        if random.random_bool(rate) { Sent::Unknown } else { Sent::Answered }
    }

    /// Let time pass: requests arrive, tasks end, old tasks are forgotten.
    pub(super) fn pass(&mut self, random: &mut StdRng, ticks: u64) {
        for _ in 0..ticks {
            self.now += 1;
            let (due, later) = self.under_way.drain(..).partition(|(at, ..)| *at <= self.now);
            self.under_way = later;
            let due: Vec<(u64, u64, Act)> = due;
            for (_, operation, act) in due {
                self.arrive(random, operation, act);
            }
            self.end_tasks();
            let rate = self.fault_rate() / 20.0;
            if random.random_bool(rate) {
                self.hold_lock(random);
            }
            for task in self.tasks.iter_mut().filter(|task| task.state != TaskState::Unfinished) {
                task.is_forgotten |= random.random_bool(rate);
            }
        }
    }

    /// Somebody else works on the deployment, if there is one and it is free.
    fn hold_lock(&mut self, random: &mut StdRng) {
        if !self.is_deployed || self.is_locked() {
            return;
        }
        // What it does and how it ends changes nothing for us.
        let outcome = TaskState::Failed(Failure { reason: Reason::Final, cause: "not ours".into() });
        let ends_at = self.now + random.random_range(1..LOCK_MAX);
        self.add_task(NOT_OURS, Act::Configure, outcome, ends_at);
    }

    fn is_locked(&self) -> bool {
        self.tasks.iter().any(|task| task.state == TaskState::Unfinished)
    }

    fn add_task(&mut self, operation: u64, act: Act, outcome: TaskState, ends_at: u64) {
        self.last_task += 1;
        let (id, state) = (TaskId(self.last_task), TaskState::Unfinished);
        let task = SimTask { id, operation, act, state, ends_at, outcome, is_cancelling: false, is_forgotten: false };
        self.tasks.push(task);
    }

    fn end_tasks(&mut self) {
        let now = self.now;
        for task in self.tasks.iter_mut().filter(|task| task.state == TaskState::Unfinished && task.ends_at <= now) {
            task.state = task.outcome.clone();
            match (&task.state, task.act) {
                (TaskState::Done, Act::DeleteDeployment) => self.is_deployed = false,
                (TaskState::Done, Act::Configure) => self.errands_done += 1,
                (TaskState::Done, Act::Deploy) => self.deployed_last_by = Some(task.operation),
                (TaskState::Done, Act::RunErrand(_)) | (TaskState::Unfinished | TaskState::Failed(_), _) => {}
            }
        }
    }

    /// A request becomes a task, unless there is nothing to delete.
    fn arrive(&mut self, random: &mut StdRng, operation: u64, act: Act) {
        if act == Act::DeleteDeployment && !self.is_deployed {
            return;
        }
        self.check_not_doubled(operation, act);
        let is_locked = self.is_locked();
        let outcome = match is_locked {
            true => TaskState::Failed(Failure { reason: Reason::Locked, cause: "lock".into() }),
            false => self.outcome(random, act),
        };
        if act == Act::Deploy && !is_locked {
            self.deployed_last_by = None;
        }
        // A deployment is there from the first moment, and stays when its making fails.
        self.is_deployed |= act == Act::Deploy && !is_locked;
        let ends_at = self.now + random.random_range(1..60);
        self.add_task(operation, act, outcome, ends_at);
    }

    fn outcome(&self, random: &mut StdRng, act: Act) -> TaskState {
        let failed = |reason| TaskState::Failed(Failure { reason, cause: "bad luck".into() });
        let meets_dead_vm =
            act == Act::DeleteDeployment && !self.is_forced && random.random_bool(self.final_fault_rate());
        if meets_dead_vm || random.random_bool(self.final_fault_rate() / 2.0) {
            return failed(Reason::Final);
        }
        if act == Act::DeleteDeployment && random.random_bool(self.final_fault_rate() / 4.0) {
            return failed(if random.random_bool(0.5) { Reason::Ignored } else { Reason::Cancelled });
        }
        if random.random_bool(self.fault_rate()) { failed(Reason::WorkerDied) } else { TaskState::Done }
    }

    /// The invariant: nothing is sent while the same is under way, or after it was done.
    fn check_not_doubled(&self, operation: u64, act: Act) {
        let earlier = self.tasks.iter().filter(|task| task.operation == operation && task.act == act);
        for task in earlier.filter(|task| !task.is_forgotten && act != Act::DeleteDeployment) {
            let failed_before = matches!(task.state, TaskState::Failed(_));
            assert!(failed_before, "{act:?} is sent twice: {task:?} at {}", self.now);
        }
    }
}
