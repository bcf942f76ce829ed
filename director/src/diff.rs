//! PURE: what changes from one document to another, line by line in the form of YAML: what `bosh deploy` and
//! `update-config` show before they ask. Lists of things with names are compared thing by thing.

use serde_yaml::{Mapping, Value};

const REDACTED: &str = "<redacted>";

/// One line of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// None: the line only says where a change stands.
    pub(crate) change: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Removed,
}

/// What may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Shown,
    /// That a property changes is shown, its values are not.
    Redacted,
}

/// Where in the document we are.
#[derive(Clone, Copy)]
struct Scope {
    indent: usize,
    secrecy: Secrecy,
    /// Below `properties`.
    is_secret: bool,
}

impl Change {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

impl Scope {
    fn deeper(self) -> Self {
        Self { indent: self.indent + 1, ..self }
    }

    /// Of the value of a key. BOSH keeps `properties` to itself, and the password of `env.bosh`.
    fn of(self, key: &Value) -> Self {
        let is_property = matches!(key.as_str(), Some("properties" | "bosh"));
        Self { is_secret: self.is_secret || (is_property && self.secrecy == Secrecy::Redacted), ..self }
    }

    fn line(self, text: &str, change: Option<Change>) -> Line {
        Line { text: format!("{}{text}", "  ".repeat(self.indent)), change }
    }

    /// A whole value, all of which is new or gone.
    fn block(self, value: &Value, change: Change) -> Vec<Line> {
        yaml(&self.shown(value)).lines().map(|line| self.line(&quoted(line), Some(change))).collect()
    }

    fn shown(self, value: &Value) -> Value {
        match value {
            Value::Mapping(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.of(key).shown(value))).collect::<Mapping>().into()
            }
            Value::Sequence(items) => items.iter().map(|item| self.shown(item)).collect::<Vec<_>>().into(),
            _ if self.is_secret => REDACTED.into(),
            other => other.clone(),
        }
    }
}

pub(crate) fn diff(before: &Mapping, after: &Mapping, secrecy: Secrecy) -> Vec<Line> {
    mappings(before, after, Scope { indent: 0, secrecy, is_secret: false })
}

/// What is null is not there.
fn mappings(before: &Mapping, after: &Mapping, scope: Scope) -> Vec<Line> {
    let new = after.keys().filter(|key| !before.contains_key(*key));
    let value = |of: &'_ Mapping, key: &Value| of.get(key).filter(|value| !value.is_null()).cloned();
    before.keys().chain(new).flat_map(|key| field(key, value(before, key), value(after, key), scope)).collect()
}

fn field(key: &Value, before: Option<Value>, after: Option<Value>, scope: Scope) -> Vec<Line> {
    let whole = |value: Value, change| scope.block(&Value::Mapping(Mapping::from_iter([(key.clone(), value)])), change);
    let head = format!("{}:", yaml(key).trim_end());
    match (before, after) {
        (None, None) => Vec::new(),
        (None, Some(new)) => whole(new, Change::Added),
        (Some(old), None) => whole(old, Change::Removed),
        (Some(old), Some(new)) if old == new => Vec::new(),
        (Some(Value::Mapping(old)), Some(Value::Mapping(new))) => {
            below(scope.line(&head, None), mappings(&old, &new, scope.of(key).deeper()))
        }
        (Some(Value::Sequence(old)), Some(Value::Sequence(new))) => {
            below(scope.line(&head, None), sequences(&old, &new, scope.of(key)))
        }
        (Some(old), Some(new)) => [whole(old, Change::Removed), whole(new, Change::Added)].concat(),
    }
}

/// The order of a list is no difference, as in BOSH.
fn sequences(before: &[Value], after: &[Value], scope: Scope) -> Vec<Line> {
    let added: Vec<&Value> = after.iter().filter(|item| !before.contains(item)).collect();
    let mut removed: Vec<&Value> = before.iter().filter(|item| !after.contains(item)).collect();
    let have_names = added.iter().chain(&removed).all(|item| name(item).is_some());
    let mut lines = Vec::new();
    for new in added {
        let same = removed.iter().position(|old| have_names && name(old) == name(new)).map(|at| removed.remove(at));
        match (same.and_then(Value::as_mapping), new.as_mapping()) {
            (Some(old), Some(new)) => {
                let head = format!("- name: {}", new.get("name").map(yaml).unwrap_or_default().trim_end());
                lines.extend(below(scope.line(&head, None), mappings(old, new, scope.deeper())));
            }
            _ => lines.extend(scope.block(&Value::Sequence(vec![new.clone()]), Change::Added)),
        }
    }
    for old in removed {
        lines.extend(scope.block(&Value::Sequence(vec![old.clone()]), Change::Removed));
    }
    lines
}

