//! The table of [`next_step`].

use super::*;

fn task(id: u64, act: Act, state: TaskState) -> Task {
    Task { id: TaskId(id), act, state }
}

fn lock() -> TaskState {
    TaskState::Failed(Failure { reason: Reason::Locked, cause: "lock".into() })
}

fn died() -> TaskState {
    TaskState::Failed(Failure { reason: Reason::WorkerDied, cause: "worker".into() })
}

fn broken() -> TaskState {
    TaskState::Failed(Failure { reason: Reason::Final, cause: "broken".into() })
}

fn seen(tasks: Vec<Task>) -> Observed {
    Observed { tasks, others: vec![], is_deployed: true, in_doubt: false, servers: Servers::NotAsked }
}

fn pair() -> Desired {
    Desired { wish: Wish::Create { is_pair: true }, errands: 0, submission: None, is_overdue: false }
}

fn single() -> Desired {
    Desired { wish: Wish::Create { is_pair: false }, ..pair() }
}

fn deletion() -> Desired {
    Desired { wish: Wish::Delete, ..pair() }
}

fn waits_for(step: Step, words: &str) {
    match step {
        Step::Wait(sentence) => assert!(sentence.contains(words), "{sentence}"),
        other => panic!("{other:?} is not waiting for {words}"),
    }
}

fn fails_with(step: Step, words: &str, task: Option<u64>) {
    match step {
        Step::Fail(ending) => {
            assert!(ending.sentence.contains(words), "{ending:?}");
            assert_eq!(ending.task, task.map(TaskId));
        }
        other => panic!("{other:?} is not failing"),
    }
}

#[test]
fn a_creation_deploys_configures_and_asks_the_servers() {
    use {Act::*, TaskState::*};
    assert_eq!(next_step(&pair(), &seen(vec![])), Step::Deploy);
    waits_for(next_step(&pair(), &seen(vec![task(1, Deploy, Unfinished)])), "creating the virtual machines (task 1)");
    let deployed = vec![task(1, Deploy, Done)];
    assert_eq!(next_step(&pair(), &seen(deployed.clone())), Step::Configure);
    assert_eq!(next_step(&single(), &seen(deployed.clone())), Step::AskServers);
    let running = [deployed.clone(), vec![task(2, Configure, Unfinished)]].concat();
    waits_for(next_step(&pair(), &seen(running)), "configuring replication (task 2)");
    let configured = seen([deployed, vec![task(2, Configure, Done)]].concat());
    assert_eq!(next_step(&pair(), &configured), Step::AskServers);
    let lagging = Observed { servers: Servers::NotReady("waiting for x".into()), ..configured.clone() };
    waits_for(next_step(&pair(), &lagging), "waiting for x");
    assert_eq!(next_step(&pair(), &Observed { servers: Servers::Ready, ..configured }), Step::Done);
}

#[test]
fn an_update_does_what_a_creation_does_and_says_so_in_its_own_words() {
    use {Act::*, TaskState::*};
    let update = Desired { wish: Wish::Update { is_pair: true }, ..pair() };
    assert_eq!(next_step(&update, &seen(vec![])), Step::Deploy);
    waits_for(next_step(&update, &seen(vec![task(1, Deploy, Unfinished)])), "update in progress: updating the virtual");
    fails_with(next_step(&update, &seen(vec![task(1, Deploy, broken())])), "could not be updated", Some(1));
    assert_eq!(next_step(&update, &seen(vec![task(1, Deploy, Done)])), Step::Configure);
    let single = Desired { wish: Wish::Update { is_pair: false }, ..pair() };
    assert_eq!(next_step(&single, &seen(vec![task(1, Deploy, Done)])), Step::AskServers);
    // What a failed update before it has sent may still arrive, or be at work.
    waits_for(next_step(&update, &Observed { in_doubt: true, ..seen(vec![]) }), "asking the director");
    let others = vec![OtherTask { id: TaskId(7), is_to_be_cancelled: true }];
    waits_for(next_step(&update, &Observed { others, ..seen(vec![]) }), "another task on the deployment (task 7)");
}

