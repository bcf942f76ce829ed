//! `GET /metrics`: the reference's metrics in Prometheus' text format, asked of the server at each scrape.
//!
//! The name of a metric is the reference's with everything but letters and digits as `_`, then the unit where the name does
//! not say it yet, then `_total` on what only grows: `/p.mysql/innodb/data_read` is `p_mysql_innodb_data_read_bytes_total`.
//! Its HELP line begins with the reference's name. Values are the reference's too: ON and YES are 1, OFF and NO are 0, and a
//! lag that nobody knows is -1.
//!
//! | reference's metrics | where from |
//! | --- | --- |
//! | `available` | 1 while the server answers; without it only this and the disks are there |
//! | `variables/*`, `performance/*`, `net/*`, `innodb/*`, `rpl_semi_sync_master_*` | [`catalogue::SERVER`] |
//! | `follower/*` | [`Status`]; of a pair only, and all but `is_follower` of the follower only |
//! | `system/*_disk_*` | the file systems of `store` (persistent) and `data` (ephemeral) |
//!
//! Left out: `performance/queries_delta`, which is `rate()` of `performance/queries`; `performance/cpu_utilization_percent`, a
//! figure of the machine and not of this server; `last_successful_backup` and `galera/*`, of which there is nothing.

mod catalogue;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use agent::api::{Receiver, Replication, Status};
use anyhow::{Context, Result};

use crate::agent::Agent;
use crate::report::sentence;
use catalogue::{AVAILABLE, DISK, Disk, FOLLOWER, IS_FOLLOWER, Metric, SERVER};

/// How Prometheus is told that its text follows.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Prometheus waits for 10 s.
const LIMIT: Duration = Duration::from_secs(5);

/// Everything that is known now.
pub(crate) async fn scrape(agent: &Agent) -> String {
    let mut page = Page::default();
    match observe(agent).await {
        Ok((status, figures)) => {
            page.add(&AVAILABLE, 1.0);
            add_server(&mut page, &figures);
            if agent.instance.pair.is_some() {
                add_follower(&mut page, &status);
            }
        }
        Err(error) => {
            tracing::debug!("the server's metrics are not known: {}", sentence(&error));
            page.add(&AVAILABLE, 0.0);
        }
    }
    let spec = &agent.instance.spec;
    for (disk, path) in [("persistent", spec.store()), ("ephemeral", spec.data())] {
        if let Err(error) = add_disk(&mut page, disk, &path) {
            tracing::warn!("the {disk} disk's metrics are not known: {}", sentence(&error));
        }
    }
    page.0
}

async fn observe(agent: &Agent) -> Result<(Status, HashMap<String, String>)> {
    let observed = async { Ok((agent.status().await?, agent.database.figures().await?)) };
    tokio::time::timeout(LIMIT, observed).await.context("the server does not answer in time")?
}

fn add_server(page: &mut Page, figures: &HashMap<String, String>) {
    for (metric, variables) in &SERVER {
        // The two families do not have the same ones, and not everything is a number.
        let value = variables.iter().find_map(|variable| number(figures.get(*variable)?));
        if let Some(value) = value {
            page.add(metric, value);
        }
    }
}

fn number(text: &str) -> Option<f64> {
    match text.to_ascii_uppercase().as_str() {
        "ON" | "YES" => Some(1.0),
        "OFF" | "NO" => Some(0.0),
        text => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

fn add_follower(page: &mut Page, status: &Status) {
    page.add(&IS_FOLLOWER, flag(status.replication.is_some()));
    let Some(channel) = &status.replication else { return };
    for (metric, value) in &FOLLOWER {
        if let Some(value) = value(channel) {
            page.add(metric, value);
        }
    }
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn seconds_behind(channel: &Replication) -> Option<f64> {
    Some(channel.seconds_behind.map_or(-1.0, |seconds| seconds as f64))
}

fn receives(channel: &Replication) -> Option<f64> {
    Some(flag(channel.receiver == Receiver::Connected))
}

fn add_disk(page: &mut Page, disk: &str, path: &Path) -> Result<()> {
    let found = rustix::fs::statvfs(path).with_context(|| format!("look at the disk of {}", path.display()))?;
    let disk_has = Disk {
        used: found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize,
        free: found.f_bavail * found.f_frsize,
        inodes_used: found.f_files.saturating_sub(found.f_ffree),
        inodes_free: found.f_favail,
    };
    for (metric, value) in &DISK {
        let reference = format!("system/{disk}_{}", metric.reference);
        page.add_named(&reference, metric, value(&disk_has));
    }
    Ok(())
}

/// The text.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, metric: &Metric, value: f64) {
        self.add_named(metric.reference, metric, value);
    }

    fn add_named(&mut self, reference: &str, metric: &Metric, value: f64) {
        let (name, kind, help) = (metric.name(reference), metric.kind.name(), metric.help);
        let _ = write!(self.0, "# HELP {name} /p.mysql/{reference}: {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_that_prometheus_takes() {
        let named = [&AVAILABLE, &IS_FOLLOWER].into_iter();
        let named =
            named.chain(SERVER.iter().map(|(metric, _)| metric)).chain(FOLLOWER.iter().map(|(metric, _)| metric));
        let names: Vec<String> = named.map(|metric| metric.name(metric.reference)).collect();

        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let is_usable = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(names.iter().all(is_usable), "{names:?}");
        for name in [
            "p_mysql_available",
            "p_mysql_follower_seconds_behind_master",
            "p_mysql_follower_seconds_since_leader_heartbeat",
            "p_mysql_follower_relay_log_space_bytes",
            "p_mysql_innodb_data_read_bytes_total",
            "p_mysql_performance_queries_total",
        ] {
            assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_left_out() {
        let figures =
            [("read_only", "ON"), ("queries", "7"), ("max_connections", "many"), ("rpl_semi_sync_source_no_tx", "2")];
        let figures = figures.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut page = Page::default();

        add_server(&mut page, &figures);

        assert_eq!(
            page.0,
            "# HELP p_mysql_variables_read_only /p.mysql/variables/read_only: The server is read-only.\n\
             # TYPE p_mysql_variables_read_only gauge\np_mysql_variables_read_only 1\n\
             # HELP p_mysql_performance_queries_total /p.mysql/performance/queries: Statements, with those of stored programs.\n\
             # TYPE p_mysql_performance_queries_total counter\np_mysql_performance_queries_total 7\n\
             # HELP p_mysql_rpl_semi_sync_master_no_tx_total /p.mysql/rpl_semi_sync_master_no_tx: \
             Commits that no follower acknowledged.\n\
             # TYPE p_mysql_rpl_semi_sync_master_no_tx_total counter\np_mysql_rpl_semi_sync_master_no_tx_total 2\n"
        );
    }

    #[test]
    fn a_disk_is_measured_as_df_does() {
        let disk = Disk { used: 750 << 10, free: 250 << 10, inodes_used: 1, inodes_free: 2 };

        let values: Vec<f64> = DISK.iter().map(|(_, value)| value(&disk)).collect();

        assert_eq!(values, [75.0, 750.0, 250.0, 33.0, 1.0, 2.0]);
    }
}
