//! The user of a binding. Which names are usable is part of the contract, so that a caller can say so before it asks.

use serde::{Deserialize, Serialize};

/// Accounts of the server itself, and what a server takes for something else than an account.
const RESERVED_NAMES: [&str; 7] = ["admin", "mysql-agent", "replication", "root", "mysql", "mariadb", "public"];
/// The server's own, the agents' bookkeeping, and the one in which the reference keeps its own.
const RESERVED_SCHEMAS: [&str; 6] =
    ["mysql", "information_schema", "performance_schema", "sys", "replication_monitoring", "cf_metadata"];
/// The longest name of a user: MariaDB's. MySQL's is shorter, which the agent says where it has that server.
pub const NAME_LIMIT: usize = 80;
/// The longest name of a schema.
pub const SCHEMA_LIMIT: usize = 64;

/// `PUT /v1/users/:name`: a binding's user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its password.
    pub password: String,
    /// The schema that it uses; made where it is missing.
    pub schema: String,
    /// What it may do there. An agent that does not know the word has users of one kind only.
    #[serde(default, skip_serializing_if = "Access::is_full")]
    pub access: Access,
}

/// What a user may do in its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Everything: the schema is its own.
    #[default]
    Full,
    /// Read, and change nothing.
    ReadOnly,
}

/// The answer to `PUT /v1/users/:name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMade {
    /// False where the user was there before.
    pub created: bool,
}

impl Access {
    fn is_full(&self) -> bool {
        *self == Access::Full
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let User { password: _, schema, access } = self;
        f.debug_struct("User").field("schema", schema).field("access", access).finish_non_exhaustive()
    }
}

/// May a user have this name?
///
/// # Errors
/// It may not; the text says what would be right.
pub fn check_user_name(name: &str) -> Result<(), String> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "_$-".contains(c);
    if !(1..=NAME_LIMIT).contains(&name.len()) || !name.chars().all(is_usable) {
        return Err(format!("the name of a user must be 1 to {NAME_LIMIT} of the characters A-Z a-z 0-9 _ $ -"));
    }
    if RESERVED_NAMES.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("the user {name} is the server's own; take another name"));
    }
    Ok(())
}

/// May a binding have this schema?
///
/// # Errors
/// It may not; the text says what would be right.
pub fn check_schema(schema: &str) -> Result<(), String> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "_$".contains(c);
    if !(1..=SCHEMA_LIMIT).contains(&schema.len()) || !schema.chars().all(is_usable) {
        return Err(format!("the name of a schema must be 1 to {SCHEMA_LIMIT} of the characters A-Z a-z 0-9 _ $"));
    }
    if RESERVED_SCHEMAS.contains(&schema.to_ascii_lowercase().as_str()) {
        return Err(format!("the schema {schema} is the server's own; take another name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        for (name, is_good) in [
            ("binding_0a9f-b$", true),
            (&"a".repeat(80), true),
            (&"a".repeat(81), false),
            ("", false),
            ("a'b", false),
            ("a b", false),
            ("Root", false),
            ("admin", false),
        ] {
            assert_eq!(check_user_name(name).is_ok(), is_good, "{name}");
        }
    }

    #[test]
    fn schemas_that_are_not_the_users_are_refused() {
        for (schema, is_good) in [
            ("service_instance_db", true),
            ("A$1", true),
            (&"a".repeat(65), false),
            ("mysql", false),
            ("SYS", false),
            ("Replication_Monitoring", false),
            ("a-b", false),
            ("a`b", false),
            ("", false),
        ] {
            assert_eq!(check_schema(schema).is_ok(), is_good, "{schema}");
        }
    }

    #[test]
    fn a_user_that_may_do_everything_is_written_as_older_agents_know_it() {
        let user = User { password: "p".into(), schema: "s".into(), access: Access::Full };
        assert_eq!(serde_json::to_string(&user).unwrap(), r#"{"password":"p","schema":"s"}"#);
        let reader = User { access: Access::ReadOnly, ..user };
        assert_eq!(serde_json::to_string(&reader).unwrap(), r#"{"password":"p","schema":"s","access":"read-only"}"#);
    }
}
