//! The parameters that the servers themselves are told, on plans of every topology.

use broker::osb::Object;
use serde::Serialize;
use serde_json::Value;

use super::texts::{self, Texts};
use super::word;

const WORKLOAD: &str = "workload";
const CHARSET: &str = "default-charset";
const COLLATION: &str = "default-collation";
const LOWER_CASE: &str = "enable_lower_case_table_names";
const SHORT_WORDS: &str = "optimize_for_short_words";

/// What the servers of an instance are told, in the words in which the user says it. Nothing where the user says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ServerParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workload: Option<Workload>,
    #[serde(flatten)]
    pub(crate) texts: Texts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enable_lower_case_table_names: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) optimize_for_short_words: Option<bool>,
}

/// What a server is mostly used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub(crate) enum Workload {
    Mixed,
    ReadHeavy,
    WriteHeavy,
}

impl Workload {
    pub(crate) const ALL: [Workload; 3] = [Workload::Mixed, Workload::ReadHeavy, Workload::WriteHeavy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Mixed => "mixed",
            Workload::ReadHeavy => "read-heavy",
            Workload::WriteHeavy => "write-heavy",
        }
    }
}

impl From<Workload> for &'static str {
    fn from(workload: Workload) -> &'static str {
        workload.name()
    }
}

impl ServerParameters {
    /// False where that is none of them.
    pub(super) fn take(&mut self, name: &str, value: &Value) -> Result<bool, String> {
        match name {
            WORKLOAD => self.workload = Some(word(name, value, &Workload::ALL, Workload::name)?),
            CHARSET => self.texts.charset = Some(texts::charset(CHARSET, value)?),
            COLLATION => self.texts.collation = Some(texts::collation(COLLATION, value)?),
            LOWER_CASE => self.enable_lower_case_table_names = Some(boolean(name, value)?),
            SHORT_WORDS => self.optimize_for_short_words = Some(boolean(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What a single parameter does not show.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.texts.pair(COLLATION)
    }
}

/// May an instance that has these parameters be given the others? A server does not find the tables that it made under the
/// other setting, and MySQL does not even start.
pub(crate) fn check_lasting(present: &Object, wanted: &Object) -> Result<(), String> {
    let is_lower = |of: &Object| of.get(LOWER_CASE) == Some(&Value::Bool(true));
    match is_lower(present) == is_lower(wanted) {
        true => Ok(()),
        false => Err(format!(
            "the configuration parameter '{LOWER_CASE}' holds for the life of a service instance; it is {} here",
            is_lower(present)
        )),
    }
}

fn boolean(name: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("the configuration parameter '{name}' must be true or false"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::parameters::Parameters;
    use crate::catalog::Topology;

    fn parse(given: &Value) -> Result<ServerParameters, Vec<String>> {
        Parameters::parse(Topology::SingleNode, given.as_object().unwrap()).map(|parameters| parameters.server)
    }

    #[test]
    fn the_servers_are_told_what_the_user_said_and_nothing_else() {
        for (given, told) in [
            (json!({}), json!({})),
            (json!({"workload": "write-heavy"}), json!({"workload": "write-heavy"})),
            (json!({"default-charset": "latin1"}), json!({"default-charset": "latin1"})),
            (json!({"default-charset": "utf8"}), json!({"default-charset": "utf8mb3"})),
            (
                json!({"default-collation": "utf8_bin"}),
                json!({"default-charset": "utf8mb3", "default-collation": "utf8mb3_bin"}),
            ),
            (
                json!({"default-charset": "utf8mb4", "default-collation": "utf8mb4_unicode_ci"}),
                json!({"default-charset": "utf8mb4", "default-collation": "utf8mb4_unicode_ci"}),
            ),
            (
                json!({"enable_lower_case_table_names": true, "optimize_for_short_words": false}),
                json!({"enable_lower_case_table_names": true, "optimize_for_short_words": false}),
            ),
        ] {
            assert_eq!(serde_json::to_value(parse(&given).unwrap()).unwrap(), told, "{given}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_the_ones_that_can() {
        let pair = json!({"default-charset": "latin1", "default-collation": "utf8mb4_bin"});
        for (given, words) in [
            (json!({"workload": "idle"}), "must be \"mixed\", \"read-heavy\" or \"write-heavy\""),
            (json!({"workload": null}), "'workload' must be"),
            (json!({"workload": ["mixed"]}), "'workload' must be"),
            (json!({"default-charset": "klingon"}), "'default-charset' must be one of armscii8, ascii, "),
            (json!({"default-charset": 1}), "'default-charset' must be one of"),
            (json!({"default-charset": "UTF8"}), "'default-charset' must be one of"),
            (
                json!({"default-collation": "utf8mb4_0900_ai_ci"}),
                "'default-collation' must be one that every server has",
            ),
            (json!({"default-collation": "utf8mb4_bin\nx=1"}), "'default-collation' must be one that every server has"),
            (json!({"default-collation": null}), "'default-collation' must be one that every server has"),
            (pair, "'default-collation' must be one of the character set latin1: latin1_bin, "),
            (json!({"enable_lower_case_table_names": 1}), "'enable_lower_case_table_names' must be true or false"),
            (json!({"optimize_for_short_words": "true"}), "'optimize_for_short_words' must be true or false"),
            (json!({"default_charset": "utf8"}), "'default_charset' is not a valid option"),
        ] {
            let complaints = parse(&given).unwrap_err();
            assert!(complaints.len() == 1 && complaints[0].contains(words), "{given}: {complaints:?}");
        }
    }

    #[test]
    fn the_case_of_names_is_for_life() {
        let with = |given: &Value| given.as_object().unwrap().clone();
        let (yes, no) =
            (json!({"enable_lower_case_table_names": true}), json!({"enable_lower_case_table_names": false}));
        for (from, to, is_good) in [
            (json!({}), json!({"workload": "mixed"}), true),
            (json!({}), no.clone(), true),
            (no, yes.clone(), false),
            (yes.clone(), json!({}), false),
            (yes.clone(), yes, true),
        ] {
            assert_eq!(check_lasting(&with(&from), &with(&to)).is_ok(), is_good, "{from} -> {to}");
        }
    }
}
