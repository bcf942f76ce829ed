//! Clients that make a [`History`]: for each of the two servers one that commits row by row and one that commits two rows
//! at a time, pinned to it whoever leads; one that goes where writes are taken; some that use the pair's stable address,
//! where it has one; and for each server a look at whether it is writable, a few hundred times a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::history::{Attempt, History, Outcome, Row, Sample, Side};
use crate::mysql::{self, Credentials};

pub mod holdings;
mod writing;

use writing::{Answer, Statement};

/// The clients' table.
pub const TABLE: &str = "chaos_rows";

/// Two for each server, and one that goes where writes are taken.
const PINNED_AND_ROAMING: u32 = 5;
/// At the stable address.
const STABLE_CLIENTS: usize = 3;
/// A client goes on with the next row after this long; a refused one asks again a little later.
const PAUSE: Duration = Duration::from_millis(3);
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(8);
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(3);
/// A server that is frozen or cut off does not answer at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A server family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
}

impl Family {
    /// Its name in plans and properties.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Mariadb => "mariadb",
            Family::Mysql => "mysql",
        }
    }

    /// Every transaction that a server executed, in a spelling that is equal on equal servers: on MariaDB, the last
    /// transaction of the pair's one sequence.
    fn executed(self) -> &'static str {
        match self {
            Family::Mariadb => "@@GLOBAL.gtid_current_pos",
            Family::Mysql => "@@GLOBAL.gtid_executed",
        }
    }
}

/// How the clients write.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The servers' family.
    pub family: Family,
    /// The SQL expression by which a server says its term; `NULL` where it has none.
    pub term: &'static str,
}

/// The running clients.
#[derive(Debug)]
pub struct Clients {
    recorder: Recorder,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Where the clients write down what they saw.
#[derive(Clone, Debug)]
struct Recorder {
    origin: Instant,
    history: Arc<Mutex<History>>,
}

impl Recorder {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn add(&self, attempt: Attempt) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).attempts.push(attempt);
    }

    fn add_sample(&self, sample: Sample) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).samples.push(sample);
    }
}

/// Make the clients' table anew on the server that leads.
///
/// # Errors
/// The server refuses it.
pub async fn make_table(leader: &Credentials) -> Result<()> {
    let mut connection = leader.connect().await?;
    // The term is a column, so that equal checksums mean rows that were replicated and not written twice.
    let table = format!(
        "DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} \
         (client INT UNSIGNED, n BIGINT UNSIGNED, term BIGINT UNSIGNED, PRIMARY KEY (client, n)) ENGINE=InnoDB"
    );
    mysql::execute(&mut connection, &table).await.map(drop)
}

impl Clients {
    /// Begin. The credentials are a user's, at each server's own address, `[A, B]`, and at the stable one.
    #[must_use]
    pub fn start(way: Way, servers: &[Credentials; 2], stable: Option<&Credentials>) -> Clients {
        let (stop, stopped) = watch::channel(false);
        let recorder = Recorder { origin: Instant::now(), history: Arc::default() };
        let mut tasks = Vec::new();
        let [a, b] = Side::BOTH.map(|side| Address::Own(side, servers[side.index()].options()));
        let mut routes = vec![vec![a.clone()], vec![a.clone()], vec![b.clone()], vec![b.clone()], vec![a, b]];
        let stable = stable.map(|credentials| vec![Address::Stable(credentials.options())]);
        routes.extend(std::iter::repeat_n(stable, STABLE_CLIENTS).flatten());
        for (route, id) in routes.into_iter().zip(1_u32..) {
            let statement = if id % 2 == 0 { Statement::TwoRows } else { Statement::OneRow };
            let writer = Writer { id, way, statement, route, recorder: recorder.clone(), next: 1 };
            tasks.push(tokio::spawn(writer.run(stopped.clone())));
        }
        for side in Side::BOTH {
            let looks = look(side, servers[side.index()].options(), recorder.clone(), stopped.clone());
            tasks.push(tokio::spawn(looks));
        }
        Clients { recorder, stop, tasks }
    }

