//! A follower that cannot go on from its own data gets the leader's: how long that takes until it replicates again, against
//! the family's own tool by hand, with the same amount of data.

use std::process::Command;
use std::time::{Duration, Instant};

use agent::api::{Command as AgentCommand, Role};
use anyhow::{Context, Result, ensure};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor};
use tests::clients::Family;
use tests::service::Pair;
use tests::{Service, Stack, eventually, mysql, processes};

use crate::floor::{Floor, Topology};
use crate::plans::{self, Mode};
use crate::settings::Settings;
use crate::switchover::LIMIT;
use crate::table::Row;
use crate::words;

/// The most that the product may need, in floors.
const TARGET: f64 = 1.25;
const AGENT: &str = "mysql-agent";
/// So many MB of rows go to the follower by one transaction.
const BATCH_MB: u32 = 50;

/// Both, taken in turns.
pub(crate) async fn measure(
    stack: &Stack,
    floor: &Floor,
    settings: &Settings,
    megabytes: u32,
    repetitions: u32,
) -> Result<Vec<Row>> {
    let family = floor.family;
    let service = Service::provision(stack, plans::pair(family, Mode::Async)).await?;
    let pair = service.pair().await?;
    let mut leader = service.administrator(&pair.leader).await?;
    floor.start(Topology::Pair, settings)?;
    mysql::execute(&mut floor.administrator(0).await?, words::copy_user(family)).await?;
    eprintln!("filling {} with {megabytes} MB, twice", family.name());
    fill(&mut leader, megabytes).await?;
    fill(&mut floor.administrator(0).await?, megabytes).await?;

    let (mut product, mut bare) = (Vec::new(), Vec::new());
    for repetition in 1..=repetitions {
        empty_write_cache(floor)?;
        product.push(seed(&service, family, &pair).await?);
        empty_write_cache(floor)?;
        bare.push(by_hand(floor).await?);
        eprintln!(
            "seeding {} {repetition}/{repetitions}: {:?} against {:?}",
            family.name(),
            product.last(),
            bare.last()
        );
    }
    floor.stop()?;
    service.delete().await?;
    let what = format!("re-seeding a follower with {megabytes} MB, {}", family.name());
    Ok(vec![Row::ratio(&what, &product, &bare, Some(TARGET))])
}

/// The product writes its copy to the disk before it relies on it. So the floor does as well, and neither writes for the other.
fn empty_write_cache(floor: &Floor) -> Result<()> {
    let status = Command::new("sync").arg("--file-system").arg(floor.place(0)).status().context("run sync")?;
    ensure!(status.success(), "sync failed: {status}");
    Ok(())
}

/// Rows of a megabyte, which no follower needs to receive one by one: all of them will be copied.
async fn fill(server: &mut MySqlConnection, megabytes: u32) -> Result<()> {
    mysql::execute(
        server,
        "SET SESSION sql_log_bin = 0; CREATE DATABASE ballast; \
         CREATE TABLE ballast.rows_of_a_mb (id INT PRIMARY KEY AUTO_INCREMENT, payload LONGBLOB)",
    )
    .await?;
    for _ in 0..megabytes.div_ceil(BATCH_MB) {
        let numbers = format!(
            "INSERT INTO ballast.rows_of_a_mb (payload) \
             WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < {BATCH_MB}) \
             SELECT REPEAT(SHA2(RAND(), 256), 16384) FROM numbers"
        );
        mysql::execute(server, &numbers).await?;
    }
    mysql::execute(server, "SET SESSION sql_log_bin = 1").await.map(drop)
}

async fn rows(server: &mut MySqlConnection) -> Result<String> {
    mysql::text(server, "SELECT CAST(COUNT(*) AS CHAR) FROM ballast.rows_of_a_mb").await
}

/// The follower was away, and what it missed is not in the leader's logs any more.
async fn seed(service: &Service<'_>, family: Family, pair: &Pair) -> Result<Duration> {
    // Its agent would start replication again.
    let cid = pair.follower.cid.as_deref().context("the follower has a VM")?;
    let programs = processes::of_vm(service.stack.directory(), cid);
    let agent = programs.iter().find(|process| process.program == AGENT).context("the follower's VM runs an agent")?;
    processes::pause(agent.pid);
    let fallen_behind = fall_behind(service, family, pair).await;
    processes::resume(agent.pid);
    fallen_behind?;
    let started = Instant::now();
    // It sees by itself what it lacks; the command makes it look now, and is refused where it has done so.
    if let Err(cause) = service.agent(&pair.follower)?.command(AgentCommand::ConfigureLeaderFollower, |_| {}).await {
        eprintln!("the follower is busy already: {cause}");
    }
    let wanted = rows(&mut service.administrator(&pair.leader).await?).await?;
    eventually("the follower replicates from the copy", LIMIT, async || {
        let copied = rows(&mut service.administrator(&pair.follower).await?).await? == wanted;
        let status = service.status(&pair.follower).await?;
        Ok((copied && status.role == Role::Follower && status.busy.is_none()).then_some(()))
    })
    .await?;
    Ok(started.elapsed())
}

