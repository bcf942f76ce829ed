//! The reference's metrics that are true of this server, each with the place that its value comes from.

use agent::api::Replication;

/// One metric.
pub(super) struct Metric {
    /// Its name in the reference, behind `/p.mysql/`.
    pub(super) reference: &'static str,
    /// Empty where the name says it, and where things are counted.
    unit: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// How a value may change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// It only grows, until the server starts again.
    Counter,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

impl Metric {
    /// The name for Prometheus.
    pub(super) fn name(&self, reference: &str) -> String {
        let mut name = format!("p_mysql_{}", reference.replace('/', "_"));
        if !self.unit.is_empty() {
            name.push('_');
            name.push_str(self.unit);
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

const fn gauge(reference: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { reference, unit, kind: Kind::Gauge, help }
}

const fn counter(reference: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { reference, unit, kind: Kind::Counter, help }
}

pub(super) const AVAILABLE: Metric = gauge("available", "", "The server answers.");
pub(super) const IS_FOLLOWER: Metric = gauge("follower/is_follower", "", "The server has a leader to replicate from.");

/// Variables of the server, and what it counts. The first one that the server knows is taken.
pub(super) const SERVER: [(Metric, &[&str]); 39] = [
    (gauge("variables/max_connections", "", "Connections that it takes."), &["max_connections"]),
    (gauge("variables/open_files_limit", "", "Files that it may have open."), &["open_files_limit"]),
    (gauge("variables/read_only", "", "The server is read-only."), &["read_only"]),
    (counter("performance/questions", "", "Statements of clients."), &["questions"]),
    (counter("performance/queries", "", "Statements, with those of stored programs."), &["queries"]),
    (counter("performance/com_delete", "", "DELETE statements."), &["com_delete"]),
    (counter("performance/com_delete_multi", "", "DELETE statements on many tables."), &["com_delete_multi"]),
    (counter("performance/com_insert", "", "INSERT statements."), &["com_insert"]),
    (counter("performance/com_insert_select", "", "INSERT ... SELECT statements."), &["com_insert_select"]),
    (counter("performance/com_replace_select", "", "REPLACE ... SELECT statements."), &["com_replace_select"]),
    (counter("performance/com_select", "", "SELECT statements."), &["com_select"]),
    (counter("performance/com_update", "", "UPDATE statements."), &["com_update"]),
    (counter("performance/com_update_multi", "", "UPDATE statements on many tables."), &["com_update_multi"]),
    (
        counter("performance/created_tmp_disk_tables", "", "Temporary tables on disk made for statements."),
        &["created_tmp_disk_tables"],
    ),
    (counter("performance/created_tmp_tables", "", "Temporary tables made for statements."), &["created_tmp_tables"]),
    (counter("performance/created_tmp_files", "", "Temporary files made."), &["created_tmp_files"]),
    (gauge("performance/open_files", "", "Files open."), &["open_files"]),
    (gauge("performance/open_tables", "", "Tables open."), &["open_tables"]),
    (counter("performance/opened_tables", "", "Tables opened."), &["opened_tables"]),
    (gauge("performance/open_table_definitions", "", "Table definitions open."), &["open_table_definitions"]),
    (counter("performance/opened_table_definitions", "", "Table definitions opened."), &["opened_table_definitions"]),
    (counter("performance/qcache_hits", "", "Answers out of the query cache, where there is one."), &["qcache_hits"]),
    (counter("performance/slow_queries", "", "Statements that took longer than long_query_time."), &["slow_queries"]),
    (counter("performance/table_locks_waited", "", "Table locks that were waited for."), &["table_locks_waited"]),
    (gauge("performance/threads_connected", "", "Connections open."), &["threads_connected"]),
    (gauge("performance/threads_running", "", "Connections with a statement under way."), &["threads_running"]),
    (counter("net/connections", "", "Connections that were tried."), &["connections"]),
    (gauge("net/max_used_connections", "", "The most connections since the start."), &["max_used_connections"]),
    (gauge("innodb/buffer_pool_pages_free", "", "Free pages."), &["innodb_buffer_pool_pages_free"]),
    (gauge("innodb/buffer_pool_pages_total", "", "All pages."), &["innodb_buffer_pool_pages_total"]),
    (gauge("innodb/buffer_pool_pages_data", "", "Pages with data."), &["innodb_buffer_pool_pages_data"]),
    (gauge("innodb/row_lock_current_waits", "", "Row locks waited for now."), &["innodb_row_lock_current_waits"]),
    (counter("innodb/row_lock_waits", "", "Row locks that were waited for."), &["innodb_row_lock_waits"]),
    (
        counter("innodb/row_lock_time", "milliseconds", "Time spent with waits for row locks."),
        &["innodb_row_lock_time"],
    ),
    (counter("innodb/data_read", "bytes", "Data read."), &["innodb_data_read"]),
    (counter("innodb/data_written", "bytes", "Data written."), &["innodb_data_written"]),
    (
        gauge("rpl_semi_sync_master_tx_avg_wait_time", "microseconds", "The average wait for a follower's receipt."),
        &["rpl_semi_sync_master_tx_avg_wait_time", "rpl_semi_sync_source_tx_avg_wait_time"],
    ),
    (
        counter("rpl_semi_sync_master_no_tx", "", "Commits that no follower acknowledged."),
        &["rpl_semi_sync_master_no_tx", "rpl_semi_sync_source_no_tx"],
    ),
    (
        gauge("rpl_semi_sync_master_wait_sessions", "", "Sessions that wait for a follower's receipt."),
        &["rpl_semi_sync_master_wait_sessions", "rpl_semi_sync_source_wait_sessions"],
    ),
];

type OfChannel = fn(&Replication) -> Option<f64>;
type OfDisk = fn(&Disk) -> f64;

/// Of the channel of a follower; one that is not known is left out.
pub(super) const FOLLOWER: [(Metric, OfChannel); 5] = [
    (
        gauge("follower/seconds_behind_master", "", "Lag in the server's own estimate; -1 while it cannot tell."),
        super::seconds_behind,
    ),
    (
        gauge(
            "follower/seconds_since_leader_heartbeat",
            "",
            "Age of the last heartbeat of the leader that is applied.",
        ),
        |channel| channel.seconds_since_leader_heartbeat,
    ),
    (gauge("follower/relay_log_space", "bytes", "Size of the relay log."), |channel| {
        channel.relay_log_space.map(|bytes| bytes as f64)
    }),
    (gauge("follower/slave_io_running", "", "The receiver is connected."), super::receives),
    (gauge("follower/slave_sql_running", "", "The applier runs."), |channel| {
        Some(super::flag(channel.applier_running))
    }),
];

/// A file system, in bytes.
pub(super) struct Disk {
    pub(super) used: u64,
    /// What a process that is not root may take.
    pub(super) free: u64,
    pub(super) inodes_used: u64,
    pub(super) inodes_free: u64,
}

/// Of each disk; `system/persistent_` or `system/ephemeral_` stands before the name. Percentages are whole numbers.
pub(super) const DISK: [(Metric, OfDisk); 6] = [
    (gauge("disk_used_percent", "", "Space used."), |disk| percent(disk.used, disk.free)),
    (gauge("disk_used", "kilobytes", "Space used."), |disk| (disk.used >> 10) as f64),
    (gauge("disk_free", "kilobytes", "Space free."), |disk| (disk.free >> 10) as f64),
    (gauge("disk_inodes_used_percent", "", "Inodes used."), |disk| percent(disk.inodes_used, disk.inodes_free)),
    (gauge("disk_inodes_used", "", "Inodes used."), |disk| disk.inodes_used as f64),
    (gauge("disk_inodes_free", "", "Inodes free."), |disk| disk.inodes_free as f64),
];

fn percent(used: u64, free: u64) -> f64 {
    // A file system without a limit on inodes says 0 of both.
    let share = u128::from(used) * 100 / u128::from(used + free).max(1);
    share as f64
}
