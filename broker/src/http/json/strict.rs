//! From a JSON value to a structure, and what is wrong where that fails.

use std::fmt::{self, Display, Formatter};

use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Number, Value};

/// A value that a structure is read from: by name, never by position.
pub(super) struct Strict(pub(super) Value);

impl<'de> Deserializer<'de> for Strict {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => visit_number(&number, visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Strict))),
            Value::Object(members) => visitor.visit_map(Members::new(members, &[])),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            _ => Err(Fault::unknown_variant("", words)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Object(members) => visitor.visit_map(Members::new(members, names)),
            _ => Err(Fault::here("must be a JSON object")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Strict {
    type Deserializer = Strict;

    fn into_deserializer(self) -> Strict {
        self
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Result<V::Value, Fault> {
    match (number.as_u64(), number.as_i64()) {
        (Some(value), _) => visitor.visit_u64(value),
        (None, Some(value)) => visitor.visit_i64(value),
        (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// The members of an object, and the names that are known there.
struct Members {
    members: serde_json::map::IntoIter,
    names: &'static [&'static str],
    /// The value whose name was read last.
    next: Option<(Option<&'static str>, Value)>,
}

impl Members {
    fn new(members: Map<String, Value>, names: &'static [&'static str]) -> Members {
        Members { members: members.into_iter(), names, next: None }
    }
}

impl<'de> MapAccess<'de> for Members {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((given, value)) = self.members.next() else { return Ok(None) };
        let name = self.names.iter().find(|name| **name == given).copied();
        self.next = Some((name, value));
        seed.deserialize(given.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (name, value) = self.next.take().expect("serde asks for a value after its name");
        seed.deserialize(Strict(value)).map_err(|fault| fault.inside(name))
    }
}

/// What is wrong, and where: in words and names of ours only.
#[derive(Debug)]
pub(super) struct Fault {
    /// The names of the members that lead there, the innermost first.
    place: Vec<&'static str>,
    what: String,
}

impl Fault {
    fn here(what: impl Into<String>) -> Fault {
        Fault { place: Vec::new(), what: what.into() }
    }

    fn inside(mut self, name: Option<&'static str>) -> Fault {
        self.place.extend(name);
        self
    }

    fn must_be(expected: &dyn Expected) -> Fault {
        match expected.to_string().as_str() {
            "a map" => Fault::here("must be a JSON object"),
            "a sequence" => Fault::here("must be a JSON array"),
            other => Fault::here(format!("must be {other}")),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return write!(f, "the request body {}", self.what);
        }
        let place: Vec<&str> = self.place.iter().rev().copied().collect();
        write!(f, "`{}` {}", place.join("."), self.what)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    /// The text may hold what was sent.
    fn custom<T: Display>(_: T) -> Fault {
        Fault::here("is not usable")
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::must_be(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::must_be(expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Fault {
        Fault::must_be(expected)
    }

    fn unknown_variant(_: &str, words: &'static [&'static str]) -> Fault {
        Fault::here(format!("must be one of `{}`", words.join("`, `")))
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Fault {
        Fault::here("has a member that is not known")
    }

    fn missing_field(name: &'static str) -> Fault {
        Fault::here("is missing").inside(Some(name))
    }

    fn duplicate_field(name: &'static str) -> Fault {
        Fault::here("is there twice").inside(Some(name))
    }
}