async fn fall_behind(service: &Service<'_>, family: Family, pair: &Pair) -> Result<()> {
    let mut follower = service.administrator(&pair.follower).await?;
    let mut leader = service.administrator(&pair.leader).await?;
    let forget = "STOP REPLICA; SET SESSION sql_log_bin = 0; DROP DATABASE IF EXISTS ballast";
    mysql::execute(&mut follower, &words::although_read_only(family, forget)).await?;
    purge(&mut leader).await?;
    let lacks = words::position(family, &mut follower).await? != words::position(family, &mut leader).await?;
    ensure!(lacks, "the follower has received what was to be purged before it received it");
    Ok(())
}

async fn purge(leader: &mut MySqlConnection) -> Result<()> {
    mysql::execute(leader, "CREATE DATABASE missed; DROP DATABASE missed; FLUSH BINARY LOGS").await?;
    let last = leader.fetch_all(sqlx::raw_sql(AssertSqlSafe("SHOW BINARY LOGS".to_owned()))).await;
    let last = last.context("list the binary logs")?;
    let last: String = sqlx::Row::try_get_unchecked(last.last().context("a leader has a binary log")?, 0)?;
    // A log that a crash would still need is not purged at once.
    eventually("the binary log is purged", LIMIT, async || {
        mysql::execute(leader, &format!("PURGE BINARY LOGS TO '{last}'")).await?;
        let left = leader.fetch_all(sqlx::raw_sql(AssertSqlSafe("SHOW BINARY LOGS".to_owned()))).await;
        Ok((left.context("list the binary logs")?.len() == 1).then_some(()))
    })
    .await
}

/// Copy, make the copy consistent, have it on the disk, start on it, follow.
async fn by_hand(floor: &Floor) -> Result<Duration> {
    floor.kill(1)?;
    let data = floor.place(1).join("data");
    std::fs::remove_dir_all(&data).context("remove the bare follower's data")?;
    let started = Instant::now();
    let position = match floor.family {
        Family::Mariadb => Some(copy_mariadb(floor)?),
        Family::Mysql => {
            copy_mysql(floor).await?;
            None
        }
    };
    empty_write_cache(floor)?;
    floor.launch(1)?;
    let mut follower = floor.administrator(1).await?;
    if let Some(position) = position {
        // The copy does not bring the leader's history along.
        mysql::execute(&mut follower, &format!("SET GLOBAL gtid_slave_pos = '{position}'")).await?;
    }
    mysql::execute(&mut follower, &words::follow(floor.family, floor.address(0))).await?;
    let position = words::position(floor.family, &mut floor.administrator(0).await?).await?;
    words::wait_for(floor.family, &mut follower, &position).await?;
    Ok(started.elapsed())
}

/// The position of the copy.
fn copy_mariadb(floor: &Floor) -> Result<String> {
    let (socket, data) = (floor.place(0).join("socket"), floor.place(1).join("data"));
    std::fs::create_dir_all(&data).context("make a directory for the copy")?;
    let copy = "set -o pipefail; mariadb-backup --no-defaults --backup --stream=mbstream --user=root --socket=\"$0\" \
                --target-dir=\"$1\" --tmpdir=\"$2\" | mbstream -x -C \"$1\" && \
                mariadb-backup --no-defaults --prepare --target-dir=\"$1\" --tmpdir=\"$2\"";
    let mut command = Command::new("bash");
    command.args(["-c", copy]).arg(&socket).arg(&data).arg(floor.place(1));
    let output = command.output().context("run mariadb-backup")?;
    ensure!(output.status.success(), "mariadb-backup failed: {}", String::from_utf8_lossy(&output.stderr));
    let files = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"].map(|name| data.join(name));
    let file = files.iter().find(|file| file.is_file()).context("the copy does not say its position")?;
    let text = std::fs::read_to_string(file).context("read the position of the copy")?;
    Ok(text.split_whitespace().nth(2).unwrap_or_default().to_owned())
}

/// An empty server clones the leader, and ends because nobody is there to start it again.
async fn copy_mysql(floor: &Floor) -> Result<()> {
    floor.launch(1)?;
    let mut follower = floor.administrator(1).await?;
    let donor = floor.address(0);
    let clone = format!(
        "SET GLOBAL read_only = OFF; SET GLOBAL clone_valid_donor_list = '{donor}:3306'; \
         CLONE INSTANCE FROM copy@'{donor}':3306 IDENTIFIED BY 'copy'"
    );
    if let Err(cause) = mysql::execute(&mut follower, &clone).await
        && mysql::error_number(&cause) != Some(CANNOT_RESTART)
    {
        return Err(cause);
    }
    floor.kill(1)
}

/// The server's number for "all is copied, and I cannot start myself again".
const CANNOT_RESTART: u16 = 3707;
