//! Owns the server's process. One loop starts it, adopts one that runs already, starts it again after a crash (each time a
//! little later), and stops it when it is told to; nobody else touches the process.
//!
//! ```text
//!            wish Run                    answers on its socket
//!   resting ----------> starting ---------------------------> up
//!      ^                   |  ^                                |
//!      |   wish Rest, End  |  | pause          process ended   |
//!      +-------------------+  +--------------------------------+
//! ```

mod data;
mod files;
mod guard;
mod process;
mod program;
mod settings;
mod socket;
mod template;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::instance::Instance;
use crate::mysql::{Database, Family};
use crate::report::sentence;
pub(crate) use data::{make_incoming, replaced};
pub(crate) use files::{
    Files, make_private_directory, remove_file_if_there, remove_if_there, write_durably, write_private,
};
use guard::Guard;
use process::{Process, Start};
use program::Program;

/// A server that repairs itself after a crash may take this long before it answers.
const START_LIMIT: Duration = Duration::from_secs(600);
/// A clean stop writes what is dirty in memory; after this the server is killed and repairs itself at the next start.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that stayed up for this long gets the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// What the loop is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Rest,
    End,
}

/// What the loop says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not answering, and why.
    Down(String),
    /// Answering; the number grows with every start.
    Up(u64),
}

/// The handle to the loop.
pub(crate) struct Mysqld {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<State>,
    my_cnf: PathBuf,
    guard: Guard,
}

/// The loop.
pub(crate) struct Supervisor {
    files: Files,
    database: Database,
    /// The family that was asked for.
    server: Option<Family>,
    admin_password: agent::config::Secret,
    replication_password: Option<agent::config::Secret>,
    guard: Guard,
    wish: watch::Receiver<Wish>,
    state: watch::Sender<State>,
    /// Writes a new data directory to the disk.
    syncing: Option<tokio::task::JoinHandle<()>>,
}

impl Mysqld {
    pub(crate) fn new(instance: &Instance, files: Files, database: Database) -> (Mysqld, Supervisor) {
        let (wish, wishes) = watch::channel(Wish::Run);
        let (states, state) = watch::channel(State::Down(UNKNOWN.into()));
        let guard = Guard::new(&files.socket.for_agent, instance.pair.is_some());
        let handle = Mysqld { wish, state, my_cnf: files.my_cnf(), guard: guard.clone() };
        let supervisor = Supervisor {
            files,
            database,
            server: instance.server,
            admin_password: instance.admin_password.clone(),
            replication_password: instance.pair.as_ref().map(|pair| pair.replication_password.clone()),
            guard,
            wish: wishes,
            state: states,
            syncing: None,
        };
        (handle, supervisor)
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// No server runs, or one that has only just been started and so is read-only.
    pub(crate) fn is_not_running(&self) -> bool {
        matches!(self.state(), State::Down(why) if why != UNKNOWN)
    }

    /// Follow the state as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Stop the server; it starts again when the guard is dropped.
    pub(crate) async fn rest(&self) -> Resting<'_> {
        let guard = Resting(self);
        self.wish.send_replace(Wish::Rest);
        self.until_down().await;
        guard
    }

    /// Wait until the server answers.
    pub(crate) async fn until_up(&self, limit: Duration) -> Result<()> {
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(_)));
        match tokio::time::timeout(limit, up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => bail!("the agent is ending"),
            Err(_) => bail!("the server did not start within {} s: {:?}", limit.as_secs(), self.state()),
        }
    }

    /// Wait until the server has ended; says why.
    pub(crate) async fn until_ended(&self) -> String {
        let mut state = self.state.clone();
        // An error is a loop that has ended, and its server before it.
        match state.wait_for(|state| matches!(state, State::Down(_))).await.as_deref() {
            Ok(State::Down(why)) => why.clone(),
            Ok(State::Up(_)) | Err(_) => RESTING.into(),
        }
    }

    /// Stop the server for good: the VM is going down.
    pub(crate) async fn end(&self) {
        self.wish.send_replace(Wish::End);
        self.until_down().await;
    }

    async fn until_down(&self) {
        // The stop has a limit and the preparation of a start ends at once, so this has one.
        let _ = self.state.clone().wait_for(|state| matches!(state, State::Down(why) if why == RESTING)).await;
    }
}

/// Before it is known whether a server runs that an earlier agent has left.
const UNKNOWN: &str = "the server has not started yet";
const RESTING: &str = "the server is stopped";
const STARTING: &str = "the server is starting";

/// Keeps the server stopped.
pub(crate) struct Resting<'a>(&'a Mysqld);

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.wish.send_if_modified(|wish| {
            let was_resting = *wish == Wish::Rest;
            if was_resting {
                *wish = Wish::Run;
            }
            was_resting
        });
    }
}

