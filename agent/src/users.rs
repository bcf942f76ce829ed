//! The users of bindings, made on the writable leader only; replication carries them to the follower.

use agent::api::User;

use crate::mysql::Family;

/// Accounts of the server itself.
const RESERVED_NAMES: [&str; 7] = ["admin", "mysql-agent", "replication", "root", "mysql", "mariadb", "public"];
const RESERVED_SCHEMAS: [&str; 4] = ["mysql", "information_schema", "performance_schema", "sys"];
/// MariaDB's. MySQL's is shorter, which its family says.
const NAME_LIMIT: usize = 80;
const SCHEMA_LIMIT: usize = 64;
const PASSWORD_LIMIT: usize = 256;

/// May a user have this name? The error says what would be right.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "_$-".contains(c);
    if !(1..=NAME_LIMIT).contains(&name.len()) || !name.chars().all(is_usable) {
        return Err(format!("{name:?} is not a usable name of a user: 1 to {NAME_LIMIT} of A-Z a-z 0-9 _ $ - are"));
    }
    if RESERVED_NAMES.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("the user {name} is the server's own; take another name"));
    }
    Ok(())
}

/// Has a server of this family users of this name?
pub(crate) fn check_length(name: &str, family: Family) -> Result<(), String> {
    let limit = family.longest_user_name();
    match name.len() <= limit {
        true => Ok(()),
        false => Err(format!(
            "the user {name} has a name of {} characters; a {} server takes no more than {limit}",
            name.len(),
            family.name()
        )),
    }
}

/// May a binding have this user?
pub(crate) fn check_user(user: &User) -> Result<(), String> {
    let schema = &user.schema;
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "_$".contains(c);
    if !(1..=SCHEMA_LIMIT).contains(&schema.len()) || !schema.chars().all(is_usable) {
        return Err(format!("{schema:?} is not a usable name of a schema: 1 to {SCHEMA_LIMIT} of A-Z a-z 0-9 _ $ are"));
    }
    if RESERVED_SCHEMAS.contains(&schema.to_ascii_lowercase().as_str()) {
        return Err(format!("the schema {schema} is the server's own; take another name"));
    }
    if !(1..=PASSWORD_LIMIT).contains(&user.password.len()) {
        return Err(format!("the password has {} bytes; give it 1 to {PASSWORD_LIMIT}", user.password.len()));
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
            assert_eq!(check_name(name).is_ok(), is_good, "{name}");
        }
    }

    #[test]
    fn schemas_of_the_server_and_empty_passwords_are_refused() {
        let user = |schema: &str, password: &str| User { schema: schema.into(), password: password.into() };
        assert!(check_user(&user("service_instance_db", "p")).is_ok());
        for (schema, password) in [("mysql", "p"), ("SYS", "p"), ("a-b", "p"), ("a`b", "p"), ("", "p"), ("db", "")] {
            assert!(check_user(&user(schema, password)).is_err(), "{schema}");
        }
    }
}
