//! What a commit takes through our settings, our agents and their leases, against bare replication that makes the same
//! promise: the same durability, the same memory, the same wait for the follower, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use tests::mysql::{self, Credentials};
use tests::{Service, Stack, eventually};

use crate::floor::{Floor, Topology};
use crate::plans::{self, Mode};
use crate::settings::Settings;
use crate::switchover::LIMIT;
use crate::table::{Row, median, percentile};
use crate::words;

/// Beyond this it can be measured.
const TARGET: f64 = 1.1;
const TURNS: u32 = 10;
const WRITERS: [u32; 2] = [1, 8];

/// The commits of one and of eight writers, taken in turns; `commits` by each writer in each turn.
pub(crate) async fn measure(
    stack: &Stack,
    floor: &Floor,
    mode: Mode,
    settings: &Settings,
    commits: u32,
) -> Result<Vec<Row>> {
    let family = floor.family;
    let service = Service::provision(stack, plans::pair(family, mode)).await?;
    let pair = service.pair().await?;
    let product = service.bind().await?.credentials.at(pair.leader.ip());
    floor.start(Topology::Pair, &settings.bare())?;
    if mode == Mode::SemiSync {
        mysql::execute(&mut floor.administrator(0).await?, &words::wait_for_follower(family, true)).await?;
        eventually("the commits wait for the follower", LIMIT, async || {
            Ok(service.status(&pair.leader).await?.semi_sync.is_some_and(|sync| sync.in_sync).then_some(()))
        })
        .await?;
    }
    let [bare, _] = floor.application();
    for server in [&product, &bare] {
        let table =
            "CREATE TABLE commits (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, payload VARCHAR(200) NOT NULL)";
        mysql::execute(&mut server.connect().await?, table).await?;
        // Not counted: what comes first.
        take(server, 1, commits).await?;
    }
    let mut rows = Vec::new();
    for writers in WRITERS {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            // Whoever comes second finds other caches; so both come second.
            if turn % 2 == 0 {
                with.extend(take(&product, writers, commits).await?);
                without.extend(take(&bare, writers, commits).await?);
            } else {
                without.extend(take(&bare, writers, commits).await?);
                with.extend(take(&product, writers, commits).await?);
            }
        }
        let what = format!("commit, {}, {}, {writers} writers", family.name(), mode.name());
        eprintln!("{what}: median {:?} against {:?}", median(&with), median(&without));
        rows.push(Row::single(&format!("{what}: median"), median(&with), median(&without), Some(TARGET)));
        rows.push(Row::single(&format!("{what}: p99"), percentile(&with, 99), percentile(&without, 99), None));
    }
    floor.stop()?;
    service.delete().await?;
    Ok(rows)
}

/// How long each commit took.
async fn take(server: &Credentials, writers: u32, commits: u32) -> Result<Vec<Duration>> {
    let each = try_join_all((0..writers).map(|_| write(server.clone(), commits))).await?;
    Ok(each.into_iter().flatten().collect())
}

/// In a task of its own, so that writers do not wait for each other's bookkeeping.
async fn write(server: Credentials, commits: u32) -> Result<Vec<Duration>> {
    let writer = tokio::spawn(async move {
        let mut connection = server.connect().await?;
        let mut times = Vec::new();
        let payload = "x".repeat(100);
        for _ in 0..commits {
            let started = Instant::now();
            let insert = sqlx::query("INSERT INTO commits (payload) VALUES (?)").bind(&payload);
            insert.execute(&mut connection).await.context("commit")?;
            times.push(started.elapsed());
        }
        Ok(times)
    });
    writer.await.context("wait for a writer")?
}