fn name(item: &Value) -> Option<&Value> {
    item.as_mapping()?.get("name")
}

/// No place is shown where nothing changes.
fn below(head: Line, lines: Vec<Line>) -> Vec<Line> {
    if lines.is_empty() { lines } else { std::iter::once(head).chain(lines).collect() }
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_else(|cause| cause.to_string())
}

/// As Ruby writes it.
fn quoted(line: &str) -> String {
    line.strip_suffix(REDACTED).map_or_else(|| line.to_owned(), |start| format!("{start}\"{REDACTED}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` added, `-` removed, a blank for a place.
    fn marked(before: &str, after: &str, secrecy: Secrecy) -> Vec<String> {
        let read = |text: &str| serde_yaml::from_str::<Mapping>(text).unwrap();
        let mark = |change: Option<Change>| match change {
            None => ' ',
            Some(Change::Added) => '+',
            Some(Change::Removed) => '-',
        };
        diff(&read(before), &read(after), secrecy)
            .iter()
            .map(|line| mark(line.change).to_string() + &line.text)
            .collect()
    }

    #[test]
    fn changes_stand_below_the_place_where_they_happen() {
        let table: [(&str, &str, &[&str]); 9] = [
            ("{a: 1}", "{a: 1}", &[]),
            ("{}", "{a: {b: 1}}", &["+a:", "+  b: 1"]),
            ("{a: 1, b: 2}", "{b: 2}", &["-a: 1"]),
            ("{a: 1}", "{a: 2}", &["-a: 1", "+a: 2"]),
            ("{a: {b: 1, c: 2}}", "{a: {b: 1, c: 3}}", &[" a:", "-  c: 2", "+  c: 3"]),
            ("{a: [1, 2]}", "{a: [2, 3]}", &[" a:", "+- 3", "-- 1"]),
            ("{a: [1, 2]}", "{a: [2, 1]}", &[]),
            ("{a: null}", "{}", &[]),
            ("{a: {b: 1}}", "{a: [1]}", &["-a:", "-  b: 1", "+a:", "+- 1"]),
        ];
        for (before, after, expected) in table {
            assert_eq!(marked(before, after, Secrecy::Shown), expected, "{before} {after}");
        }
    }

    #[test]
    fn things_with_names_are_compared_with_their_like() {
        let before = "{groups: [{name: a, size: 2}, {name: b, size: 1}, {name: c}]}";
        let after = "{groups: [{name: c}, {name: a, size: 3}, {name: d, size: 1}]}";

        let lines = marked(before, after, Secrecy::Shown);

        let expected = [
            " groups:",
            " - name: a",
            "-  size: 2",
            "+  size: 3",
            "+- name: d",
            "+  size: 1",
            "-- name: b",
            "-  size: 1",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_values_of_properties_are_kept_back() {
        let before = "{name: d, properties: {password: old, list: [a]}}";
        let after = "{name: e, properties: {password: new, list: [a], key: {part: secret}}}";

        let lines = marked(before, after, Secrecy::Redacted);

        let expected = [
            "-name: d",
            "+name: e",
            " properties:",
            "-  password: \"<redacted>\"",
            "+  password: \"<redacted>\"",
            "+  key:",
            "+    part: \"<redacted>\"",
        ];
        assert_eq!(lines, expected);
        let jobs = |value: &str| format!("{{jobs: [{{name: j, properties: {{p: {value}}}}}]}}");
        assert!(marked(&jobs("x1"), &jobs("x2"), Secrecy::Redacted).iter().all(|line| !line.contains('x')));
        assert!(marked("{}", &jobs("x1"), Secrecy::Redacted).iter().all(|line| !line.contains('x')));
        assert!(marked(&jobs("x1"), &jobs("x2"), Secrecy::Shown).contains(&"-    p: x1".to_owned()));
    }
}
