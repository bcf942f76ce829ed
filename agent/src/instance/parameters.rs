//! What the user of a service instance asked of its servers, in the words of the service's parameters.

use serde::Deserialize;

/// All of them; what is left out is the product's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Parameters {
    pub(crate) workload: Workload,
    #[serde(rename = "default-charset")]
    pub(crate) default_charset: Option<Word>,
    /// One of the character set, if both are given.
    #[serde(rename = "default-collation")]
    pub(crate) default_collation: Option<Word>,
    /// For the life of the data: a server does not find tables that it has made under the other setting.
    pub(crate) enable_lower_case_table_names: bool,
    pub(crate) optimize_for_short_words: bool,
}

/// What the server is mostly used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    #[default]
    Mixed,
    /// More of the memory for pages, and no second copy of them in the kernel's cache.
    ReadHeavy,
    /// The same, and room for large transactions.
    WriteHeavy,
}

/// A name that can stand in a configuration file as it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Word(String);

impl Word {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Word, String> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match !text.is_empty() && text.chars().all(is_plain) {
            true => Ok(Word(text)),
            false => Err(format!("{text:?} is no name of a character set or collation")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parameters, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_asked_for_is_the_default() {
        assert_eq!(read("{}").unwrap(), Parameters::default());
        let asked = read(r#"{"workload": "read-heavy", "default-charset": "utf8mb4"}"#).unwrap();
        assert_eq!(asked.workload, Workload::ReadHeavy);
        assert_eq!(asked.default_charset.unwrap().as_str(), "utf8mb4");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, words) in [
            (r#"{"workload": "idle"}"#, "unknown variant `idle`"),
            (r#"{"default_charset": "utf8"}"#, "unknown field `default_charset`"),
            (r#"{"default-charset": "utf8\nskip_grant_tables"}"#, "is no name of a character set"),
            (r#"{"default-collation": ""}"#, "is no name of a character set or collation"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
