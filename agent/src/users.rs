//! The users of bindings, made on the writable leader only; replication carries them to the follower.

use agent::api::{User, check_schema};

use crate::mysql::Family;

const PASSWORD_LIMIT: usize = 256;

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
    check_schema(&user.schema)?;
    if !(1..=PASSWORD_LIMIT).contains(&user.password.len()) {
        return Err(format!("the password has {} bytes; give it 1 to {PASSWORD_LIMIT}", user.password.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use agent::api::Access;

    use super::*;

    #[test]
    fn a_user_needs_a_schema_and_a_password() {
        let user = |schema: &str, password: &str| User {
            schema: schema.into(),
            password: password.into(),
            access: Access::Full,
        };
        assert!(check_user(&user("service_instance_db", "p")).is_ok());
        for (schema, password) in [("mysql", "p"), ("", "p"), ("db", ""), ("db", &"p".repeat(257))] {
            assert!(check_user(&user(schema, password)).is_err(), "{schema}");
        }
    }
}
