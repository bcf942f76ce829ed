//! How long a writer waits in a planned switchover. The floor is the best that hands can do: two bare servers of which each
//! replicates from the other already, so that the switch is three statements. The writer knows both servers, there and
//! here; an application knows the stable address, which is measured beside them.

use std::time::{Duration, Instant};

use agent::Client;
use agent::api::Command;
use anyhow::{Context, Result};
use tests::mysql::{self, Credentials};
use tests::writer::Record;
use tests::{Service, Stack, Writer, eventually};

use crate::floor::{Floor, Topology};
use crate::plans::{self, Mode};
use crate::settings::Settings;
use crate::table::Row;
use crate::words;

/// The most that the product may need, in floors.
const TARGET: f64 = 1.5;
/// The writer's rest between two rows.
pub(crate) const PAUSE: Duration = Duration::from_micros(500);
/// Rows before and after a switch.
pub(crate) const ROWS: usize = 60;
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What the runs of one kind came to.
#[derive(Default)]
struct Runs {
    outages: Vec<Duration>,
    /// Failed writes and lost rows.
    errors: u64,
}

impl Runs {
    fn add(&mut self, outage: Duration, errors: u64) {
        self.outages.push(outage);
        self.errors += errors;
    }

    fn last_ms(&self) -> f64 {
        self.outages.last().map_or(0.0, |outage| outage.as_secs_f64() * 1000.0)
    }
}

/// A pair of the product.
pub(crate) struct Pair {
    agents: [Client; 2],
    servers: [Credentials; 2],
    address: Credentials,
    leader: usize,
}

impl Pair {
    pub(crate) async fn of(service: &Service<'_>) -> Result<Pair> {
        let address = service.bind().await?.credentials;
        let pair = service.pair().await?;
        let servers = [&pair.leader, &pair.follower].map(|instance| address.at(instance.ip()));
        let agents = [service.agent(&pair.leader)?, service.agent(&pair.follower)?];
        Ok(Pair { agents, servers, address, leader: 0 })
    }

    /// The leader's own address, then the follower's.
    pub(crate) fn both(&self) -> [Credentials; 2] {
        let mut servers = self.servers.clone();
        servers.rotate_left(self.leader);
        servers
    }

    /// A switchover is planned for a pair that is whole; after the last one it takes a while in which commits begin to wait.
    async fn is_whole(&self, mode: Mode) -> Result<()> {
        let [leader, follower] = [&self.agents[self.leader], &self.agents[1 - self.leader]];
        eventually("the pair is whole", LIMIT, async || {
            let replication = follower.status().await?.replication;
            let follows =
                replication.is_some_and(|channel| channel.applier_running && channel.seconds_behind == Some(0));
            let is_in_sync = leader.status().await?.semi_sync.is_some_and(|sync| sync.in_sync);
            Ok((follows && (is_in_sync || mode == Mode::Async)).then_some(()))
        })
        .await
    }

    /// A planned switchover under a writer.
    pub(crate) async fn switch(&mut self, targets: &[Credentials]) -> Result<(Duration, u64)> {
        let writer = Writer::start_at(targets, PAUSE).await?;
        writer.goes_on(ROWS, LIMIT).await?;
        let started = Instant::now();
        self.agents[self.leader].command(Command::Switchover, |_| {}).await.context("switch over")?;
        self.leader = 1 - self.leader;
        writer.goes_on(ROWS, LIMIT).await?;
        let record = writer.finish().await?;
        let errors = errors_of(&record, &self.servers[self.leader]).await?;
        Ok((record.longest_gap_since(started), errors))
    }
}