    /// The time now on the history's clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.recorder.now()
    }

    /// What happened so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.recorder.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many attempts that began after `moment` were acknowledged by `server`.
    #[must_use]
    pub fn acknowledged_by(&self, server: Side, moment: Duration) -> usize {
        let history = self.recorder.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.acknowledged().filter(|attempt| attempt.server == server && attempt.began >= moment).count()
    }

    /// How many attempts that began after `moment` were acknowledged at the stable address.
    #[must_use]
    pub fn acknowledged_at_the_stable_address(&self, moment: Duration) -> usize {
        let history = self.recorder.history.lock().unwrap_or_else(PoisonError::into_inner);
        let through = |attempt: &Attempt| attempt.rows.iter().any(|row| row.client > PINNED_AND_ROAMING);
        history.acknowledged().filter(|attempt| attempt.began >= moment && through(attempt)).count()
    }

    /// Stop after the attempts that are under way, and return everything.
    ///
    /// # Errors
    /// A client fell over.
    pub async fn finish(self) -> Result<History> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.context("wait for a client")?;
        }
        Ok(std::mem::take(&mut *self.recorder.history.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Where a client connects to.
#[derive(Clone)]
enum Address {
    /// A server's own.
    Own(Side, MySqlConnectOptions),
    /// The pair's: the session is with whoever leads when it begins.
    Stable(MySqlConnectOptions),
}

impl Address {
    async fn connect(&self) -> Option<(Side, MySqlConnection)> {
        match self {
            Address::Own(side, options) => Some((*side, connect(options).await?)),
            Address::Stable(options) => {
                let mut connection = connect(options).await?;
                let asked = mysql::text(&mut connection, "SELECT CAST(@@GLOBAL.server_id AS CHAR)");
                match tokio::time::timeout(ANSWER_LIMIT, asked).await.ok()?.ok()?.as_str() {
                    "1" => Some((Side::A, connection)),
                    "2" => Some((Side::B, connection)),
                    _ => None,
                }
            }
        }
    }
}

/// One client that writes.
struct Writer {
    id: u32,
    way: Way,
    statement: Statement,
    /// The next one after each failure.
    route: Vec<Address>,
    recorder: Recorder,
    next: u64,
}

impl Writer {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut session = None;
        let mut turn = 0;
        let is_pinned = matches!(*self.route, [Address::Own(..)]);
        while !*stopped.borrow() {
            let address = self.route[turn % self.route.len()].clone();
            session = match session.take() {
                Some(session) => Some(session),
                None => tokio::select! {
                    session = address.connect() => session,
                    _ = stopped.changed() => None,
                },
            };
            let Some((side, connection)) = &mut session else {
                turn += 1;
                tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
                continue;
            };
            let outcome = self.write(connection, *side).await;
            let is_refused = outcome == Outcome::Refused;
            if outcome == Outcome::Unknown || is_refused {
                turn += 1;
            }
            // A session of a pool stays open on a server that refuses; who looks for the leader has to leave it.
            if outcome == Outcome::Unknown || (is_refused && !is_pinned) {
                session = None;
            }
            tokio::time::sleep(if is_refused { PAUSE_AFTER_REFUSAL } else { PAUSE }).await;
        }
        if let Some((_, session)) = session {
            let _ = tokio::time::timeout(CONNECT_LIMIT, session.close()).await;
        }
    }

    /// One attempt, recorded.
    async fn write(&mut self, connection: &mut MySqlConnection, server: Side) -> Outcome {
        let count = self.statement.rows();
        let rows: Vec<Row> = (self.next..self.next + count).map(|number| Row { client: self.id, number }).collect();
        self.next += count;
        let began = self.recorder.now();
        let writing = self.statement.write(&self.way, connection, &rows);
        let outcome = match tokio::time::timeout(ANSWER_LIMIT, writing).await {
            Ok(Answer::Committed(seen)) => Outcome::Acknowledged(seen),
            Ok(Answer::NotCommitted) => Outcome::Refused,
            Ok(Answer::Lost) | Err(_) => Outcome::Unknown,
        };
        let ended = self.recorder.now();
        self.recorder.add(Attempt { server, rows, began, ended, outcome });
        outcome
    }
}

/// The isolation level lets a statement read the term without a lock on the row that holds it.
async fn connect(options: &MySqlConnectOptions) -> Option<MySqlConnection> {
    let connecting = async {
        let mut connection = options.connect().await?;
        connection.execute(sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    tokio::time::timeout(CONNECT_LIMIT, connecting).await.ok()?.ok()
}

/// Look at one server again and again.
async fn look(server: Side, options: MySqlConnectOptions, recorder: Recorder, stopped: watch::Receiver<bool>) {
    let mut session: Option<MySqlConnection> = None;
    while !*stopped.borrow() {
        let Some(connection) = &mut session else {
            session = connect(&options).await;
            tokio::time::sleep(PAUSE_BETWEEN_LOOKS).await;
            continue;
        };
        let began = recorder.now();
        let asked = mysql::text(connection, "SELECT IF(@@GLOBAL.read_only, 'no', 'yes')");
        match tokio::time::timeout(ANSWER_LIMIT, asked).await {
            Ok(Ok(answer)) => {
                recorder.add_sample(Sample { server, began, ended: recorder.now(), writable: answer == "yes" });
            }
            Ok(Err(_)) | Err(_) => session = None,
        }
        tokio::time::sleep(PAUSE_BETWEEN_LOOKS).await;
    }
}