impl Supervisor {
    /// Keep the server as it is wished, until the wish is [`Wish::End`].
    pub(crate) async fn supervise(mut self) {
        self.remove_leftovers().await;
        let mut pause = FIRST_PAUSE;
        let mut starts = 0;
        loop {
            let wish = *self.wish.borrow_and_update();
            if wish != Wish::Run {
                self.state.send_replace(State::Down(RESTING.into()));
                if wish == Wish::End || self.wish.changed().await.is_err() {
                    break;
                }
                continue;
            }
            self.is_starting(RESTING);
            let begun = Instant::now();
            let why = match self.start().await {
                Ok(Some(process)) => {
                    starts += 1;
                    self.state.send_replace(State::Up(starts));
                    self.run(process).await
                }
                Ok(None) => continue,
                Err(error) => sentence(&error),
            };
            let is_wished = *self.wish.borrow() == Wish::Run;
            if is_wished {
                pause = if begun.elapsed() > STEADY { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                tracing::error!(pause_ms = pause.as_millis(), "{why}");
                self.state.send_replace(State::Down(why));
                let _ = tokio::time::timeout(pause, self.wish.changed()).await;
            }
        }
        if let Some(syncing) = self.syncing {
            let _ = syncing.await;
        }
    }

    async fn remove_leftovers(&self) {
        let files = self.files.clone();
        let removed = tokio::task::spawn_blocking(move || data::remove_leftovers(&files)).await;
        if let Err(error) = removed.context("remove what was left").flatten() {
            tracing::error!("what a killed agent has left is still there: {}", sentence(&error));
        }
    }

    /// What was said before is true no more: who waits until the server rests must not see that it rested before. After a crash
    /// the reason stays to be read.
    fn is_starting(&self, before: &str) {
        self.state.send_if_modified(|state| {
            let was_so = matches!(state, State::Down(why) if why == before);
            if was_so {
                *state = State::Down(STARTING.into());
            }
            was_so
        });
    }

    /// Wait until the server ends or must end; says why it is down.
    async fn run(&mut self, mut process: Process) -> String {
        let log = self.files.log.join("mysqld.log");
        tokio::select! {
            () = process.ended() => format!("the server ended unasked; {} says why; it is started again", log.display()),
            () = unwished(&mut self.wish) => {
                process.stop(STOP_LIMIT).await;
                RESTING.into()
            }
        }
    }

    /// Start or adopt the server and wait until it answers; none when it was wished away in between.
    async fn start(&mut self) -> Result<Option<Process>> {
        let mut process = match Process::adopt(&self.files.my_cnf(), self.guard.is_used()).await? {
            Some(process) => process,
            None => {
                self.is_starting(UNKNOWN);
                match self.spawn().await? {
                    Some(process) => process,
                    None => return Ok(None),
                }
            }
        };
        let answers = answers(&self.database);
        tokio::select! {
            () = process.ended() => {
                bail!("the server ended while it started; {} says why", self.files.log.join("mysqld.log").display())
            }
            answer = tokio::time::timeout(START_LIMIT, answers) => match answer {
                Ok(()) => {}
                Err(_) => {
                    process.stop(Duration::ZERO).await;
                    bail!("the server did not answer within {} s and was killed", START_LIMIT.as_secs())
                }
            },
            () = unwished(&mut self.wish) => {
                process.stop(STOP_LIMIT).await;
                return Ok(None);
            }
        }
        // Both hold what must not be done twice or read by others.
        for file in [self.files.init_file(), self.files.copied()] {
            remove_file_if_there(&file)?;
        }
        Ok(Some(process))
    }

    /// None when it was wished away while it was prepared.
    async fn spawn(&mut self) -> Result<Option<Process>> {
        let prepared = async {
            let program = Program::find(&self.files.packages, self.server).await?;
            let template = data::prepare(&self.files, &program).await?;
            anyhow::Ok((program, template))
        };
        let (program, template) = tokio::select! {
            prepared = prepared => prepared?,
            () = unwished(&mut self.wish) => return Ok(None),
        };
        if let Some(template) = template {
            self.syncing = Some(data::make(&self.files, template).await?);
        }
        let history = match std::fs::read_to_string(self.files.copied()) {
            Ok(text) => Some(text.parse().with_context(|| format!("read {}", self.files.copied().display()))?),
            Err(_) => None,
        };
        let replication_password = self.replication_password.as_ref();
        let init = program.family.init_file(&self.admin_password, replication_password, history.as_ref());
        write_private(&self.files.init_file(), &init)?;
        write_private(&self.files.my_cnf(), &settings::my_cnf(&self.files.vm, program.family))?;
        tracing::info!(program = %program.path.display(), version = program.version, data = %self.files.data.display(), "start the server");
        let start = Start {
            program: &program.path,
            my_cnf: &self.files.my_cnf(),
            log: &self.files.log.join("mysqld.log"),
            guard_socket: self.guard.listen()?,
        };
        Process::start(start).await.map(Some)
    }
}

async fn unwished(wish: &mut watch::Receiver<Wish>) {
    // An error is an agent without a handle, which wishes nothing any more.
    drop(wish.wait_for(|wish| *wish != Wish::Run).await);
}

/// An earlier agent may have left statements in the server, as one that makes it writable; they end before anything is said
/// about the server.
async fn answers(database: &Database) {
    while database.cut_predecessors().await.is_err() {
        tokio::time::sleep(POLL).await;
    }
}
