//! A place for the state database of a test: a file, or, where the environment names a PostgreSQL server, a database of
//! its own there. `tests/with-postgres.sh` starts a server, sets the variables and runs the tests.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{AnyConnection, ConnectOptions, Connection as _, Executor};

use super::{Place, Store};

/// The server's URL without a database, and its password.
const SERVER: &str = "TANDEM_POSTGRES";
const PASSWORD: &str = "TANDEM_POSTGRES_PASSWORD";

/// The place that belongs to a directory: the same directory, the same database.
pub(crate) async fn place(directory: &Path) -> Place {
    match property(directory).await {
        Value::Null => Place::File(directory.join("state/state.db")),
        property => Place::Server(serde_json::from_value(property).unwrap()),
    }
}

/// The property `state_database` for that place; null for a file.
pub(crate) async fn property(directory: &Path) -> Value {
    let Ok(url) = std::env::var(SERVER) else { return Value::Null };
    let password = std::env::var(PASSWORD).unwrap();
    let property = |database: &str| json!({"url": format!("{url}/{database}"), "password": password});
    sqlx::any::install_default_drivers();
    let admin = Place::Server(serde_json::from_value(property("postgres")).unwrap());
    let mut admin = admin.options().unwrap().connect().await.unwrap();
    let name = directory.file_name().unwrap().to_str().unwrap();
    match admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{name}\""))).await {
        Ok(_) => {}
        // It was used before.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => {}
        Err(error) => panic!("create the database {name}: {error}"),
    }
    property(name)
}

/// The database of an earlier program, which had so many migrations.
pub(crate) async fn earlier(directory: &Path, migrations: usize) -> (Place, Store) {
    let place = place(directory).await;
    sqlx::any::install_default_drivers();
    let mut db = AnyConnection::connect_with(&place.options().unwrap()).await.unwrap();
    let mut earlier = sqlx::migrate!("../migrations");
    earlier.migrations = earlier.migrations.iter().take(migrations).cloned().collect();
    earlier.run(&mut db).await.unwrap();
    db.close().await.unwrap();
    let store = Store::at(&place, place.options().unwrap());
    (place, store)
}
