//! The credentials of a binding: the seven keys that MySQL consumers on Cloud Foundry read.

use serde::{Deserialize, Serialize};

/// How to connect. It never prints its secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The stable address of the instance: it follows the leader.
    pub hostname: String,
    /// The address for Java.
    #[serde(rename = "jdbcUrl")]
    pub jdbc_url: String,
    /// The schema.
    pub name: String,
    /// The password, 16 characters of `[a-z0-9]`.
    pub password: String,
    /// The port, a number.
    pub port: u16,
    /// The address for everybody else.
    pub uri: String,
    /// The user: 32 hexadecimal digits, or the name that was asked for.
    pub username: String,
}

impl Credentials {
    /// The credentials of `username` on the server at `hostname`.
    #[must_use]
    pub fn new(hostname: &str, port: u16, name: &str, username: &str, password: &str) -> Credentials {
        Credentials {
            jdbc_url: format!("jdbc:mysql://{hostname}:{port}/{name}?user={username}&password={password}"),
            uri: format!("mysql://{username}:{password}@{hostname}:{port}/{name}?reconnect=true"),
            hostname: hostname.into(),
            name: name.into(),
            password: password.into(),
            port,
            username: username.into(),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("hostname", &self.hostname)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_exactly_the_seven_keys_of_the_reference() {
        let credentials = Credentials::new("10.0.0.20", 3306, "service_instance_db", "fefc", "z9z6");
        let expected = serde_json::json!({
            "hostname": "10.0.0.20",
            "jdbcUrl": "jdbc:mysql://10.0.0.20:3306/service_instance_db?user=fefc&password=z9z6",
            "name": "service_instance_db",
            "password": "z9z6",
            "port": 3306,
            "uri": "mysql://fefc:z9z6@10.0.0.20:3306/service_instance_db?reconnect=true",
            "username": "fefc"
        });
        assert_eq!(serde_json::to_value(&credentials).unwrap(), expected);
        assert!(!format!("{credentials:?}").contains("z9z6"));
    }
}