/// The outages of all three, taken in turns.
pub(crate) async fn measure(
    stack: &Stack,
    floor: &Floor,
    mode: Mode,
    settings: &Settings,
    repetitions: u32,
) -> Result<Vec<Row>> {
    let service = Service::provision(stack, plans::pair(floor.family, mode)).await?;
    let mut pair = Pair::of(&service).await?;
    floor.start(Topology::Pair, settings)?;
    wire_back(floor, mode).await?;

    let (mut direct, mut address, mut bare) = (Runs::default(), Runs::default(), Runs::default());
    let what = format!("{}, {}", floor.family.name(), mode.name());
    for repetition in 1..=repetitions {
        pair.is_whole(mode).await?;
        let (outage, errors) = pair.switch(&pair.both()).await?;
        direct.add(outage, errors);
        let (outage, errors) = by_hand(floor, mode, (repetition as usize - 1) % 2).await?;
        bare.add(outage, errors);
        pair.is_whole(mode).await?;
        let (outage, errors) = pair.switch(&[pair.address.clone()]).await?;
        address.add(outage, errors);
        let [direct, bare, address] = [&direct, &bare, &address].map(Runs::last_ms);
        eprintln!(
            "switchover {what} {repetition}/{repetitions}: {direct:.1} ms, by hand {bare:.1} ms, address {address:.1} ms"
        );
    }
    floor.stop()?;
    service.delete().await?;
    let what = format!("planned switchover, {what}");
    Ok(vec![
        Row::ratio(&format!("{what}: outage"), &direct.outages, &bare.outages, Some(TARGET)),
        Row::ratio(&format!("{what}: through the stable address"), &address.outages, &bare.outages, None),
        Row::count(&format!("{what}: write errors, lost rows"), direct.errors + address.errors, bare.errors),
    ])
}

/// The leader replicates from its follower, too: nothing comes from there but its own transactions.
async fn wire_back(floor: &Floor, mode: Mode) -> Result<()> {
    let mut leader = floor.administrator(0).await?;
    let mut follower = floor.administrator(1).await?;
    for server in [&mut leader, &mut follower] {
        mysql::execute(server, words::REPLICATION_USER).await?;
    }
    mysql::execute(&mut leader, &words::follow(floor.family, floor.address(1))).await?;
    if mode == Mode::SemiSync {
        mysql::execute(&mut leader, &words::wait_for_follower(floor.family, true)).await?;
    }
    Ok(())
}

/// `read_only` on, wait for the last transaction, `read_only` off.
async fn by_hand(floor: &Floor, mode: Mode, old: usize) -> Result<(Duration, u64)> {
    let (family, new) = (floor.family, 1 - old);
    let mut targets = floor.application();
    targets.rotate_left(old);
    let mut from = floor.administrator(old).await?;
    let mut to = floor.administrator(new).await?;
    let writer = Writer::start_at(&targets, PAUSE).await?;
    writer.goes_on(ROWS, LIMIT).await?;
    let started = Instant::now();
    mysql::execute(&mut from, "SET GLOBAL read_only = ON").await?;
    let position = words::position(family, &mut from).await?;
    words::wait_for(family, &mut to, &position).await?;
    if mode == Mode::SemiSync {
        mysql::execute(&mut to, &words::wait_for_follower(family, true)).await?;
    }
    mysql::execute(&mut to, "SET GLOBAL read_only = OFF").await?;
    if mode == Mode::SemiSync {
        // Otherwise its applier waits for a receipt.
        mysql::execute(&mut from, &words::wait_for_follower(family, false)).await?;
    }
    writer.goes_on(ROWS, LIMIT).await?;
    let record = writer.finish().await?;
    let errors = errors_of(&record, &targets[1]).await?;
    let position = words::position(family, &mut to).await?;
    words::wait_for(family, &mut from, &position).await?;
    Ok((record.longest_gap_since(started), errors))
}

/// Writes that failed otherwise than by the switch itself, and rows that are gone.
pub(crate) async fn errors_of(record: &Record, leader: &Credentials) -> Result<u64> {
    Ok(failed_writes(record) + lost_rows(record, leader).await?)
}

/// Writes that failed otherwise than by a cut connection or the refusal of a read-only server.
pub(crate) fn failed_writes(record: &Record) -> u64 {
    for (error, times) in &record.errors {
        eprintln!("{times} writes failed: {error}");
    }
    record.errors.values().sum()
}

/// Acknowledged rows that are gone. The next measurement begins with an empty table.
pub(crate) async fn lost_rows(record: &Record, leader: &Credentials) -> Result<u64> {
    let mut connection = leader.connect().await?;
    let kept = mysql::numbers(&mut connection).await?;
    let lost = record.promised().difference(&kept).count() as u64;
    mysql::execute(&mut connection, "DROP TABLE numbered_rows").await?;
    if lost > 0 {
        eprintln!("{lost} acknowledged rows are lost");
    }
    Ok(lost)
}
