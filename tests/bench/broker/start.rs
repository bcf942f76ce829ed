//! How long a broker needs from its start to its first answer: a second one beside the stack's, with a state of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tests::stack::{self, BROKER_DEPLOYMENT};
use tests::{Broker, Stack, processes};

use super::client::Platform;
use crate::table::{Row, median};

/// The most that it may need.
const TARGET: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts to be answered.
const PAUSE: Duration = Duration::from_millis(1);

/// Start it so many times; the first start makes the state database and does not count.
pub(super) async fn measure(stack: &Stack, times: usize, state: &str, rows: &mut Vec<Row>) -> Result<()> {
    let root = stack.directory().join("started-by-hand");
    std::fs::create_dir_all(&root).context("make the directory of the second broker")?;
    let mut config = stack.director.job_config(BROKER_DEPLOYMENT, "mysql-broker")?;
    config["spec"]["ip"] = json!(format!("127.{}.250.1", stack.block));
    config["spec"]["id"] = json!("started-by-hand");
    config["spec"]["root"] = json!(root);
    config["properties"]["documents"] = json!(stack::documents());
    let path = root.join("config.json");
    tests::director::write_secret(&path, &config.to_string())?;
    let platform = Platform::of(&Broker::from_config(&config)?)?;
    start(&path, &platform).await?;
    let (mut first_answers, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let (time, kb) = start(&path, &platform).await?;
        first_answers.push(time);
        resident.push(kb);
    }
    let (middle, most) = (median(&first_answers), first_answers.iter().max().copied().unwrap_or_default());
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    rows.push(Row::beside(
        &format!("start to the first 200, {state} database"),
        format!("{:.0} ms, at most {:.0} ms", ms(middle), ms(most)),
        "52-88 ms, at most 63-143 ms",
        Some((format!("<= {} ms", TARGET.as_millis()), middle <= TARGET)),
    ));
    resident.sort_unstable();
    let resident = resident[resident.len() / 2] as f64 / 1024.0;
    rows.push(Row::beside("resident memory, fresh", format!("{resident:.1} MB"), "18-19 MB", None));
    Ok(())
}

/// From the start of the program to the first 200, and its memory then.
async fn start(config: &Path, platform: &Platform) -> Result<(Duration, u64)> {
    let program = stack::programs()?.join("mysql-broker");
    let request = platform.request("GET", "/v2/catalog", None);
    let started = Instant::now();
    let mut broker = Command::new(program)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start a second broker")?;
    let answered = loop {
        match platform.send_once(&request).await {
            Ok(200) => break Ok(started.elapsed()),
            Ok(_) | Err(_) if started.elapsed() < LIMIT => tokio::time::sleep(PAUSE).await,
            other => break Err(other),
        }
    };
    let usage = i32::try_from(broker.id()).ok().and_then(processes::usage);
    broker.kill().context("end the second broker")?;
    broker.wait().context("wait for the end of the second broker")?;
    match (answered, usage) {
        (Ok(time), Some(usage)) => Ok((time, usage.resident_kb)),
        (other, _) => bail!("the second broker did not answer in time: {other:?}"),
    }
}
