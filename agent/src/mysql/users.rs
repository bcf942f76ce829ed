//! The users of bindings. A password that is known proves whose a user is: each binding has its own, made at random and
//! remembered before the user is made, so that what a crash cut off can be finished and what is another's is left alone.

use agent::api::{Access, User};
use anyhow::Result;
use sqlx::{ConnectOptions, Connection as _};

use super::statements::{code, identifier, kill_sessions_of, literal, run, value};
use super::{Connection, Database, STATEMENT_LIMIT, within};

const ACCESS_DENIED: u16 = 1045;

/// What became of the wish for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    New,
    /// It was there, with this password.
    Before,
    /// Another's user has that name. Nothing was changed.
    Taken,
}

impl Database {
    /// Make a user and its schema, or finish what was begun.
    pub(crate) async fn put_user(&self, name: &str, user: &User) -> Result<Made> {
        within(STATEMENT_LIMIT, "make the user", async {
            let (family, mut connection) = self.session().await?;
            let account = format!("{}@'%'", literal(name));
            let made = match has_user(&mut connection, name).await? {
                false => Made::New,
                true if self.logs_in(name, &user.password).await? => Made::Before,
                true => return Ok(Made::Taken),
            };
            // Before the user: while MySQL waits for the follower's receipt of one, it lets nobody else in.
            run(&mut connection, &format!("CREATE DATABASE IF NOT EXISTS {}", identifier(&user.schema))).await?;
            if made == Made::New {
                // Where another request was quicker this is an error, and whose the user is shows when it is asked again.
                run(&mut connection, &format!("CREATE USER {account} {}", family.identified_by(&user.password)))
                    .await?;
            }
            grant(&mut connection, &account, user).await?;
            Ok(made)
        })
        .await
    }

    /// Drop a user and cut its sessions, which would go on: unbinding would not take effect until they end.
    pub(crate) async fn drop_user(&self, name: &str) -> Result<()> {
        within(STATEMENT_LIMIT, "drop the user", async {
            let connection = &mut *self.connection().await?;
            run(connection, &format!("DROP USER IF EXISTS {}@'%'", literal(name))).await?;
            kill_sessions_of(connection, name).await
        })
        .await
    }

    async fn logs_in(&self, name: &str, password: &str) -> Result<bool> {
        let options = (*self.pool.connect_options()).clone().username(name).password(password);
        match options.connect().await {
            Ok(session) => {
                // MySQL may be quicker than the farewell.
                let _ = session.close().await;
                Ok(true)
            }
            Err(error) => match anyhow::Error::from(error) {
                error if code(&error) == Some(ACCESS_DENIED) => Ok(false),
                error => Err(error.context("find out whose user that is")),
            },
        }
    }
}

async fn has_user(connection: &mut Connection, name: &str) -> Result<bool> {
    let query = format!("SELECT COUNT(*) FROM mysql.user WHERE User={} AND Host='%'", literal(name));
    Ok(value(connection, &query).await? != "0")
}

async fn grant(connection: &mut Connection, account: &str, user: &User) -> Result<()> {
    let privileges = match user.access {
        Access::Full => "ALL PRIVILEGES",
        // Not EXECUTE: a stored program may change data with the rights of another.
        Access::ReadOnly => "SELECT, SHOW VIEW",
    };
    // In a GRANT the name of the schema is a pattern.
    let pattern = identifier(&user.schema.replace('_', "\\_"));
    run(connection, &format!("GRANT {privileges} ON {pattern}.* TO {account}")).await
}
