//! PURE. Finding and filling in `((name))` and `((name.part))` in a YAML document, as BOSH and its CLI do. A value that
//! is nothing but a reference becomes whatever the variable is; inside a longer text only a plain value fits.

use std::collections::BTreeSet;

use serde_yaml::{Mapping, Value};

/// What stands between the brackets.
pub(crate) struct Reference<'a> {
    pub(crate) name: &'a str,
    pub(crate) part: Option<&'a str>,
}

/// A document with everything filled in that could be.
pub(crate) struct Filled {
    pub(crate) value: Value,
    /// The references (`name` or `name.part`) that nobody knows; they stand in `value` as before.
    pub(crate) unknown: BTreeSet<String>,
    /// Sentences about variables that do not fit where they are used.
    pub(crate) unfit: Vec<String>,
}

/// The names of all variables that a document refers to.
pub(crate) fn references(document: &Value) -> BTreeSet<String> {
    let name = |reference: String| reference.split('.').next().unwrap_or_default().to_owned();
    fill(document, &|_| None).unknown.into_iter().map(name).collect()
}

/// Fill in what `look_up` knows.
pub(crate) fn fill(document: &Value, look_up: &dyn Fn(Reference<'_>) -> Option<Value>) -> Filled {
    let mut filling = Filling { look_up, unknown: BTreeSet::new(), unfit: Vec::new() };
    let value = filling.value(document);
    Filled { value, unknown: filling.unknown, unfit: filling.unfit }
}

struct Filling<'a> {
    look_up: &'a dyn Fn(Reference<'_>) -> Option<Value>,
    unknown: BTreeSet<String>,
    unfit: Vec<String>,
}

impl Filling<'_> {
    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text),
            Value::Sequence(items) => Value::Sequence(items.iter().map(|item| self.value(item)).collect()),
            Value::Mapping(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (self.value(key), self.value(value)));
                Value::Mapping(pairs.collect::<Mapping>())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Tagged(_) => value.clone(),
        }
    }

    fn text(&mut self, text: &str) -> Value {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, reference, after)) = next_reference(rest) {
            let found = self.find(reference);
            if reference.len() + "(())".len() == text.len() {
                return found.unwrap_or_else(|| Value::String(text.to_owned()));
            }
            filled.push_str(before);
            filled.push_str(&self.plain(reference, found));
            rest = after;
        }
        Value::String(filled + rest)
    }

    fn find(&mut self, reference: &str) -> Option<Value> {
        // `!` tells the CLI that the variable must be used; here every one must.
        let reference = reference.trim_start_matches('!');
        let (name, part) = match reference.split_once('.') {
            Some((name, part)) => (name, Some(part)),
            None => (reference, None),
        };
        let found = (self.look_up)(Reference { name, part });
        if found.is_none() {
            self.unknown.insert(reference.to_owned());
        }
        found
    }

    fn plain(&mut self, reference: &str, found: Option<Value>) -> String {
        match found {
            None => format!("(({reference}))"),
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(truth)) => truth.to_string(),
            Some(Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_)) => {
                self.unfit.push(format!("the variable {reference} has parts and cannot stand inside a text"));
                String::new()
            }
        }
    }
}

/// The text before the next reference, the reference, and the text after it. Brackets around anything else are text.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.' | '!');
    for (start, _) in text.match_indices('(') {
        let Some(inside) = text[start..].strip_prefix("((") else { continue };
        let length = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
        if length > 0 && inside[length..].starts_with("))") {
            return Some((&text[..start], &inside[..length], &inside[length + 2..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(document: &str) -> Filled {
        let known: Value =
            serde_yaml::from_str("{word: w, number: 7, cert: {ca: C}, list: [1], /abs/name: a, nothing: null}")
                .unwrap();
        fill(&serde_yaml::from_str(document).unwrap(), &|reference| {
            let value = known.get(reference.name)?;
            reference.part.map_or(Some(value), |part| value.get(part)).cloned()
        })
    }

    #[test]
    fn references_are_filled_in_wherever_they_stand() {
        let cases = [
            ("((word))", "w"),
            ("((number))", "7"),
            ("a ((word))-((number)) b", "a w-7 b"),
            ("((cert))", "{ca: C}"),
            ("((cert.ca))", "C"),
            ("x((cert.ca))y", "xCy"),
            ("((/abs/name))", "a"),
            ("((!word))", "w"),
            ("((nothing))", "null"),
            ("{((word)): [((list)), 'plain']}", "{w: [[1], plain]}"),
            ("((not a name)) (( word)) (((word)))", "((not a name)) (( word)) (w)"),
            ("(( ))", "(( ))"),
            ("((", "(("),
        ];
        for (document, expected) in cases {
            let Filled { value, unknown, unfit } = filled(document);
            assert_eq!(value, serde_yaml::from_str::<Value>(expected).unwrap(), "{document}");
            assert!(unknown.is_empty() && unfit.is_empty(), "{document}");
        }
    }

    #[test]
    fn what_nobody_knows_stays_and_is_named() {
        let Filled { value, unknown, .. } = filled("[((nope)), 'a((cert.nope))b', ((word))]");
        assert_eq!(value, serde_yaml::from_str::<Value>("[((nope)), 'a((cert.nope))b', w]").unwrap());
        assert_eq!(unknown.into_iter().collect::<Vec<_>>(), ["cert.nope", "nope"]);
    }

    #[test]
    fn a_variable_with_parts_does_not_fit_into_a_text() {
        assert_eq!(filled("a((cert))").unfit, ["the variable cert has parts and cannot stand inside a text"]);
    }
}
