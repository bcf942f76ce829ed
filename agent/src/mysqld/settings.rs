//! PURE. The server's configuration file: which settings, and how large on this VM. It holds no secret.
//!
//! What decides safety is at the top of the file and has no knob: the server starts read-only with replication stopped, so
//! the state after any start is the safe one; only the agent changes it, through a statement, never through this file.

mod asked;
mod mariadb;
mod mysql8;

use std::path::PathBuf;

use crate::instance::Parameters;
use crate::mysql::Family;
pub(crate) use asked::{lower_case_table_names, redo_log_mb};

/// What the file depends on.
#[derive(Clone, Debug)]
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
    /// Commits wait for the follower, each at most for so long.
    pub(crate) ack_timeout_ms: Option<u64>,
    /// The server refuses to run as root unless it is told to.
    pub(crate) is_root: bool,
    pub(crate) parameters: Parameters,
}

/// The text of `my.cnf`.
pub(crate) fn my_cnf(vm: &Vm, family: Family) -> String {
    let mut text = String::from("# Written by mysql-agent at every start of the server; changes are lost.\n[mysqld]\n");
    let mut set = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str(" = ");
        text.push_str(value);
        text.push('\n');
    };
    set_all(&mut set, &SAFETY);
    set_place(vm, &mut set);
    set_size(vm, &mut set);
    asked::set(vm, family, &mut set);
    set_all(&mut set, &MANNERS);
    if vm.is_pair {
        set_all(&mut set, &REPLICATION);
    }
    match family {
        Family::MariaDb => mariadb::set(vm, &mut set),
        Family::MySql => mysql8::set(vm, &mut set),
    }
    if let Some(ack_timeout_ms) = vm.ack_timeout_ms {
        set_semi_sync(ack_timeout_ms, family, &mut set);
    }
    text
}

const SAFETY: [(&str, &str); 4] = [
    ("event_scheduler", "OFF"), // the agent turns it on together with writing
    ("log_bin", "mysql-bin"),
    ("sync_binlog", "1"),
    ("innodb_flush_log_at_trx_commit", "1"),
];

const MANNERS: [(&str, &str); 4] = [
    ("log_bin_trust_function_creators", "ON"),
    ("skip_name_resolve", "ON"),
    ("myisam_recover_options", "BACKUP,FORCE"),
    ("performance_schema", "OFF"),
];

const REPLICATION: [(&str, &str); 3] = [
    ("relay_log", "mysql-relay"),
    // The product has ON. That throws the relay log away at every start, and with it transactions that only this
    // follower has received when the leader is gone.
    ("relay_log_recovery", "OFF"),
    ("binlog_row_image", "MINIMAL"),
];

fn set_all(set: &mut impl FnMut(&str, &str), settings: &[(&str, &str)]) {
    for (name, value) in settings {
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
}

fn set_size(vm: &Vm, set: &mut impl FnMut(&str, &str)) {
    let mut set_mb = |name: &str, mb: u64| set(name, &format!("{mb}M"));
    set_mb("innodb_log_buffer_size", (vm.ram_mb / 16).clamp(4, 32));
    // MyISAM holds little; its default is 128 MB.
    set_mb("key_buffer_size", 8);
    set_mb("max_binlog_size", 512);
    set("max_connections", "5000");
    set("table_definition_cache", "8192");
}

/// The side that makes commits wait is switched on by the agent of the leader, while the follower is there; on a follower it
/// would make the applier wait for nobody. The wait point is each family's, in every pair.
fn set_semi_sync(ack_timeout_ms: u64, family: Family, set: &mut impl FnMut(&str, &str)) {
    let (source, replica) = match family {
        Family::MariaDb => ("master", "slave"),
        Family::MySql => ("source", "replica"),
    };
    set(&format!("rpl_semi_sync_{source}_timeout"), &ack_timeout_ms.to_string());
    set(&format!("rpl_semi_sync_{source}_enabled"), "OFF");
    set(&format!("rpl_semi_sync_{source}_wait_no_{replica}"), "ON");
    set(&format!("rpl_semi_sync_{replica}_enabled"), "ON");
    // What the follower has acknowledged is on its disk.
    set("sync_relay_log", "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn vm(ram_mb: u64) -> Vm {
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
            ack_timeout_ms: None,
            is_root: false,
            parameters: Parameters::default(),
        }
    }

    pub(super) fn has(text: &str, line: &str) -> bool {
        text.lines().any(|l| l == line)
    }

    #[test]
    fn every_start_is_read_only_with_replication_stopped() {
        let mariadb = ["read_only = ON", "skip_slave_start = ON", "gtid_strict_mode = ON"];
        let mysql = ["super_read_only = ON", "skip_replica_start = ON", "gtid_mode = ON"];
        for (family, lines) in [(Family::MariaDb, mariadb), (Family::MySql, mysql)] {
            for is_pair in [true, false] {
                let text = my_cnf(&Vm { is_pair, ..vm(512) }, family);
                for line in lines.iter().chain(&["sync_binlog = 1", "event_scheduler = OFF"]) {
                    assert!(has(&text, line), "{line} in {text}");
                }
            }
        }
    }

    #[test]
    fn only_a_plan_that_waits_for_the_follower_has_the_settings_for_it() {
        for (family, lines) in [
            (
                Family::MariaDb,
                [
                    "rpl_semi_sync_master_timeout = 7",
                    "rpl_semi_sync_master_enabled = OFF",
                    "rpl_semi_sync_master_wait_no_slave = ON",
                    "rpl_semi_sync_slave_enabled = ON",
                ],
            ),
            (
                Family::MySql,
                [
                    "rpl_semi_sync_source_timeout = 7",
                    "rpl_semi_sync_source_enabled = OFF",
                    "rpl_semi_sync_source_wait_no_replica = ON",
                    "rpl_semi_sync_replica_enabled = ON",
                ],
            ),
        ] {
            let text = my_cnf(&Vm { ack_timeout_ms: Some(7), ..vm(512) }, family);
            for line in lines.into_iter().chain(["sync_relay_log = 1"]) {
                assert!(has(&text, line), "{line} in {text}");
            }
            let text = my_cnf(&vm(512), family);
            assert!(!text.contains("_enabled = ON") && !text.contains("sync_relay_log"), "{text}");
        }
    }

    #[test]
    fn the_server_fits_its_vm() {
        for (ram_mb, pool, redo) in
            [(64, "32M", "16M"), (256, "128M", "16M"), (512, "256M", "32M"), (8192, "4096M", "256M")]
        {
            for (family, log) in
                [(Family::MariaDb, "innodb_log_file_size"), (Family::MySql, "innodb_redo_log_capacity")]
            {
                let text = my_cnf(&vm(ram_mb), family);
                assert!(has(&text, &format!("innodb_buffer_pool_size = {pool}")), "{text}");
                assert!(has(&text, &format!("{log} = {redo}")), "{text}");
            }
        }
    }

    #[test]
    fn a_single_node_has_no_replication_settings_and_root_is_named_only_for_root() {
        for family in [Family::MariaDb, Family::MySql] {
            let text = my_cnf(&Vm { is_pair: false, ..vm(512) }, family);

            assert!(!text.contains("relay_log") && !text.contains("semi_sync"));
            assert!(!text.contains("user ="));
            assert!(has(&my_cnf(&Vm { is_root: true, ..vm(512) }, family), "user = root"));
            assert!(has(&text, "server_id = 2"));
        }
    }
}