#[test]
fn a_failed_task_of_a_creation_fails_it_unless_the_director_was_in_its_own_way() {
    use {Act::*, TaskState::*};
    fails_with(next_step(&pair(), &seen(vec![task(1, Deploy, broken())])), "could not be created", Some(1));
    assert_eq!(next_step(&pair(), &seen(vec![task(1, Deploy, died())])), Step::Deploy);
    let dying = (1..=5).map(|id| task(id, Deploy, died())).collect();
    fails_with(next_step(&pair(), &seen(dying)), "could not be created", Some(5));
    let errand = |state| seen(vec![task(1, Deploy, Done), task(2, Configure, state)]);
    fails_with(next_step(&pair(), &errand(broken())), "could not be configured", Some(2));
    assert_eq!(next_step(&pair(), &errand(lock())), Step::Configure);
}

#[test]
fn a_lock_is_waited_for_however_long_it_is_held() {
    use Act::*;
    let locked = |act| seen((1..=99).map(|id| task(id, act, lock())).collect());
    let held = |act| Observed { others: vec![OtherTask { id: TaskId(100), is_to_be_cancelled: false }], ..locked(act) };
    let configuring = Desired { submission: Some(Submission { act: Configure, after: TaskId(0) }), ..pair() };
    for (desired, act, step) in [
        (pair(), Deploy, Step::Deploy),
        (configuring, Configure, Step::Configure),
        (deletion(), DeleteDeployment, Step::DeleteDeployment { force: false }),
    ] {
        assert_eq!(next_step(&desired, &locked(act)), step);
        waits_for(next_step(&desired, &held(act)), "another task on the deployment (task 100)");
    }
}

#[test]
fn of_two_tasks_for_one_request_the_living_one_counts() {
    use {Act::*, TaskState::*};
    let doubled = vec![task(82, Deploy, Done), task(83, Deploy, lock())];
    assert_eq!(next_step(&single(), &seen(doubled)), Step::AskServers);
    let doubled = vec![task(82, Deploy, Unfinished), task(83, Deploy, broken())];
    waits_for(next_step(&single(), &seen(doubled)), "task 82");
}

#[test]
fn nothing_is_sent_while_an_answer_may_be_on_its_way() {
    let doubtful = Observed { in_doubt: true, ..seen(vec![]) };
    waits_for(next_step(&pair(), &doubtful), "asking the director");
    waits_for(next_step(&deletion(), &doubtful), "asking the director");
}

#[test]
fn a_recorded_errand_says_that_the_forgotten_deployment_task_was_done() {
    let submission = Some(Submission { act: Act::Configure, after: TaskId(1) });
    assert_eq!(next_step(&Desired { submission, ..pair() }, &seen(vec![])), Step::Configure);
}

#[test]
fn a_deletion_halts_the_creation_and_ends_when_the_deployment_is_gone() {
    use {Act::*, TaskState::*};
    let other = |is_to_be_cancelled| OtherTask { id: TaskId(7), is_to_be_cancelled };
    let creating = Observed { others: vec![other(true)], ..seen(vec![]) };
    assert_eq!(next_step(&deletion(), &creating), Step::Cancel(TaskId(7)));
    waits_for(next_step(&deletion(), &Observed { others: vec![other(false)], ..creating }), "another task");
    assert_eq!(next_step(&deletion(), &seen(vec![])), Step::DeleteDeployment { force: false });
    waits_for(next_step(&deletion(), &seen(vec![task(8, DeleteDeployment, Unfinished)])), "task 8");
    assert_eq!(next_step(&deletion(), &Observed { is_deployed: false, ..seen(vec![]) }), Step::Done);
}

#[test]
fn a_deletion_that_met_a_dead_vm_is_forced_and_gives_up_in_the_end() {
    use Act::*;
    let once = |state| seen(vec![task(8, DeleteDeployment, state)]);
    assert_eq!(next_step(&deletion(), &once(lock())), Step::DeleteDeployment { force: false });
    assert_eq!(next_step(&deletion(), &once(broken())), Step::DeleteDeployment { force: true });
    let often = (1..=5).map(|id| task(id, DeleteDeployment, broken())).collect();
    fails_with(next_step(&deletion(), &seen(often)), "could not be deleted", Some(5));
}

