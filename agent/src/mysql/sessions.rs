//! The server's sessions: which there are, which of them stand in the way of a server that turns read-only, cutting them;
//! and the accounts whose sessions could write on all the same.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Executor};

use super::statements::{code, literal, rows, run, text, value};
use super::{ADMIN, Connection, Database, Family, IS_FRESH, OPERATOR, REPLICATION, STATEMENT_LIMIT, within};

const NO_SUCH_THREAD: u16 = 1094;
/// The server's own threads, which begin no transaction of their own.
const SERVER_THREADS: [&str; 2] = ["system user", "event_scheduler"];
/// Whoever has one of these writes although the server is read-only, or makes it writable. (MySQL's `super_read_only` stops
/// the writing, and not the switching.)
const PRIVILEGES: &str = "'SUPER', 'READ_ONLY ADMIN', 'CONNECTION_ADMIN', 'SYSTEM_VARIABLES_ADMIN'";

/// MariaDB's and MySQL's word.
const SPACE_STATES: [&str; 2] = ["Waiting for someone to free space", "Waiting for disk space"];

/// How often sessions that were cut are looked for.
const LOOKS: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A session, without its statement, which may hold a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) user: String,
    pub(crate) host: String,
    /// `Sleep` for one that does nothing, although it may hold a lock.
    pub(crate) command: String,
    pub(crate) state: String,
    pub(crate) seconds: String,
}

/// A server that is not to be cut, but killed. A session that is cut while it waits for space leaves half an event in the binary
/// log: MariaDB writes on behind that, its follower reads no further, and commits behind it do not survive a crash. The start of a
/// server that was killed mends its binary log.
#[derive(Debug, thiserror::Error)]
#[error("{0} waits for space on the disk, which is full")]
pub(crate) struct DiskFull(Session);

/// Which sessions are cut, each kind with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Those of applications and operators that are in the middle of a statement.
    Active,
    /// All of applications and operators.
    Applications,
    /// Also the agent's own.
    Everybody,
}

impl Cut {
    /// A follower's sessions are never cut: what is received by it is all that a demotion wants.
    pub(crate) fn meets(self, session: &Session) -> bool {
        let user = session.user.as_str();
        if SERVER_THREADS.contains(&user) || user == REPLICATION {
            return false;
        }
        match self {
            Cut::Active => user != ADMIN && session.command != "Sleep",
            Cut::Applications => user != ADMIN,
            Cut::Everybody => true,
        }
    }
}

impl Session {
    /// It does so for all commits of its group.
    fn waits_for_receipt(&self) -> bool {
        self.state.starts_with("Waiting for semi-sync ACK")
    }

    fn commits(&self) -> bool {
        self.waits_for_receipt() || self.state == "Commit"
    }

    /// In the middle of a write to a disk that is full.
    fn waits_for_space(&self) -> bool {
        SPACE_STATES.contains(&self.state.as_str())
    }
}

impl std::fmt::Display for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Session { id, user, host, command, state, seconds } = self;
        write!(f, "session {id} of {user} from {host} ({command} for {seconds} s")?;
        if !state.is_empty() {
            write!(f, ", {state}")?;
        }
        f.write_str(")")
    }
}

impl Database {
    /// Cut sessions, but not the one with the id `spared`; says which. None where the error is [`DiskFull`].
    pub(crate) async fn cut(&self, cut: Cut, spared: u64) -> Result<Vec<Session>> {
        within(STATEMENT_LIMIT, "cut sessions", async {
            let connection = &mut *self.connection().await?;
            let own = value(connection, "SELECT CONNECTION_ID()").await?.parse()?;
            let mut met = sessions(connection).await?;
            met.retain(|session| ![own, spared].contains(&session.id) && cut.meets(session));
            if let Some(session) = met.iter().find(|session| session.waits_for_space()) {
                return Err(DiskFull(session.clone()).into());
            }
            // MariaDB acknowledges a whole group of commits when the session ends that waits for all of them.
            met.sort_by_key(Session::waits_for_receipt);
            for session in &met {
                kill(connection, session.id).await?;
            }
            if cut == Cut::Everybody {
                tokio::time::sleep(IS_FRESH).await;
            }
            Ok(met)
        })
        .await
    }

