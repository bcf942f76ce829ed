//! A session of a binding's user, and a signal to a process.

use std::process::{Command, Stdio};

use agent::api::{Access, User};
use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};

pub(crate) async fn connect(address: &str, name: &str, user: &User) -> Result<MySqlConnection, sqlx::Error> {
    let options = MySqlConnectOptions::new().host(address).username(name).password(&user.password);
    MySqlConnection::connect_with(&options.database(&user.schema)).await
}

pub(crate) fn signal(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

pub(crate) fn user(password: &str) -> User {
    User { password: password.into(), schema: "service_db".into(), access: Access::Full }
}
