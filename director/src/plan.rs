//! PURE: what must be done with an instance, given what is there and what is wanted; and in which order the instances of
//! a group take their turns.

use crate::model::DesiredState;

/// The VM of an instance as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vm {
    Absent,
    /// There should be one, but its supervisor is gone.
    Dead,
    Alive {
        /// Every process runs; or, for an instance that is stopped, any does.
        is_running: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pub(crate) vm: Vm,
    /// The VM has the type and the address that the manifest gives it.
    pub(crate) has_right_vm: bool,
    /// It runs the jobs with the configuration that the manifest gives them.
    pub(crate) has_right_jobs: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) state: DesiredState,
    /// What the operator asks for beyond the state.
    pub(crate) force: Force,
    /// Jobs are stopped without being asked to prepare for it.
    pub(crate) skips_drain: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Force {
    #[default]
    Nothing,
    Restart,
    Recreate,
}

/// What is done with one instance, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) stop: bool,
    pub(crate) delete_vm: bool,
    pub(crate) create_vm: bool,
    pub(crate) configure: bool,
    pub(crate) start: bool,
}

/// The turns of a group's instances: first the canaries, then the others, so many at the same time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    pub(crate) canaries: usize,
    pub(crate) canaries_in_flight: usize,
    pub(crate) in_flight: usize,
}

impl Steps {
    pub(crate) fn are_none(self) -> bool {
        self == Self::default()
    }

    /// A VM that was never there is made before any running one is touched.
    pub(crate) fn is_missing_vm(self) -> bool {
        self.create_vm && !self.delete_vm
    }

    /// What the director's events call it.
    pub(crate) fn action(self, force: Force) -> &'static str {
        match (force, self) {
            (_, Self { create_vm: true, .. }) => "recreate",
            (Force::Restart, Self { start: true, .. }) => "restart",
            (_, Self { configure: true, .. }) => "update",
            (_, Self { start: true, .. }) => "start",
            (_, Self { stop: true, .. } | Self { delete_vm: true, .. }) => "stop",
            (Force::Nothing | Force::Restart | Force::Recreate, _) => "update",
        }
    }
}

pub(crate) fn steps(observed: Observed, wanted: Wanted) -> Steps {
    let is_there = observed.vm != Vm::Absent;
    let is_running = observed.vm == Vm::Alive { is_running: true };
    let is_alive = matches!(observed.vm, Vm::Alive { .. });
    if wanted.state == DesiredState::Detached {
        return Steps { stop: is_alive, delete_vm: is_there, ..Steps::default() };
    }
    let replace = is_there && (!is_alive || !observed.has_right_vm || wanted.force == Force::Recreate);
    let create_vm = !is_there || replace;
    let configure = !create_vm && !observed.has_right_jobs;
    let restart = !create_vm && (configure || wanted.force == Force::Restart);
    let is_started = wanted.state == DesiredState::Started;
    Steps {
        stop: is_alive && (replace || restart || (!is_started && is_running)),
        delete_vm: replace,
        create_vm,
        configure,
        start: is_started && (create_vm || restart || !is_running),
    }
}

/// At least one at a time: `max_in_flight: 10%` of three must still move.
pub(crate) fn turns(size: usize, canaries: usize, max_in_flight: usize) -> Turns {
    let canaries = canaries.min(size);
    let in_flight = max_in_flight.clamp(1, size.max(1));
    Turns { canaries, canaries_in_flight: canaries.clamp(1, in_flight), in_flight }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DesiredState::{Detached, Started, Stopped};

    const RUNS: Vm = Vm::Alive { is_running: true };
    const STANDS: Vm = Vm::Alive { is_running: false };

    /// `X` stop, `-` delete, `+` create, `c` configure, `>` start.
    fn marks(steps: Steps) -> String {
        let Steps { stop, delete_vm, create_vm, configure, start } = steps;
        let all = [(stop, 'X'), (delete_vm, '-'), (create_vm, '+'), (configure, 'c'), (start, '>')];
        all.iter().filter(|(done, _)| *done).map(|(_, mark)| *mark).collect()
    }

    #[test]
    fn steps_follow_from_what_is_there_and_what_is_wanted() {
        let nothing = Force::Nothing;
        let table = [
            // (VM now, right VM, right jobs, wanted state, force) -> steps
            (Vm::Absent, false, false, Started, nothing, "+>"),
            (Vm::Absent, false, false, Stopped, nothing, "+"),
            (Vm::Absent, false, false, Detached, nothing, ""),
            (RUNS, true, true, Started, nothing, ""),
            (RUNS, true, false, Started, nothing, "Xc>"),
            (RUNS, false, false, Started, nothing, "X-+>"),
            (RUNS, true, true, Stopped, nothing, "X"),
            (RUNS, true, false, Stopped, nothing, "Xc"),
            (RUNS, true, true, Detached, nothing, "X-"),
            (RUNS, true, true, Started, Force::Restart, "X>"),
            (RUNS, true, true, Started, Force::Recreate, "X-+>"),
            (STANDS, true, true, Stopped, nothing, ""),
            (STANDS, true, true, Started, nothing, ">"),
            (STANDS, true, false, Started, nothing, "Xc>"),
            (STANDS, true, true, Stopped, Force::Recreate, "X-+"),
            (Vm::Dead, true, true, Started, nothing, "-+>"),
            (Vm::Dead, true, true, Stopped, nothing, "-+"),
            (Vm::Dead, true, true, Detached, nothing, "-"),
        ];
        for (vm, has_right_vm, has_right_jobs, state, force, expected) in table {
            let observed = Observed { vm, has_right_vm, has_right_jobs };
            assert_eq!(
                marks(steps(observed, Wanted { state, force, skips_drain: false })),
                expected,
                "{observed:?} {state:?} {force:?}"
            );
        }
    }

    #[test]
    fn events_call_the_steps_by_what_they_come_to() {
        let none = Steps::default();
        let table = [
            (Steps { create_vm: true, start: true, ..none }, Force::Nothing, "recreate"),
            (Steps { stop: true, start: true, ..none }, Force::Restart, "restart"),
            (Steps { stop: true, configure: true, start: true, ..none }, Force::Nothing, "update"),
            (Steps { start: true, ..none }, Force::Nothing, "start"),
            (Steps { stop: true, ..none }, Force::Nothing, "stop"),
            (Steps { stop: true, delete_vm: true, ..none }, Force::Nothing, "stop"),
            (none, Force::Nothing, "update"),
        ];
        for (steps, force, expected) in table {
            assert_eq!(steps.action(force), expected, "{steps:?} {force:?}");
        }
    }

    #[test]
    fn turns_never_stand_still_and_never_exceed_the_group() {
        let table = [
            ((2, 1, 1), (1, 1, 1)),
            ((2, 0, 2), (0, 1, 2)),
            ((3, 5, 0), (3, 1, 1)),
            ((4, 2, 3), (2, 2, 3)),
            ((0, 1, 1), (0, 1, 1)),
        ];
        for ((size, canaries, in_flight), (first, first_in_flight, rest_in_flight)) in table {
            let expected = Turns { canaries: first, canaries_in_flight: first_in_flight, in_flight: rest_in_flight };
            assert_eq!(turns(size, canaries, in_flight), expected, "{size} {canaries} {in_flight}");
        }
    }
}