    /// Cut the sessions that an earlier agent has left. Those that commit end with their commit: on MariaDB the end of one that
    /// waits for the follower would have applications' commits acknowledged that wait with it. Of the others that do not end at
    /// once none begins anything new.
    pub(crate) async fn cut_predecessors(&self) -> Result<()> {
        within(STATEMENT_LIMIT, "cut the sessions of an earlier agent", async {
            let connection = &mut *self.connection().await?;
            let own: u64 = value(connection, "SELECT CONNECTION_ID()").await?.parse()?;
            for _ in 0..LOOKS {
                let mut left = sessions(connection).await?;
                left.retain(|session| {
                    session.user == ADMIN && session.id != own && !session.commits() && !session.waits_for_space()
                });
                if left.is_empty() {
                    return Ok(());
                }
                for session in left {
                    kill(connection, session.id).await?;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            tracing::warn!("sessions of an earlier agent were cut and have not ended yet");
            Ok(())
        })
        .await
    }

    /// Cut the sessions that a read-only server does not stop from writing, an operator's and those of `accounts`; says which.
    /// MySQL's stops all.
    pub(crate) async fn cut_writers(&self, accounts: &[String]) -> Result<Vec<Session>> {
        // Before a session is taken: this is outage.
        if self.family.get() == Some(&Family::MySql) {
            return Ok(Vec::new());
        }
        within(STATEMENT_LIMIT, "cut the sessions that can write on a read-only server", async {
            let mut connection = self.connection().await?;
            let mut users = vec![literal(OPERATOR)];
            users.extend(accounts.iter().map(|account| literal(user_of(account))));
            let mut cut = 0;
            for user in &users {
                cut += kill_user(&mut connection, user).await?;
            }
            // Mostly there are none, and looking for them takes longer than cutting them.
            if cut == 0 {
                return Ok(Vec::new());
            }
            let met = named_sessions(&mut connection, &users.join(", ")).await?;
            // One of them may have come back since.
            for session in &met {
                kill(&mut connection, session.id).await?;
            }
            Ok(met)
        })
        .await
    }

    /// Wait until sessions that were cut are gone; they may have something to roll back.
    pub(crate) async fn until_gone(&self, cut: &[Session]) -> Result<()> {
        within(STATEMENT_LIMIT / 2, "wait for the end of sessions that were cut", async {
            let is_left = |session: &Session| cut.iter().any(|gone| gone.id == session.id);
            while !cut.is_empty() && sessions(&mut *self.connection().await?).await?.iter().any(is_left) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        })
        .await
    }

    /// Let commits go that wait for the follower although their sessions were cut. On MariaDB the cut has done it.
    pub(crate) async fn release_commits(&self) -> Result<()> {
        match self.session().await?.0 {
            Family::MariaDb => Ok(()),
            Family::MySql => self.disable_semi_sync_source().await,
        }
    }

    /// The accounts, but for our own, whose sessions a read-only server does not stop, or that can make it writable.
    pub(crate) async fn writers_through_read_only(&self) -> Result<Vec<String>> {
        within(STATEMENT_LIMIT, "ask who may write on a read-only server", async {
            let query = format!(
                "SELECT DISTINCT GRANTEE AS grantee FROM information_schema.USER_PRIVILEGES \
                 WHERE PRIVILEGE_TYPE IN ({PRIVILEGES})"
            );
            let grantees = rows(&mut *self.connection().await?, &query).await?;
            Ok(foreign(grantees.iter().map(|row| text(row, "grantee")).collect::<Result<_>>()?))
        })
        .await
    }

    pub(crate) async fn writes_through_read_only(&self, user: &str) -> Result<bool> {
        Ok(self.writers_through_read_only().await?.iter().any(|account| user_of(account) == user))
    }
}

pub(super) async fn sessions(connection: &mut Connection) -> Result<Vec<Session>> {
    read(&rows(connection, "SHOW PROCESSLIST").await?)
}

/// Of thousands of sessions the few of these users; only MariaDB.
async fn named_sessions(connection: &mut Connection, users: &str) -> Result<Vec<Session>> {
    let query = format!(
        "SELECT ID AS Id, USER AS User, HOST AS Host, COMMAND AS Command, STATE AS State, TIME AS Time \
         FROM information_schema.PROCESSLIST WHERE USER IN ({users})"
    );
    read(&rows(connection, &query).await?)
}

fn read(rows: &[MySqlRow]) -> Result<Vec<Session>> {
    let session = |row| {
        let column = |name| text(row, name);
        let id = column("Id")?.parse().context("read the id of a session")?;
        let (user, host, command) = (column("User")?, column("Host")?, column("Command")?);
        Ok(Session { id, user, host, command, state: column("State")?, seconds: column("Time")? })
    };
    rows.iter().map(session).collect()
}

pub(super) async fn kill(connection: &mut Connection, id: u64) -> Result<()> {
    match run(connection, &format!("KILL CONNECTION {id}")).await {
        // It ended by itself in between.
        Err(error) if code(&error) == Some(NO_SUCH_THREAD) => Ok(()),
        done => done,
    }
}

/// Cut all sessions of this user, given as a literal, wherever they come from; says how many. Only MariaDB.
async fn kill_user(connection: &mut Connection, user: &str) -> Result<u64> {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("KILL CONNECTION USER {user}@'%'")))).await;
    Ok(done.with_context(|| format!("cut the sessions of {user}"))?.rows_affected())
}

