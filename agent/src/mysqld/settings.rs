//! PURE. The server's configuration file: which settings, and how large on this VM. It holds no secret.
//!
//! What decides safety is at the top of the file and has no knob: the server starts read-only with replication stopped, so
//! the state after any start is the safe one; only the agent changes it, through a statement, never through this file.

use std::path::PathBuf;

/// What the file depends on.
pub(crate) struct Vm {
    pub(crate) data: PathBuf,
    pub(crate) temporary: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) address: std::net::IpAddr,
    pub(crate) index: u32,
    pub(crate) ram_mb: u64,
    pub(crate) is_pair: bool,
    /// The server refuses to run as root unless it is told to.
    pub(crate) is_root: bool,
}

/// The redo log: 256 MB as the product has it, less where that would be most of a small VM. A server that finds another
/// size than this one rebuilds its log at the start, so the template of the data directory is made with the same.
pub(crate) fn redo_log_mb(ram_mb: u64) -> u64 {
    (ram_mb / 16).clamp(16, 256)
}

/// The text of `my.cnf`.
pub(crate) fn my_cnf(vm: &Vm) -> String {
    let mut text = String::from("# Written by mysql-agent at every start of the server; changes are lost.\n[mysqld]\n");
    let mut set = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str(" = ");
        text.push_str(value);
        text.push('\n');
    };
    set_safety(&mut set);
    set_place(vm, &mut set);
    set_size(vm, &mut set);
    set_manners(&mut set);
    if vm.is_pair {
        set_replication(&mut set);
    }
    text
}

fn set_safety(set: &mut impl FnMut(&str, &str)) {
    for (name, value) in [
        ("read_only", "ON"),
        ("skip_slave_start", "ON"),
        ("event_scheduler", "OFF"), // the agent turns it on together with writing
        ("gtid_strict_mode", "ON"),
        ("log_bin", "mysql-bin"),
        ("log_slave_updates", "ON"),
        ("binlog_format", "ROW"),
        ("sync_binlog", "1"),
        ("innodb_flush_log_at_trx_commit", "1"),
        ("innodb_flush_method", "fsync"),
    ] {
        set(name, value);
    }
}

fn set_place(vm: &Vm, set: &mut impl FnMut(&str, &str)) {
    let path = |path: PathBuf| path.display().to_string();
    if vm.is_root {
        set("user", "root");
    }
    set("datadir", &path(vm.data.clone()));
    set("tmpdir", &path(vm.temporary.clone()));
    set("socket", &path(vm.socket.clone()));
    set("pid_file", &path(vm.run.join("mysqld.pid")));
    set("init_file", &path(vm.run.join("init.sql")));
    set("log_error", &path(vm.log.join("mysqld.log")));
    set("bind_address", &vm.address.to_string());
    set("port", &agent::api::MYSQL_PORT.to_string());
    set("server_id", &(1 + vm.index).to_string());
    // One domain: a pair has one leader at a time, so its transactions are one sequence.
    set("gtid_domain_id", "0");
}

fn set_size(vm: &Vm, set: &mut impl FnMut(&str, &str)) {
    let mut set_mb = |name: &str, mb: u64| set(name, &format!("{mb}M"));
    set_mb("innodb_buffer_pool_size", (vm.ram_mb / 2).max(32));
    set_mb("innodb_log_file_size", redo_log_mb(vm.ram_mb));
    set_mb("innodb_log_buffer_size", (vm.ram_mb / 16).clamp(4, 32));
    // MyISAM and Aria hold little beside system and temporary tables; their defaults are 128 MB each.
    set_mb("key_buffer_size", 8);
    set_mb("aria_pagecache_buffer_size", (vm.ram_mb / 32).clamp(8, 64));
    set_mb("max_allowed_packet", 256);
    set_mb("max_binlog_size", 512);
    set("max_connections", "5000");
    set("table_definition_cache", "8192");
    set("expire_logs_days", "3");
}

fn set_manners(set: &mut impl FnMut(&str, &str)) {
    for (name, value) in [
        ("character_set_server", "utf8"),
        ("collation_server", "utf8_general_ci"),
        ("innodb_autoinc_lock_mode", "2"),
        ("log_bin_trust_function_creators", "ON"),
        ("lower_case_table_names", "0"),
        ("skip_name_resolve", "ON"),
        ("symbolic_links", "OFF"),
        ("myisam_recover_options", "BACKUP,FORCE"),
        ("performance_schema", "OFF"),
    ] {
        set(name, value);
    }
}

fn set_replication(set: &mut impl FnMut(&str, &str)) {
    for (name, value) in [
        ("relay_log", "mysql-relay"),
        // The product has ON. On MariaDB that throws the relay log away at every start, and with it transactions that
        // only this follower has received when the leader is gone; the agent reads them back before it promotes.
        ("relay_log_recovery", "OFF"),
        ("slave_net_timeout", "4"),
        ("binlog_row_image", "MINIMAL"),
        ("master_verify_checksum", "ON"),
        ("slave_sql_verify_checksum", "ON"),
    ] {
        set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(ram_mb: u64) -> Vm {
        Vm {
            data: "/v/store/mysql/data".into(),
            temporary: "/v/data/mysql".into(),
            run: "/v/sys/run/mysql".into(),
            log: "/v/sys/log/mysql".into(),
            socket: "/v/sys/run/mysql/mysqld.sock".into(),
            address: "127.83.0.1".parse().unwrap(),
            index: 1,
            ram_mb,
            is_pair: true,
            is_root: false,
        }
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|l| l == line)
    }

    #[test]
    fn every_start_is_read_only_with_replication_stopped() {
        for is_pair in [true, false] {
            let text = my_cnf(&Vm { is_pair, ..vm(512) });
            for line in ["read_only = ON", "skip_slave_start = ON", "sync_binlog = 1", "gtid_strict_mode = ON"] {
                assert!(has(&text, line), "{line} in {text}");
            }
        }
    }

    #[test]
    fn the_server_fits_its_vm() {
        for (ram_mb, pool, redo) in
            [(64, "32M", "16M"), (256, "128M", "16M"), (512, "256M", "32M"), (8192, "4096M", "256M")]
        {
            let text = my_cnf(&vm(ram_mb));
            assert!(has(&text, &format!("innodb_buffer_pool_size = {pool}")), "{text}");
            assert!(has(&text, &format!("innodb_log_file_size = {redo}")), "{text}");
        }
    }

    #[test]
    fn a_single_node_has_no_replication_settings_and_root_is_named_only_for_root() {
        let text = my_cnf(&Vm { is_pair: false, ..vm(512) });

        assert!(!text.contains("relay_log"));
        assert!(!text.contains("user ="));
        assert!(has(&my_cnf(&Vm { is_root: true, ..vm(512) }), "user = root"));
        assert!(has(&text, "server_id = 2"));
    }
}
