//! PURE. What only MySQL's configuration file has, from 8.4 on. Its defaults are the product's settings more often than
//! MariaDB's are.

use super::{Vm, redo_log_mb, set_all};

pub(super) fn set(vm: &Vm, set: &mut impl FnMut(&str, &str)) {
    set_all(set, &ALWAYS);
    set("innodb_redo_log_capacity", &format!("{}M", redo_log_mb(vm)));
    if vm.is_pair {
        set_all(set, &REPLICATION);
    }
}

const ALWAYS: [(&str, &str); 9] = [
    // `read_only` as well: not even the agent writes before it has said that it will.
    ("super_read_only", "ON"),
    ("skip_replica_start", "ON"),
    ("enforce_gtid_consistency", "ON"),
    ("gtid_mode", "ON"),
    ("log_replica_updates", "ON"),
    ("binlog_expire_logs_seconds", "259200"),
    // Another protocol on another port, which nobody guards.
    ("mysqlx", "OFF"),
    // Nothing is read from or written to the server's files by a statement.
    ("secure_file_priv", "NULL"),
    ("local_infile", "OFF"),
];

const REPLICATION: [(&str, &str); 8] = [
    ("replica_net_timeout", "4"),
    ("replica_preserve_commit_order", "ON"),
    ("source_verify_checksum", "ON"),
    ("replica_sql_verify_checksum", "ON"),
    ("plugin_load_add", "semisync_source.so"),
    ("plugin_load_add", "semisync_replica.so"),
    // For a new follower's copy of the data.
    ("plugin_load_add", "mysql_clone.so"),
    ("rpl_semi_sync_source_wait_point", "AFTER_SYNC"),
];
