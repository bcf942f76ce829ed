//! JSON as strictly as a caller can be held to it, where `serde_json` is generous: no member of an object comes twice, at no
//! level; a structure is an object and never an array; nothing is nested without end; no text holds a NUL, which PostgreSQL
//! could not keep. What is wrong is said in our own words: those of `serde` would repeat what was sent.

mod strict;

use std::fmt::{self, Formatter};

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use strict::Strict;

/// How deep values may be nested.
const DEPTH_LIMIT: usize = 64;

/// Read a structure, or say what is wrong.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    // Its errors are made of fixed texts, ours below among them, and of places.
    let syntax = |error: serde_json::Error| format!("the request body is not usable: {error}");
    let value = Tree(DEPTH_LIMIT).deserialize(&mut reader).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    T::deserialize(Strict(value)).map_err(|fault| fault.to_string())
}

/// Reads any value that may be nested so much deeper.
#[derive(Clone, Copy)]
struct Tree(usize);

impl Tree {
    fn deeper<E: Error>(self) -> Result<Tree, E> {
        let left = self.0.checked_sub(1);
        left.map(Tree).ok_or_else(|| E::custom(format_args!("values are nested deeper than {DEPTH_LIMIT} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        check_text(text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let tree = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(tree)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let tree = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            check_text(&name)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom("an object has two members of the same name"));
            }
            object.insert(name, members.next_value_seed(tree)?);
        }
        Ok(Value::Object(object))
    }
}

fn check_text<E: Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a text holds the character NUL")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use broker::osb::{Object, ProvisionRequest};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        inner: Option<Inner>,
        anything: Option<Object>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        count: u8,
        word: Option<Word>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
    }

    #[test]
    fn what_is_right_is_read_as_it_was_sent() {
        let text = r#" {"inner": {"count": 7, "word": "one", "newer": []}, "anything": {"a": [1, -1, 1.5, null, {"b": "\u00e4"}]}} "#;
        let outer: Outer = read(text.as_bytes()).unwrap();
        assert_eq!(outer.inner, Some(Inner { count: 7, word: Some(Word::One) }));
        assert_eq!(Value::Object(outer.anything.unwrap()), serde_json::json!({"a": [1, -1, 1.5, null, {"b": "ä"}]}));
        assert_eq!(read::<Outer>(br#"{"inner": null}"#).unwrap(), Outer { inner: None, anything: None });
    }

    #[test]
    fn what_is_wrong_is_named_in_words_of_ours() {
        for (text, words) in [
            ("", "EOF while parsing"),
            ("SECRET", "expected value"),
            ("{\"inner\":", "EOF while parsing"),
            ("{} SECRET", "trailing characters"),
            ("[null, null]", "the request body must be a JSON object"),
            ("\"SECRET\"", "the request body must be a JSON object"),
            (r#"{"inner": [1]}"#, "`inner` must be a JSON object"),
            (r#"{"inner": "SECRET"}"#, "`inner` must be a JSON object"),
            (r#"{"inner": {}}"#, "`inner.count` is missing"),
            (r#"{"inner": {"count": "SECRET"}}"#, "`inner.count` must be u8"),
            (r#"{"inner": {"count": 4711}}"#, "`inner.count` must be u8"),
            (r#"{"inner": {"count": 1, "word": "SECRET"}}"#, "`inner.word` must be one of `one`"),
            (r#"{"inner": {"count": 1, "word": 4711}}"#, "`inner.word` must be one of `one`"),
            (r#"{"anything": "SECRET"}"#, "`anything` must be a JSON object"),
            (r#"{"anything": {}, "anything": {}}"#, "two members of the same name"),
            (r#"{"anything": {"SECRET": [{"a": 1, "a": 1}]}}"#, "two members of the same name"),
            (r#"{"anything": {"a": "\u0000"}}"#, "character NUL"),
            (r#"{"anything": {"\u0000": 1}}"#, "character NUL"),
            (r#"{"anything": {"a": "\ud800"}}"#, "hex escape"),
            (r#"{"anything": {"a": 1e999}}"#, "out of range"),
        ] {
            let what = read::<Outer>(text.as_bytes()).unwrap_err();
            assert!(what.contains(words), "{text}: {what}");
            assert!(!what.contains("SECRET") && !what.contains("4711"), "{text}: {what}");
        }
        assert!(read::<Outer>(b"{\"inner\": \"\xff\"}").unwrap_err().contains("unicode"));
        let given = r#"{"service_id": "s", "plan_id": "p", "organization_guid": ["SECRET"], "space_guid": "s"}"#;
        let what = read::<ProvisionRequest>(given.as_bytes()).unwrap_err();
        assert_eq!(what, "`organization_guid` must be a string");
    }

    #[test]
    fn a_nesting_without_end_is_refused_in_a_short_sentence() {
        let nested = |depth: usize| format!("{{\"anything\": {}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
        read::<Outer>(nested(DEPTH_LIMIT - 1).as_bytes()).unwrap();
        for depth in [DEPTH_LIMIT, 200, 100_000] {
            let what = read::<Outer>(nested(depth).as_bytes()).unwrap_err();
            assert!(what.len() < 100 && what.contains("nested deeper than 64"), "{what}");
        }
    }
}
