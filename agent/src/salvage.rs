//! Saves what only a replaced leader has, before its data are replaced by a copy of its successor's: the events as they are,
//! and beside them a text that a human can read. Both are whole, on the disk and checked when this ends well; until then the
//! server stays as it is. What a run that was cut off has left is removed by the next one, and what it has finished is found.

mod catalogue;
mod events;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use time::OffsetDateTime;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::agent::Agent;
use crate::gtid::History;
use crate::mysql::{LogReader, Transaction};
use crate::mysqld::make_private_directory;
use crate::report::Report;
use crate::seed::{check_exit, said};
use crate::topology::Server;
pub(crate) use catalogue::list;
use catalogue::{Head, Names};

/// The server's own places and those of other packagings, where they are not in PATH.
const PLACES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"];
const TEXT_LIMIT: Duration = Duration::from_secs(3600);
const SAY_AGAIN: Duration = Duration::from_secs(2);
const CHECK_SPACE: Duration = Duration::from_millis(200);
/// What must stay free on the disk.
const RESERVE_BYTES: u64 = 64 << 20;
/// A text is so much longer than the events that it shows, roughly.
const TEXT_FACTOR: u64 = 3;

/// Save what `own` has and its leader lacks; nothing, where it is saved already. Nobody writes on `own`, and replication is
/// stopped.
pub(crate) async fn save(agent: &Agent, own: &Server, leader: &Server, report: &Report) -> Result<()> {
    let known = own.known().context("read this server's history")?;
    let others = leader.executed.clone().context("read the leader's history")?;
    let gtid_set = known.minus(&others);
    let directory = agent.files.saved();
    make_private_directory(&directory)?;
    catalogue::remove_unfinished(&directory)?;
    if let Some(saved) =
        list(&directory)?.into_iter().find(|saved| saved.gtid_set == gtid_set && saved.epoch == own.led)
    {
        report.say(format!("What only {} has is saved already: {}", own.instance, saved.file));
        return Ok(());
    }
    let transactions = agent.database.logged(&known, &others).await?;
    check_complete(&transactions, &known, &others)?;
    report.say(format!("Saving {} transactions that only {} has: {gtid_set}", transactions.len(), own.instance));
    let reader = agent.database.family().await?.log_reader();
    let program = find(&reader, &agent.instance.spec.packages())?;
    let names = Names::free(&directory, OffsetDateTime::now_utc(), own.led)?;
    let head = Head { own, leader, gtid_set: &gtid_set, transactions: &transactions, replay: reader.replay };
    let begun = Instant::now();
    let written = async {
        write_events(agent, &names, &transactions).await?;
        write_text(&program, &reader, &names, &head, report).await?;
        let (text, wanted) = (names.unfinished_text(), gtids(&transactions));
        blocking("read what was saved", move || events::check_text(&text, wanted)).await?;
        let finished = names.clone();
        blocking("finish what was saved", move || finished.finish()).await
    };
    if let Err(error) = written.await {
        catalogue::remove_unfinished(&directory)?;
        return Err(error.context(
            "what only this server has could not be saved, so its data are kept as they are and it does not follow",
        ));
    }
    let (count, ms) = (transactions.len(), begun.elapsed().as_millis());
    tracing::warn!(transactions = count, gtid_set, ms, "saved what only this server has");
    report.say(format!("Saved {count} transactions that only {} has to {}", own.instance, names.text().display()));
    Ok(())
}

/// Every transaction that is lacking elsewhere was found, or nothing is given up.
fn check_complete(transactions: &[Transaction], known: &History, others: &History) -> Result<()> {
    let mut all = others.clone();
    for transaction in transactions {
        all = all.united_with(&transaction.gtid.parse()?);
    }
    let lacking = known.minus(&all);
    ensure!(
        lacking.is_empty(),
        "{lacking} cannot be saved: the log files do not hold it any more. The data are kept as they are. Save what is needed \
         of them by hand; then stop the VM, orphan its disk, recreate it, and run configure-leader-follower"
    );
    Ok(())
}

fn gtids(transactions: &[Transaction]) -> HashSet<String> {
    transactions.iter().map(|transaction| transaction.gtid.clone()).collect()
}

async fn write_events(agent: &Agent, names: &Names, transactions: &[Transaction]) -> Result<()> {
    let (data, file, transactions) = (agent.files.data.clone(), names.unfinished_events(), transactions.to_vec());
    blocking("save the events", move || {
        let bytes = events::size(&data, &transactions)?;
        check_space(&file, bytes.saturating_mul(1 + TEXT_FACTOR))?;
        events::copy(&data, &transactions, &file)
    })
    .await
}

async fn write_text(program: &Path, reader: &LogReader, names: &Names, head: &Head<'_>, report: &Report) -> Result<()> {
    let path = names.unfinished_text();
    let mut file = catalogue::create(&path)?;
    file.write_all(head.text(names).as_bytes()).with_context(|| format!("write {}", path.display()))?;
    let output = file.try_clone().with_context(|| format!("open {} twice", path.display()))?;
    let mut child = Command::new(program)
        .args(["--no-defaults", "--base64-output=decode-rows", "--verbose"])
        .args(reader.options)
        .arg(names.unfinished_events())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let ended = watch(&mut child, reader.program, &path, report);
    timeout(TEXT_LIMIT, ended).await.with_context(|| format!("{} did not end", reader.program))??;
    blocking("write what was saved to the disk", move || Ok(file.sync_all()?)).await
}

/// Until the program ends, or the disk is nearly full.
async fn watch(child: &mut Child, name: &str, file: &Path, report: &Report) -> Result<()> {
    let said = said(child);
    let mut said = std::pin::pin!(said);
    let mut heard = None;
    let (begun, mut spoken) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            exit = child.wait() => {
                let heard = match heard { Some(heard) => heard, None => said.await };
                return check_exit(exit.with_context(|| format!("wait for {name}"))?, name, &heard);
            }
            text = &mut said, if heard.is_none() => heard = Some(text),
            () = tokio::time::sleep(CHECK_SPACE) => check_space(file, 0)?,
        }
        if spoken.elapsed() > SAY_AGAIN {
            spoken = Instant::now();
            report.say(format!("Saving for {} s", begun.elapsed().as_secs()));
        }
    }
}

fn check_space(file: &Path, needed: u64) -> Result<()> {
    let directory = file.parent().context("the file has a directory")?;
    let disk = rustix::fs::statvfs(directory).context("ask for the free space of the disk")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        free > RESERVE_BYTES.saturating_add(needed),
        "the persistent disk has only {} MB left, and {} MB are needed to save what only this server has; give the plan a \
         larger disk",
        free >> 20,
        (RESERVE_BYTES.saturating_add(needed)) >> 20
    );
    Ok(())
}

fn find(reader: &LogReader, packages: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(packages.join("mysql/bin"));
    let places = places.chain(std::env::split_paths(&path)).chain(PLACES.map(PathBuf::from));
    match places.map(|place| place.join(reader.program)).find(|path| path.is_file()) {
        Some(found) => Ok(found),
        None => bail!("cannot find the program {}; install the Debian package {}", reader.program, reader.package),
    }
}

async fn blocking<T: Send + 'static>(
    act: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(act)?.context(act)
}
