//! PURE. What only MariaDB's configuration file has.

use super::{Vm, redo_log_mb, set_all};

pub(super) fn set(vm: &Vm, set: &mut impl FnMut(&str, &str)) {
    set_all(set, &ALWAYS);
    set("innodb_log_file_size", &format!("{}M", redo_log_mb(vm)));
    // Aria holds little beside system and temporary tables; its default is 128 MB.
    set("aria_pagecache_buffer_size", &format!("{}M", (vm.ram_mb / 32).clamp(8, 64)));
    if vm.is_pair {
        set_all(set, &REPLICATION);
    }
}

const ALWAYS: [(&str, &str); 9] = [
    ("read_only", "ON"),
    ("skip_slave_start", "ON"),
    ("gtid_strict_mode", "ON"),
    // One domain: a pair has one leader at a time, so its transactions are one sequence.
    ("gtid_domain_id", "0"),
    ("log_slave_updates", "ON"),
    ("binlog_format", "ROW"),
    ("expire_logs_days", "3"),
    ("innodb_autoinc_lock_mode", "2"),
    ("symbolic_links", "OFF"),
];

const REPLICATION: [(&str, &str); 4] = [
    ("slave_net_timeout", "4"),
    ("master_verify_checksum", "ON"),
    ("slave_sql_verify_checksum", "ON"),
    // A commit waits before it becomes visible, where it waits at all. The default is behind that.
    ("rpl_semi_sync_master_wait_point", "AFTER_SYNC"),
];
