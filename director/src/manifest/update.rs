//! PURE: a manifest's `update` block: how many instances change at the same time, and how long one may take to run.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;

use crate::error::{Code, Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) canaries: Amount,
    pub(crate) max_in_flight: Amount,
    pub(crate) canary_watch: Watch,
    pub(crate) update_watch: Watch,
}

/// `2` or `50%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Number(usize),
    Percent(usize),
}

/// `100-60000` or `60000`, in ms: not before the first, not after the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) not_before: Duration,
    pub(crate) not_after: Duration,
}

/// An update block as it stands; an instance group's overrides the manifest's, key by key.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Raw {
    canaries: Option<Value>,
    max_in_flight: Option<Value>,
    canary_watch_time: Option<Value>,
    update_watch_time: Option<Value>,
}

/// What the query of a request says over the manifest (`?canaries=0&max_in_flight=100%`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) canaries: Option<Amount>,
    pub(crate) max_in_flight: Option<Amount>,
}

impl Amount {
    /// Percentages are rounded down, as in BOSH.
    pub(crate) fn of(self, size: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => size * percent / 100,
        }
    }
}

impl FromStr for Amount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Code::ValidationInvalid, format!("'{text}' is neither a number nor a percentage"));
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().map(Self::Percent).map_err(|_| wrong()),
            None => text.parse().map(Self::Number).map_err(|_| wrong()),
        }
    }
}

impl FromStr for Watch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let message = format!("Watch time should be in the form MIN-MAX or MAX in milliseconds, not '{text}'");
            Error::new(Code::InvalidWatchTime, message)
        };
        let parse = |part: &str| part.trim().parse().map(Duration::from_millis).map_err(|_| wrong());
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let watch = Self { not_before: parse(min)?, not_after: parse(max)? };
        if watch.not_before <= watch.not_after { Ok(watch) } else { Err(wrong()) }
    }
}

impl Raw {
    pub(super) fn or(self, outer: &Self) -> Self {
        Self {
            canaries: self.canaries.or_else(|| outer.canaries.clone()),
            max_in_flight: self.max_in_flight.or_else(|| outer.max_in_flight.clone()),
            canary_watch_time: self.canary_watch_time.or_else(|| outer.canary_watch_time.clone()),
            update_watch_time: self.update_watch_time.or_else(|| outer.update_watch_time.clone()),
        }
    }

    pub(super) fn checked(&self) -> Result<Update> {
        Ok(Update {
            canaries: required(self.canaries.as_ref(), "canaries")?.parse()?,
            max_in_flight: required(self.max_in_flight.as_ref(), "max_in_flight")?.parse()?,
            canary_watch: required(self.canary_watch_time.as_ref(), "canary_watch_time")?.parse()?,
            update_watch: required(self.update_watch_time.as_ref(), "update_watch_time")?.parse()?,
        })
    }
}

fn required(value: Option<&Value>, name: &str) -> Result<String> {
    match value {
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Error::new(Code::ValidationInvalid, format!("Property '{name}' must be a number or a text"))),
        None => Err(super::missing(name, "update")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_watch_times_are_read() {
        assert_eq!("2".parse::<Amount>().unwrap().of(9), 2);
        assert_eq!("50%".parse::<Amount>().unwrap().of(3), 1);
        assert_eq!("100%".parse::<Amount>().unwrap().of(3), 3);
        let watch: Watch = "100-60000".parse().unwrap();
        assert_eq!((watch.not_before, watch.not_after), (Duration::from_millis(100), Duration::from_mins(1)));
        for bad in ["", "half", "-1", "%"] {
            assert_eq!(bad.parse::<Amount>().unwrap_err().code, Code::ValidationInvalid, "{bad}");
        }
        for bad in ["", "9-1", "soon"] {
            assert_eq!(bad.parse::<Watch>().unwrap_err().code, Code::InvalidWatchTime, "{bad}");
        }
    }
}