#[test]
fn the_errands_of_the_plan_run_one_behind_the_other_when_the_servers_serve() {
    use {Act::*, TaskState::*};
    let desired = Desired { errands: 2, ..single() };
    let sent = |act| Desired { submission: Some(Submission { act, after: TaskId(1) }), ..desired };
    let deployed = seen(vec![task(1, Deploy, Done)]);
    assert_eq!(next_step(&desired, &deployed), Step::AskServers);
    let serving = Observed { servers: Servers::Ready, ..deployed };
    assert_eq!(next_step(&desired, &serving), Step::RunErrand(0));
    let first = |state| seen(vec![task(1, Deploy, Done), task(2, RunErrand(0), state)]);
    waits_for(
        next_step(&sent(RunErrand(0)), &first(Unfinished)),
        "provisioning in progress: running an errand (task 2)",
    );
    assert_eq!(next_step(&sent(RunErrand(0)), &first(lock())), Step::RunErrand(0));
    fails_with(next_step(&sent(RunErrand(0)), &first(broken())), "errand after the deployment failed", Some(2));
    assert_eq!(next_step(&sent(RunErrand(0)), &first(Done)), Step::RunErrand(1));
    let both = seen(vec![task(2, RunErrand(0), Done), task(3, RunErrand(1), Done)]);
    assert_eq!(next_step(&sent(RunErrand(1)), &both), Step::Done);
    // The director has forgotten everything before the second one.
    assert_eq!(next_step(&sent(RunErrand(1)), &seen(vec![task(3, RunErrand(1), Done)])), Step::Done);
}

#[test]
fn the_errands_of_the_plan_run_before_a_deletion_and_never_behind_it() {
    use {Act::*, TaskState::*};
    let desired = Desired { errands: 1, ..deletion() };
    let sent = |act| Desired { submission: Some(Submission { act, after: TaskId(0) }), ..desired };
    let errand = |state| seen(vec![task(7, RunErrand(0), state)]);
    assert_eq!(next_step(&desired, &seen(vec![])), Step::RunErrand(0));
    waits_for(next_step(&sent(RunErrand(0)), &errand(Unfinished)), "deletion in progress: running an errand (task 7)");
    fails_with(next_step(&sent(RunErrand(0)), &errand(broken())), "errand before the deletion failed", Some(7));
    assert_eq!(next_step(&sent(RunErrand(0)), &errand(Done)), Step::DeleteDeployment { force: false });
    let half = seen(vec![task(8, DeleteDeployment, broken())]);
    assert_eq!(next_step(&sent(DeleteDeployment), &half), Step::DeleteDeployment { force: true });
    assert_eq!(next_step(&desired, &Observed { is_deployed: false, ..seen(vec![]) }), Step::Done);
}

#[test]
fn what_an_operator_forbids_is_not_tried_again() {
    use Act::*;
    let failed = |reason| TaskState::Failed(Failure { reason, cause: "their will".into() });
    for (reason, words) in [(Reason::Ignored, "excluded one of its virtual"), (Reason::Cancelled, "cancelled the del")]
    {
        let deleted = seen(vec![task(7, DeleteDeployment, broken()), task(8, DeleteDeployment, failed(reason))]);
        fails_with(next_step(&deletion(), &deleted), words, Some(8));
        fails_with(next_step(&pair(), &seen(vec![task(8, Deploy, failed(reason))])), "could not be created", Some(8));
    }
}

#[test]
fn what_is_not_done_at_the_deadline_fails() {
    let late = |desired| Desired { is_overdue: true, ..desired };
    fails_with(next_step(&late(pair()), &seen(vec![])), "in time", None);
    fails_with(next_step(&late(deletion()), &seen(vec![])), "in time", None);
    let gone = Observed { is_deployed: false, ..seen(vec![]) };
    assert_eq!(next_step(&late(deletion()), &gone), Step::Done);
}

#[test]
fn an_answer_is_a_task_newer_than_the_request() {
    let sent = |after| Some(Submission { act: Act::Deploy, after: TaskId(after) });
    let newest = |id| Some(TaskId(id));
    for (submission, newest, expected) in [
        (None, None, false),
        (None, newest(3), false),
        (sent(0), None, true),
        (sent(3), newest(3), true),
        (sent(3), newest(4), false),
    ] {
        assert_eq!(is_unanswered(submission, newest), expected, "{submission:?} {newest:?}");
    }
}
