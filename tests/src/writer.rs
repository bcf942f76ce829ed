//! A client that never stops: it commits numbered rows one after the other, connects anew after every error, and
//! remembers what the server promised. A number is used once; when the answer to it is lost, nobody knows whether it
//! was committed, and it is remembered as such.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::mysql::Credentials;
use crate::wait::until;

/// The servers' numbers for "this server is read-only": certainly not committed.
const READ_ONLY_ERRORS: [u16; 2] = [1290, 1836];
/// The servers' numbers for a session that was ended: by `KILL`, by a server that shuts down, while a statement ran.
const CUT_ERRORS: [u16; 5] = [1053, 1317, 1927, 3169, 4031];
/// Time to get a connection: the stable address may hold one for 30 s while nobody leads.
const CONNECT_LIMIT: Duration = Duration::from_secs(40);
/// Time for a commit.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The numbers whose commit was acknowledged, and when.
    pub acknowledged: Vec<(u64, Instant)>,
    /// The numbers whose answer was lost.
    pub unknown: BTreeSet<u64>,
    /// How many writes the server refused because it was read-only.
    pub refused: u64,
    /// What other errors than a refusal and a lost connection were answered, and how often.
    pub errors: BTreeMap<String, u64>,
    /// How many connections were made.
    pub connections: u64,
}

impl Record {
    /// The acknowledged numbers.
    #[must_use]
    pub fn promised(&self) -> BTreeSet<u64> {
        self.acknowledged.iter().map(|(number, _)| *number).collect()
    }

