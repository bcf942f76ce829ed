//! PURE. What depends on the parameters of the service instance: memory, logs, names and texts.

use super::Vm;
use crate::instance::{Parameters, Workload};
use crate::mysql::Family;

/// The product's, for large transactions and the rows of backups.
const LARGE_MB: u64 = 1024;
/// MySQL rounds its buffer pool up to a multiple of this many, which may be as much again on a small VM.
const SMALL_CHUNK_MB: u64 = 32;

/// The redo log: 256 MB as the product has it, less where that would be most of a small VM; 1 GB where it was asked for. A
/// server that finds another size than this one rebuilds its log at the start, so the template of the data directory is made
/// with the same.
pub(crate) fn redo_log_mb(vm: &Vm) -> u64 {
    match vm.parameters.workload {
        Workload::Mixed | Workload::ReadHeavy => (vm.ram_mb / 16).clamp(16, 256),
        Workload::WriteHeavy => LARGE_MB,
    }
}

pub(super) fn set(vm: &Vm, family: Family, set: &mut impl FnMut(&str, &str)) {
    set_workload(vm, family, set);
    set_texts(&vm.parameters, family, set);
    set("lower_case_table_names", lower_case_table_names(vm));
    if vm.parameters.optimize_for_short_words {
        set("innodb_ft_min_token_size", "1");
        set("ft_min_word_len", "1");
    }
}

/// MySQL keeps it from the time on at which the data directory is made.
pub(crate) fn lower_case_table_names(vm: &Vm) -> &'static str {
    if vm.parameters.enable_lower_case_table_names { "1" } else { "0" }
}

fn set_workload(vm: &Vm, family: Family, set: &mut impl FnMut(&str, &str)) {
    let (pool_mb, flush_method, packet_mb) = match vm.parameters.workload {
        Workload::Mixed => (vm.ram_mb / 2, "fsync", 256),
        Workload::ReadHeavy => (vm.ram_mb * 3 / 4, "O_DIRECT", 256),
        Workload::WriteHeavy => (vm.ram_mb * 3 / 4, "O_DIRECT", LARGE_MB),
    };
    let pool_mb = pool_mb.max(32);
    set("innodb_buffer_pool_size", &format!("{pool_mb}M"));
    if family == Family::MySql && pool_mb < LARGE_MB {
        set("innodb_buffer_pool_chunk_size", &format!("{SMALL_CHUNK_MB}M"));
    }
    set("innodb_flush_method", flush_method);
    set("max_allowed_packet", &format!("{packet_mb}M"));
}

/// MySQL's own default is the better one where nothing was asked for; MariaDB's is Latin.
fn set_texts(parameters: &Parameters, family: Family, set: &mut impl FnMut(&str, &str)) {
    match (&parameters.default_charset, &parameters.default_collation, family) {
        (None, None, Family::MariaDb) => {
            set("character_set_server", "utf8");
            set("collation_server", "utf8_general_ci");
        }
        (None, None, Family::MySql) => {}
        // The server takes what it was not told from the other one.
        (charset, collation, Family::MariaDb | Family::MySql) => {
            charset.iter().for_each(|charset| set("character_set_server", charset.as_str()));
            collation.iter().for_each(|collation| set("collation_server", collation.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{has, vm};
    use super::super::{Vm, my_cnf};
    use super::*;

    fn text(family: Family, ram_mb: u64, parameters: serde_json::Value) -> String {
        let parameters = serde_json::from_value(parameters).unwrap();
        my_cnf(&Vm { parameters, ..vm(ram_mb) }, family)
    }

    #[test]
    fn a_workload_has_its_share_of_the_memory_and_its_logs() {
        for (workload, pool, flush, packet, redo) in [
            ("mixed", "1024M", "fsync", "256M", "128M"),
            ("read-heavy", "1536M", "O_DIRECT", "256M", "128M"),
            ("write-heavy", "1536M", "O_DIRECT", "1024M", "1024M"),
        ] {
            for (family, log) in
                [(Family::MariaDb, "innodb_log_file_size"), (Family::MySql, "innodb_redo_log_capacity")]
            {
                let text = text(family, 2048, serde_json::json!({"workload": workload}));
                for (name, value) in [
                    ("innodb_buffer_pool_size", pool),
                    ("innodb_flush_method", flush),
                    ("max_allowed_packet", packet),
                    (log, redo),
                ] {
                    assert!(has(&text, &format!("{name} = {value}")), "{workload}: {name} = {value} in {text}");
                }
            }
        }
    }

    #[test]
    fn texts_are_as_asked_for_or_as_each_family_has_them() {
        let lines = |text: &str| -> Vec<String> {
            let is_of_texts = |line: &&str| line.starts_with("character_set") || line.starts_with("collation");
            text.lines().filter(is_of_texts).map(String::from).collect()
        };
        let of = |family, asked| lines(&text(family, 512, asked));
        let nothing = serde_json::json!({});
        assert_eq!(of(Family::MySql, nothing.clone()), Vec::<String>::new());
        assert_eq!(of(Family::MariaDb, nothing), ["character_set_server = utf8", "collation_server = utf8_general_ci"]);
        for family in [Family::MariaDb, Family::MySql] {
            let charset = serde_json::json!({"default-charset": "latin1"});
            assert_eq!(of(family, charset), ["character_set_server = latin1"]);
            let both = serde_json::json!({"default-charset": "utf8mb4", "default-collation": "utf8mb4_bin"});
            assert_eq!(of(family, both), ["character_set_server = utf8mb4", "collation_server = utf8mb4_bin"]);
        }
    }

    #[test]
    fn each_setting_is_there_once_with_whatever_was_asked_for() {
        let all = serde_json::json!({
            "workload": "write-heavy", "default-charset": "utf8mb4", "default-collation": "utf8mb4_bin",
            "enable_lower_case_table_names": true, "optimize_for_short_words": true,
        });
        for family in [Family::MariaDb, Family::MySql] {
            let text = text(family, 512, all.clone());
            for line in ["lower_case_table_names = 1", "innodb_ft_min_token_size = 1", "ft_min_word_len = 1"] {
                assert!(has(&text, line), "{line} in {text}");
            }
            let names = text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
            let mut names: Vec<_> = names.filter(|name| *name != "plugin_load_add").collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{text}");
        }
    }
}
