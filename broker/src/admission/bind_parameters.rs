//! The user's configuration of a binding: `-c '{"read-only": true}'`.

use agent::api::{Access, check_schema, check_user_name};
use broker::osb::Object;
use serde_json::Value;

use super::parameters::not_an_option;
use super::schema;

const READ_ONLY: &str = "read-only";
pub(super) const USERNAME: &str = "username";
const SCHEMA: &str = "schema";

/// What the user asked for; the broker decides the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindParameters {
    pub(crate) access: Access,
    pub(crate) username: Option<String>,
    pub(crate) schema: Option<String>,
}

impl BindParameters {
    /// Understand the parameters, or complain of every one that cannot be used.
    pub(crate) fn parse(given: &Object) -> Result<BindParameters, Vec<String>> {
        let mut parameters = BindParameters::default();
        let mut complaints = Vec::new();
        for (name, value) in given {
            if let Err(complaint) = parameters.take(name, value) {
                complaints.push(complaint);
            }
        }
        if complaints.is_empty() { Ok(parameters) } else { Err(complaints) }
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            _ if !schema::has(&schema::of_binding(), name) => return Err(not_an_option(name)),
            READ_ONLY => self.access = access(value)?,
            USERNAME => self.username = Some(text(name, value, check_user_name)?),
            SCHEMA => self.schema = Some(text(name, value, check_schema)?),
            _ => return Err(not_an_option(name)),
        }
        Ok(())
    }
}

fn access(value: &Value) -> Result<Access, String> {
    match value {
        Value::Bool(true) => Ok(Access::ReadOnly),
        Value::Bool(false) => Ok(Access::Full),
        _ => Err(format!("the configuration parameter '{READ_ONLY}' must be true or false")),
    }
}

fn text(name: &str, value: &Value, check: fn(&str) -> Result<(), String>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("the configuration parameter '{name}' must be a string"))?;
    check(text).map_err(|why| format!("the configuration parameter '{name}' cannot be used: {why}"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(given: &Value) -> Result<BindParameters, Vec<String>> {
        BindParameters::parse(given.as_object().unwrap())
    }

    #[test]
    fn a_binding_takes_what_its_user_may_do_its_name_and_its_schema() {
        let nothing = BindParameters::default();
        for (given, expected) in [
            (json!({}), nothing.clone()),
            (json!({"read-only": false}), nothing.clone()),
            (json!({"read-only": true}), BindParameters { access: Access::ReadOnly, ..nothing.clone() }),
            (json!({"username": "bob"}), BindParameters { username: Some("bob".into()), ..nothing.clone() }),
            (json!({"schema": "A$_9"}), BindParameters { schema: Some("A$_9".into()), ..nothing }),
        ] {
            assert_eq!(parse(&given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_the_ones_that_can() {
        let booleans = "'read-only' must be true or false";
        let schemas = "'schema' cannot be used: the name of a schema must be 1 to 64 of the characters A-Z a-z 0-9 _ $";
        for (given, words) in [
            (json!({"read-only": "true"}), booleans),
            (json!({"read-only": null}), booleans),
            (json!({"read-only": 1}), booleans),
            (json!({"username": 1}), "'username' must be a string"),
            (json!({"username": null}), "'username' must be a string"),
            (json!({"username": ""}), "1 to 80 of the characters"),
            (json!({"username": "o'x"}), "1 to 80 of the characters"),
            (json!({"username": "a".repeat(81)}), "1 to 80 of the characters"),
            (json!({"username": "Root"}), "the user Root is the server's own"),
            (json!({"schema": ["a"]}), "'schema' must be a string"),
            (json!({"schema": "a-b"}), schemas),
            (json!({"schema": "a`.`b"}), schemas),
            (json!({"schema": "mysql"}), "the schema mysql is the server's own"),
            (json!({"schema": "replication_monitoring"}), "is the server's own"),
            (json!({"Schema": "a"}), "'Schema' is not a valid option"),
        ] {
            let complaints = parse(&given).unwrap_err();
            assert!(complaints.len() == 1 && complaints[0].contains(words), "{given}: {complaints:?}");
        }
    }

    #[test]
    fn every_complaint_is_told() {
        let complaints = parse(&json!({"read-only": 1, "username": "", "schema": "", "replication-request": "x"}));
        assert_eq!(complaints.unwrap_err().len(), 4);
    }
}