    /// The longest time without an acknowledgement since `from`.
    #[must_use]
    pub fn longest_gap_since(&self, from: Instant) -> Duration {
        let times: Vec<Instant> = self.acknowledged.iter().map(|(_, at)| *at).collect();
        let first = times.partition_point(|at| *at < from).saturating_sub(1);
        times[first..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// The running client.
#[derive(Debug)]
pub struct Writer {
    record: Arc<Mutex<Record>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Make the table and begin, through the address in the credentials.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn start(credentials: &Credentials, pause: Duration) -> Result<Writer> {
        Writer::start_at(std::slice::from_ref(credentials), pause).await
    }

    /// The same with several addresses. A connection to each is held, as a pool does; after an error the next one is tried.
    ///
    /// # Errors
    /// The table cannot be made on the first one.
    pub async fn start_at(targets: &[Credentials], pause: Duration) -> Result<Writer> {
        let mut connection = targets.first().context("a writer needs an address")?.connect().await?;
        // The time is given by the server, so that equal tables were replicated and not written twice.
        let table = "CREATE TABLE IF NOT EXISTS numbered_rows \
            (n BIGINT UNSIGNED PRIMARY KEY, written_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))";
        crate::mysql::execute(&mut connection, table).await?;
        let (stop, stopped) = watch::channel(false);
        let record = Arc::new(Mutex::new(Record::default()));
        let client = Client {
            targets: targets.to_vec(),
            open: targets.iter().map(|_| None).collect(),
            connecting: JoinSet::new(),
            pause,
            record: record.clone(),
            next: 1,
        };
        Ok(Writer { record, stop, task: tokio::spawn(client.run(connection, stopped)) })
    }

    /// What happened so far.
    #[must_use]
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// How many rows are acknowledged so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.record).acknowledged.len()
    }

    /// Wait until `more` rows are acknowledged from now on.
    ///
    /// # Errors
    /// That does not happen in time.
    pub async fn goes_on(&self, more: usize, limit: Duration) -> Result<()> {
        let goal = self.count() + more;
        until("the writer goes on", limit, || self.count() >= goal).await
    }

    /// Stop after the current row and return what happened.
    ///
    /// # Errors
    /// The client fell over.
    pub async fn finish(self) -> Result<Record> {
        self.stop.send_replace(true);
        self.task.await.context("wait for the writer")?;
        Ok(lock(&self.record).clone())
    }
}

struct Client {
    targets: Vec<Credentials>,
    /// The connection to each target; none while it is being made.
    open: Vec<Option<MySqlConnection>>,
    connecting: JoinSet<(usize, Option<MySqlConnection>)>,
    pause: Duration,
    record: Arc<Mutex<Record>>,
    next: u64,
}

/// What became of one row.
enum Outcome {
    Acknowledged,
    Refused,
    Cut,
    Failed(String),
}

impl Client {
    async fn run(mut self, connection: MySqlConnection, mut stopped: watch::Receiver<bool>) {
        self.open[0] = Some(connection);
        (1..self.targets.len()).for_each(|target| self.connect(target));
        let mut target = 0;
        while !*stopped.borrow() {
            match self.open[target].take() {
                Some(connection) => {
                    if !self.write(target, connection).await {
                        target = self.after(target);
                    }
                }
                None => tokio::select! {
                    made = self.connecting.join_next() => target = self.take(made.and_then(Result::ok)).unwrap_or(target),
                    _ = stopped.changed() => {}
                },
            }
            if let Some(made) = self.connecting.try_join_next() {
                self.take(made.ok());
            }
            tokio::time::sleep(self.pause).await;
        }
        for connection in self.open.into_iter().flatten() {
            let _ = connection.close().await;
        }
    }

    /// The next target with a connection.
    fn after(&self, target: usize) -> usize {
        let mut others = (1..=self.targets.len()).map(|step| (target + step) % self.targets.len());
        others.find(|other| self.open[*other].is_some()).unwrap_or(target)
    }

    fn connect(&mut self, target: usize) {
        let options = self.targets[target].options();
        self.connecting.spawn(async move {
            let made = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
            (target, made.ok().and_then(Result::ok))
        });
    }

    /// A connection was made, or that failed and is tried again.
    fn take(&mut self, made: Option<(usize, Option<MySqlConnection>)>) -> Option<usize> {
        let (target, connection) = made?;
        match connection {
            Some(connection) => {
                lock(&self.record).connections += 1;
                self.open[target] = Some(connection);
                Some(target)
            }
            None => {
                self.connect(target);
                None
            }
        }
    }

    /// Commit the next row. A server that is read-only keeps its connection where it is known by its own address: it may be
    /// the next leader. Behind the stable address there may be another server by now.
    async fn write(&mut self, target: usize, mut connection: MySqlConnection) -> bool {
        let number = self.next;
        self.next += 1;
        let insert = sqlx::query("INSERT INTO numbered_rows (n) VALUES (?)").bind(number).execute(&mut connection);
        let outcome = match tokio::time::timeout(COMMIT_LIMIT, insert).await {
            Ok(Ok(_)) => Outcome::Acknowledged,
            Ok(Err(cause)) => outcome_of(&cause),
            Err(_) => Outcome::Cut,
        };
        let mut record = lock(&self.record);
        let is_kept = match outcome {
            Outcome::Acknowledged => {
                record.acknowledged.push((number, Instant::now()));
                self.open[target] = Some(connection);
                return true;
            }
            Outcome::Refused => {
                record.refused += 1;
                self.targets.len() > 1
            }
            Outcome::Cut => {
                record.unknown.insert(number);
                false
            }
            Outcome::Failed(error) => {
                record.unknown.insert(number);
                *record.errors.entry(error).or_default() += 1;
                false
            }
        };
        drop(record);
        if is_kept {
            self.open[target] = Some(connection);
        } else {
            self.connect(target);
        }
        false
    }
}

fn outcome_of(cause: &sqlx::Error) -> Outcome {
    let database = cause.as_database_error();
    let number = database.and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>()).map(|error| error.number());
    match (number, cause) {
        (Some(number), _) if READ_ONLY_ERRORS.contains(&number) => Outcome::Refused,
        (Some(number), _) if CUT_ERRORS.contains(&number) => Outcome::Cut,
        (None, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => Outcome::Cut,
        (Some(_) | None, _) => Outcome::Failed(cause.to_string()),
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_that_began_before_the_switch_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let record =
            Record { acknowledged: vec![(1, at(0)), (2, at(10)), (3, at(70)), (4, at(75))], ..Record::default() };

        assert_eq!(record.longest_gap_since(at(20)), Duration::from_millis(60));
        assert_eq!(record.longest_gap_since(at(72)), Duration::from_millis(5));
    }
}
