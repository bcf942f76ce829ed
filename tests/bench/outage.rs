//! How long a writer waits in a planned switchover: Tandem's one command and its stable address, against three
//! statements sent by hand to two bare servers that the writer knows both.

use std::time::{Duration, Instant};

use agent::Client;
use agent::api::Command;
use anyhow::{Context, Result, ensure};
use tests::mysql::{self, Credentials};
use tests::{Service, Stack, Writer};

use crate::floor::{Floor, Topology};

/// The writer's rest between two rows.
const PAUSE: Duration = Duration::from_micros(500);
/// Rows before and after a switch.
const ROWS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);
const SERVERS: [&str; 2] = ["leader", "follower"];

/// The outages of both, taken in turns.
pub(crate) async fn measure(stack: &Stack, floor: &Floor, repetitions: u32) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let service = Service::pair_on(stack).await?;
    let credentials = service.bind().await?.credentials;
    let pair = service.pair().await?;
    let agents = [service.agent(&pair.leader)?, service.agent(&pair.follower)?];
    floor.start(Topology::Pair)?;

    let (mut product, mut bare) = (Vec::new(), Vec::new());
    for repetition in 0..repetitions as usize {
        let old = repetition % 2;
        product.push(switchover(&agents[old], &credentials).await?);
        bare.push(by_hand(floor, old).await?);
        eprintln!("switchover {}/{repetitions}: {:?} against {:?}", repetition + 1, product.last(), bare.last());
    }
    floor.stop()?;
    service.delete().await?;
    Ok((product, bare))
}

async fn switchover(leader: &Client, credentials: &Credentials) -> Result<Duration> {
    let writer = Writer::start(credentials, PAUSE).await?;
    writer.goes_on(ROWS, LIMIT).await?;
    let started = Instant::now();
    leader.command(Command::Switchover, |_| {}).await.context("switch over")?;
    writer.goes_on(ROWS, LIMIT).await?;
    let outage = writer.finish().await?.longest_gap_since(started);
    forget(credentials).await?;
    Ok(outage)
}

/// read_only on, wait for the GTID, read_only off; the old leader follows once the writer writes again.
async fn by_hand(floor: &Floor, old: usize) -> Result<Duration> {
    let new = 1 - old;
    let mut targets = floor.application();
    targets.rotate_left(old);
    let mut from = floor.administrator(SERVERS[old]).await?;
    let mut to = floor.administrator(SERVERS[new]).await?;
    let writer = Writer::start_at(&targets, PAUSE).await?;
    writer.goes_on(ROWS, LIMIT).await?;
    let started = Instant::now();
    mysql::execute(&mut from, "SET GLOBAL read_only = ON").await?;
    let position = mysql::text(&mut from, "SELECT @@gtid_binlog_pos").await?;
    let waited = mysql::text(&mut to, &format!("SELECT CAST(MASTER_GTID_WAIT('{position}', 20) AS CHAR)")).await?;
    ensure!(waited == "0", "the bare follower did not reach {position}");
    mysql::execute(&mut to, "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = OFF").await?;
    writer.goes_on(ROWS, LIMIT).await?;
    let outage = writer.finish().await?.longest_gap_since(started);
    let follow = format!(
        "SET GLOBAL gtid_slave_pos = '{position}'; CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = 3306, \
         MASTER_USER = 'replication', MASTER_PASSWORD = 'replication', MASTER_USE_GTID = slave_pos; START SLAVE",
        floor.address(new)
    );
    // The user was made outside the binary log on the first leader only.
    mysql::execute(
        &mut to,
        "SET SESSION sql_log_bin = 0; CREATE USER IF NOT EXISTS replication@'%' IDENTIFIED BY 'replication'; \
         GRANT REPLICATION SLAVE ON *.* TO replication@'%'",
    )
    .await?;
    mysql::execute(&mut from, &follow).await?;
    forget(&targets[1]).await?;
    Ok(outage)
}

/// Each measurement begins with an empty table.
async fn forget(credentials: &Credentials) -> Result<()> {
    let mut connection = credentials.connect().await?;
    mysql::execute(&mut connection, "DROP TABLE numbered_rows").await.map(drop)
}
