//! `faults.txt`: every single fault that directors are known for has a test, or a reason.

use std::collections::BTreeSet;
use std::path::Path;

/// What was seen of real directors, or stands in their source, in ten groups.
const FAULTS: [(&str, &str); 48] = [
    ("F1.1", "the connection is cut before the 302 arrives"),
    ("F1.2", "the 302 is lost"),
    ("F1.3", "the look behind the 302 fails"),
    ("F2.1", "401 once: the authorization has expired"),
    ("F2.2", "401 with code 600000 for ever: a scope is missing"),
    ("F2.3", "the UAA answers 5xx"),
    ("F3.1", "502, 503, 504 of a proxy while the director restarts"),
    ("F3.2", "connections are refused for a while"),
    ("F3.3", "a task is purged: 404, code 10000"),
    ("F4.1", "a task ends in an error with a code"),
    ("F4.2", "a task ends in timeout"),
    ("F4.3", "a task is cancelling for long"),
    ("F4.4", "a task is cancelled, and its errand ended with 143"),
    ("F4.5", "a task is stuck in the queue"),
    ("F4.6", "an errand is done with an exit code"),
    ("F4.7", "an errand fails on one of two instances"),
    ("F4.8", "an errand is skipped: its result is empty"),
    ("F4.9", "an agent fails in an errand: an error without a result"),
    ("F5.1", "another task has the lock"),
    ("F5.2", "an operator's task is at work when we come"),
    ("F6.1", "an agent does not answer"),
    ("F6.2", "an instance is detached"),
    ("F6.3", "an instance is a phantom"),
    ("F6.4", "an instance has two VMs in the list"),
    ("F6.5", "vitals are missing"),
    ("F6.6", "indexes have gaps"),
    ("F6.7", "rows come in another order"),
    ("F6.8", "a worker dies: an error with the result null"),
    ("F6.9", "a lock outlives its worker"),
    ("F6.10", "a deployment is half deleted"),
    ("F7.1", "a first deployment fails: its manifest is null"),
    ("F7.2", "an update fails: the old manifest is kept"),
    ("F7.3", "an instance is ignored"),
    ("F7.4", "a deployment is deleted twice"),
    ("F7.5", "a deletion needs force"),
    ("F8.1", "a deletion leaves an orphaned disk"),
    ("F8.2", "an orphaned disk is attached again"),
    ("F8.3", "a config is refused with 412"),
    ("F8.4", "a link provider is not shared"),
    ("F8.5", "an AZ is missing"),
    ("F9.1", "200 with half of a body"),
    ("F9.2", "an HTML page"),
    ("F9.3", "an errand says more than a megabyte"),
    ("F9.4", "an errand says what is not UTF-8"),
    ("F9.5", "Range is ignored"),
    ("F9.6", "416"),
    ("F10.1", "clocks differ"),
    ("F10.2", "tasks are sorted by time, not by number"),
];

/// Whether a name begins with the number of one.
pub(crate) fn are_known(name: &str) -> bool {
    FAULTS.iter().any(|(number, _)| name.split(' ').next() == Some(number))
}

#[test]
fn every_fault_has_a_test_that_there_is_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = BTreeSet::new();
    for line in include_str!("faults.txt").lines().filter(|line| !line.starts_with('#')) {
        let (fault, test) = line.split_once(" : ").unwrap_or_else(|| panic!("{line}: there is no ` : `"));
        assert!(are_known(fault), "{line}: there is no such fault");
        named.extend(fault.split(' ').next());
        match test.split(' ').collect::<Vec<_>>()[..] {
            ["left", "out:", _, ..] => {}
            [file, test] => {
                let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
                assert!(text.contains(&format!("fn {test}(")), "{line}: there is no such test");
            }
            _ => panic!("{line}: neither a file and its test, nor `left out: why`"),
        }
    }
    let missing: Vec<&(&str, &str)> = FAULTS.iter().filter(|(number, _)| !named.contains(number)).collect();
    assert_eq!(missing, Vec::<&(&str, &str)>::new(), "faults without a line");
}
