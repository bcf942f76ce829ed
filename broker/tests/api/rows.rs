//! `rows.txt`: every requirement of the specification has a test, or a reason.

use std::collections::BTreeSet;
use std::path::Path;

/// The requirements are R1 to this.
const LAST: u8 = 115;

#[test]
fn every_requirement_has_a_test_that_there_is_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = BTreeSet::new();
    for line in include_str!("rows.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let number: u8 = words[0].strip_prefix('R').and_then(|number| number.parse().ok()).expect(line);
        assert!((1..=LAST).contains(&number), "{line}");
        named.insert(number);
        match words[1..] {
            ["left", "out:", _, ..] => {}
            [file, test] => {
                let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
                assert!(text.contains(&format!("fn {test}(")), "{line}: there is no such test");
            }
            _ => panic!("{line}"),
        }
    }
    let missing: Vec<u8> = (1..=LAST).filter(|number| !named.contains(number)).collect();
    assert_eq!(missing, Vec::<u8>::new(), "requirements without a line");
}