/// The user of an account `'user'@'host'`, in which the server quotes nothing else.
fn user_of(account: &str) -> &str {
    let user = account.rsplit_once("'@'").map_or(account, |(user, _)| user);
    user.strip_prefix('\'').unwrap_or(user)
}

/// Of the accounts `'user'@'host'` those that are neither ours nor the server's own, which nobody can log in to.
fn foreign(grantees: Vec<String>) -> Vec<String> {
    let ours = [ADMIN, OPERATOR].map(|user| format!("'{user}'@'localhost'"));
    let mut foreign = grantees;
    foreign.retain(|grantee| !ours.contains(grantee) && !grantee.starts_with("'mysql."));
    foreign.sort();
    foreign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_meets_more_sessions_and_none_meets_a_follower() {
        for (user, command, active, applications, everybody) in [
            ("binding", "Query", true, true, true),
            ("binding", "Sleep", false, true, true),
            ("binding", "Killed", true, true, true),
            ("admin", "Query", true, true, true),
            ("admin", "Sleep", false, true, true),
            ("unauthenticated user", "Connect", true, true, true),
            ("mysql-agent", "Query", false, false, true),
            ("replication", "Binlog Dump", false, false, false),
            ("replication", "Binlog Dump GTID", false, false, false),
            ("system user", "Slave_SQL", false, false, false),
            ("event_scheduler", "Daemon", false, false, false),
        ] {
            let session = Session { user: user.into(), command: command.into(), ..Session::default() };
            let met = [Cut::Active, Cut::Applications, Cut::Everybody].map(|cut| cut.meets(&session));
            assert_eq!(met, [active, applications, everybody], "{session}");
        }
    }

    #[test]
    fn an_account_that_writes_on_is_told_from_our_own() {
        let grantees = ["'root'@'%'", "'admin'@'localhost'", "'admin'@'%'", "'mysql.session'@'localhost'"];

        assert_eq!(foreign(grantees.map(String::from).to_vec()), ["'admin'@'%'", "'root'@'%'"]);
        assert_eq!(["'root'@'%'", "'o'x@'@'10.%'", "'role'"].map(user_of), ["root", "o'x@", "role'"]);
    }
}
