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

mod files;
mod process;
mod program;
mod settings;
mod socket;
mod template;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::instance::Instance;
use crate::mysql::{self, Database};
use crate::report::sentence;
use files::is_root;
pub(crate) use files::{Files, make_private_directory, remove_file_if_there, remove_if_there, write_private};
use process::Process;
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
}

/// The loop.
pub(crate) struct Supervisor {
    files: Files,
    database: Database,
    admin_password: crate::instance::Secret,
    replication_password: Option<crate::instance::Secret>,
    wish: watch::Receiver<Wish>,
    state: watch::Sender<State>,
    /// Writes a new data directory to the disk.
    syncing: Option<tokio::task::JoinHandle<()>>,
}

impl Mysqld {
    pub(crate) fn new(instance: &Instance, files: Files, database: Database) -> (Mysqld, Supervisor) {
        let (wish, wishes) = watch::channel(Wish::Run);
        let (states, state) = watch::channel(State::Down("the server has not started yet".into()));
        let supervisor = Supervisor {
            files,
            database,
            admin_password: instance.admin_password.clone(),
            replication_password: instance.pair.as_ref().map(|pair| pair.replication_password.clone()),
            wish: wishes,
            state: states,
            syncing: None,
        };
        (Mysqld { wish, state }, supervisor)
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
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

    /// Stop the server for good: the VM is going down.
    pub(crate) async fn end(&self) {
        self.wish.send_replace(Wish::End);
        self.until_down().await;
    }

    async fn until_down(&self) {
        // The stop itself has a limit, so this has one.
        let _ = self.state.clone().wait_for(|state| matches!(state, State::Down(why) if why == RESTING)).await;
    }
}

const RESTING: &str = "the server is stopped";

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
        // Only here: later a copy may be going on while the server starts again.
        if let Err(error) = remove_half_copies(&self.files) {
            tracing::error!("a copy that was cut off still takes space: {}", sentence(&error));
        }
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

    /// Wait until the server ends or must end; says why it is down.
    async fn run(&mut self, mut process: Process) -> String {
        let log = self.files.log.join("mysqld.log");
        tokio::select! {
            () = process.ended() => format!("the server ended by itself; {} says why; it is started again", log.display()),
            () = unwished(&mut self.wish) => {
                process.stop(STOP_LIMIT).await;
                RESTING.into()
            }
        }
    }

    /// Start or adopt the server and wait until it answers; none when it was wished away in between.
    async fn start(&mut self) -> Result<Option<Process>> {
        let mut process = match Process::find(&self.files.my_cnf())? {
            Some(process) => process,
            None => self.spawn().await?,
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

    async fn spawn(&mut self) -> Result<Process> {
        let program = Program::find()?;
        let files = self.files.clone();
        let template =
            template::Template { cache: files.cache.clone(), redo_log_mb: files.redo_log_mb, is_root: is_root() };
        let (data, made_by) = (files.data.clone(), program.clone());
        let prepare = tokio::task::spawn_blocking(move || prepare(&files, &template, &made_by));
        if prepare.await.context("prepare the data directory")?? {
            let data = self.files.data.clone();
            self.syncing = Some(tokio::task::spawn_blocking(move || write_to_disk(&data)));
        }
        let history = match std::fs::read_to_string(self.files.copied()) {
            Ok(text) => Some(text.parse().with_context(|| format!("read {}", self.files.copied().display()))?),
            Err(_) => None,
        };
        let replication_password = self.replication_password.as_ref();
        let init = mysql::init_file(&self.admin_password, replication_password, history.as_ref());
        write_private(&self.files.init_file(), &init)?;
        write_private(&self.files.my_cnf(), &self.files.my_cnf_text)?;
        tracing::info!(program = %program.path.display(), version = program.version, data = %data.display(), "start the server");
        Process::start(&program.path, &self.files.my_cnf(), &self.files.log.join("mysqld.log"))
    }
}

/// Remove what a copy that was cut off has left.
fn remove_half_copies(files: &Files) -> Result<()> {
    let store = files.data.parent().context("the data directory has a parent")?;
    ["data.new", "data.replaced", "incoming"].iter().try_for_each(|half| remove_if_there(&store.join(half)))
}

/// Make every directory that the server needs, its data directory from the template when there is none; says whether it was.
fn prepare(files: &Files, template: &template::Template, program: &Program) -> Result<bool> {
    let store = files.data.parent().context("the data directory has a parent")?;
    for directory in [store, &files.run, &files.log, &files.temporary] {
        make_private_directory(directory)?;
    }
    if files.data.is_dir() {
        return Ok(false);
    }
    template.copy_to(&files.data, program).map(|()| true)
}

/// Have a new data directory on the disk before the writes that depend on it are old; the server starts meanwhile.
fn write_to_disk(data: &Path) {
    let synced = std::fs::File::open(data).map(rustix::fs::syncfs);
    if !matches!(synced, Ok(Ok(()))) {
        tracing::warn!(
            "the new data directory may not survive a crash of the machine within the next seconds: {synced:?}"
        );
    }
}

async fn unwished(wish: &mut watch::Receiver<Wish>) {
    // An error is an agent without a handle, which wishes nothing any more.
    drop(wish.wait_for(|wish| *wish != Wish::Run).await);
}

async fn answers(database: &Database) {
    while database.ping().await.is_err() {
        tokio::time::sleep(POLL).await;
    }
}
