//! How long a writer waits while both servers of its pair are restarted with other parameters: whoever leads hands over before
//! it is stopped, so the writer waits for switchovers and not for starts. There is no floor: by hand it is the same.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tests::clients::Family;
use tests::{Service, Stack, Writer};

use crate::plans::{self, Mode};
use crate::switchover::{LIMIT, PAUSE, ROWS, errors_of};
use crate::table::{Row, median};

/// What the reference product says of an update of one pair.
const REFERENCE: &str = "10 to 15 minutes";
/// Each of them restarts the servers.
const WORKLOADS: [&str; 2] = ["read-heavy", "mixed"];

/// So many updates of one pair.
pub(crate) async fn measure(stack: &Stack, family: Family, repetitions: u32) -> Result<Vec<Row>> {
    let plan = plans::pair(family, Mode::Async);
    let mut service = Service::provision(stack, plan).await?;
    let credentials = service.bind().await?.credentials;
    let (mut outages, mut whole, mut errors) = (Vec::new(), Vec::new(), 0);
    for repetition in 1..=repetitions {
        let pair = service.pair().await?;
        let targets = [&pair.leader, &pair.follower].map(|instance| credentials.at(instance.ip()));
        let writer = Writer::start_at(&targets, PAUSE).await?;
        writer.goes_on(ROWS, LIMIT).await?;
        let started = Instant::now();
        let workload = WORKLOADS[repetition as usize % WORKLOADS.len()];
        service = service.updated(plan, &json!({"parameters": {"workload": workload}})).await?;
        whole.push(started.elapsed());
        writer.goes_on(ROWS, LIMIT).await?;
        let record = writer.finish().await?;
        outages.push(record.longest_gap_since(started));
        let leader = service.pair().await?.leader;
        errors += errors_of(&record, &credentials.at(leader.ip())).await?;
        eprintln!("update, {} {repetition}/{repetitions}: {:?} of {:?}", family.name(), outages.last(), whole.last());
    }
    service.delete().await?;
    let what = format!("update of a pair, {}, both servers restarted", family.name());
    let outage = format!("{} ms", ms(median(&outages)));
    Ok(vec![
        Row::beside(&format!("{what}: the writer's longest pause"), outage, REFERENCE, None),
        Row::beside(&format!("{what}: the whole update"), format!("{} ms", ms(median(&whole))), "-", None),
        Row::count(&format!("{what}: write errors, lost rows"), errors, 0),
    ])
}

fn ms(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1000.0)
}
