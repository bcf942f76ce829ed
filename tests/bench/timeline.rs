//! Where the time of a switchover goes: every statement that reaches either server in one switchover under a writer, with
//! its time. The servers' general log costs time of its own, so this is not a measurement.

use anyhow::{Context, Result};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor, Row};
use tests::clients::Family;
use tests::{Service, Stack, mysql};

use crate::plans::{self, Mode};
use crate::switchover::Pair;

/// Around the moment at which the old leader turns read-only.
const BEFORE_MS: f64 = 100.0;
const AFTER_MS: f64 = 200.0;
/// As many characters of a statement.
const SHOWN: usize = 110;

/// When (in ms of the day), where, what.
type Line = (f64, &'static str, String);

pub(crate) async fn print(stack: &Stack, family: Family, mode: Mode) -> Result<()> {
    let service = Service::provision(stack, plans::pair(family, mode)).await?;
    let instances = service.pair().await?;
    let mut pair = Pair::of(&service).await?;
    // Once there and back, so that nothing is done for the first time.
    for _ in 0..2 {
        pair.switch(&pair.both()).await?;
    }
    let servers = [(&instances.leader, "old"), (&instances.follower, "new")];
    for (server, _) in servers {
        let log = "SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON";
        mysql::execute(&mut service.administrator(server).await?, log).await?;
    }
    let (outage, _) = pair.switch(&pair.both()).await?;
    let mut lines = Vec::new();
    for (server, name) in servers {
        lines.extend(statements(&mut service.administrator(server).await?, name).await?);
    }
    lines.sort_by(|one, other| one.0.total_cmp(&other.0));
    let closing = |line: &&Line| line.1 == "old" && line.2.contains("read_only=1");
    let zero = lines.iter().find(closing).map_or(0.0, |line| line.0);
    println!("\n{} {}: one switchover, outage {outage:?}, ms since read_only=1\n", family.name(), mode.name());
    for (at, server, text) in lines.iter().filter(|line| (-BEFORE_MS..AFTER_MS).contains(&(line.0 - zero))) {
        println!("{:8.2} {server} {text}", at - zero);
    }
    service.delete().await
}

/// Without the writer's own, which are many.
async fn statements(server: &mut MySqlConnection, name: &'static str) -> Result<Vec<Line>> {
    let query = "SELECT CAST(1000 * UNIX_TIMESTAMP(event_time) AS CHAR), \
                 CAST(CONCAT('[', thread_id, '] ', command_type, ' ', argument) AS CHAR) FROM mysql.general_log \
                 WHERE argument NOT LIKE '%numbered_rows%' AND argument <> 'BEGIN' AND argument NOT LIKE 'COMMIT /*%' \
                 AND command_type <> 'Close stmt'";
    let rows =
        server.fetch_all(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await.context("read the general log")?;
    let line = |row: sqlx::mysql::MySqlRow| {
        let at: String = row.try_get_unchecked(0).context("read the time of a statement")?;
        let text: String = row.try_get_unchecked(1).context("read a statement")?;
        let at = at.parse().with_context(|| format!("read the time {at}"))?;
        Ok((at, name, text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()))
    };
    rows.into_iter().map(line).collect()
}
