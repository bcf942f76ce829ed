//! The user's configuration of a service instance: `-c '{"replication_mode": "semi-sync"}'`.

mod server;
pub(crate) mod texts;

use broker::osb::Object;
use serde_json::Value;

use super::schema;
use crate::catalog::{ReplicationMode, Topology};
pub(crate) use server::{ServerParameters, Workload, check_lasting};

/// The longest that both server families take: "for ever".
pub(crate) const LONGEST_ACK_TIMEOUT_MS: u64 = i64::MAX.unsigned_abs();

/// The longest name that an error text repeats.
const NAME_LIMIT: usize = 64;

const REPLICATION_MODE: &str = "replication_mode";
const ACK_TIMEOUT: &str = "semi_sync_ack_timeout_in_ms";

/// What the user asked for; the plan decides the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) replication_mode: Option<ReplicationMode>,
    pub(crate) semi_sync_ack_timeout_in_ms: Option<u64>,
    pub(crate) server: ServerParameters,
}

impl Parameters {
    /// Understand the parameters, or complain of every one that cannot be used.
    pub(crate) fn parse(topology: Topology, given: &Object) -> Result<Parameters, Vec<String>> {
        let mut parameters = Parameters::default();
        let mut complaints = Vec::new();
        for (name, value) in given {
            if let Err(complaint) = parameters.take(topology, name, value) {
                complaints.push(complaint);
            }
        }
        complaints.extend(parameters.server.check().err());
        if complaints.is_empty() { Ok(parameters) } else { Err(complaints) }
    }

    fn take(&mut self, topology: Topology, name: &str, value: &Value) -> Result<(), String> {
        match name {
            _ if !schema::has(&schema::of_instance(topology), name) => return Err(not_an_option(name)),
            REPLICATION_MODE => {
                self.replication_mode = Some(word(name, value, &ReplicationMode::ALL, ReplicationMode::name)?);
            }
            ACK_TIMEOUT => self.semi_sync_ack_timeout_in_ms = Some(ack_timeout(value)?),
            _ if self.server.take(name, value)? => {}
            _ => return Err(not_an_option(name)),
        }
        Ok(())
    }
}

/// The words for a parameter that there is not, or not in this plan.
/// A name that no parameter could have is not repeated.
pub(crate) fn not_an_option(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.len() > NAME_LIMIT || !name.chars().all(is_plain) {
        return "a configuration parameter with an unusual name is not a valid option".into();
    }
    format!("the configuration parameter '{name}' is not a valid option")
}

/// The value of a type that has a word for each of its values.
fn word<T: Copy>(parameter: &str, value: &Value, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|known| value.as_str() == Some(name(*known)));
    found.ok_or_else(|| {
        let quoted: Vec<String> = all.iter().map(|known| format!("\"{}\"", name(*known))).collect();
        let words = quoted.split_last().map_or(String::new(), |(last, rest)| format!("{} or {last}", rest.join(", ")));
        format!("the configuration parameter '{parameter}' must be {words}")
    })
}

fn ack_timeout(value: &Value) -> Result<u64, String> {
    let timeout = value.as_u64().filter(|timeout| (1..=LONGEST_ACK_TIMEOUT_MS).contains(timeout));
    timeout.ok_or_else(|| {
        format!("the configuration parameter '{ACK_TIMEOUT}' must be an integer from 1 to {LONGEST_ACK_TIMEOUT_MS}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(topology: Topology, given: Value) -> Result<Parameters, Vec<String>> {
        Parameters::parse(topology, given.as_object().unwrap())
    }

    #[test]
    fn a_pair_takes_its_replication_mode_and_how_long_a_commit_waits() {
        for (given, mode, timeout) in [
            (json!({}), None, None),
            (json!({"replication_mode": "async"}), Some(ReplicationMode::Async), None),
            (json!({"replication_mode": "semi-sync"}), Some(ReplicationMode::SemiSync), None),
            (json!({"semi_sync_ack_timeout_in_ms": 1}), None, Some(1)),
            (
                json!({"replication_mode": "semi-sync", "semi_sync_ack_timeout_in_ms": 9_223_372_036_854_775_807_u64}),
                Some(ReplicationMode::SemiSync),
                Some(9_223_372_036_854_775_807),
            ),
        ] {
            let expected =
                Parameters { replication_mode: mode, semi_sync_ack_timeout_in_ms: timeout, ..Parameters::default() };
            assert_eq!(parse(Topology::LeaderFollower, given.clone()), Ok(expected), "{given}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_the_ones_that_can() {
        let modes = "'replication_mode' must be \"async\" or \"semi-sync\"";
        let times = "'semi_sync_ack_timeout_in_ms' must be an integer from 1 to 9223372036854775807";
        for (given, words) in [
            (json!({"replication_mode": "sync"}), modes),
            (json!({"replication_mode": "Async"}), modes),
            (json!({"replication_mode": null}), modes),
            (json!({"replication_mode": ["async"]}), modes),
            (json!({"semi_sync_ack_timeout_in_ms": 0}), times),
            (json!({"semi_sync_ack_timeout_in_ms": -1}), times),
            (json!({"semi_sync_ack_timeout_in_ms": 1.5}), times),
            (json!({"semi_sync_ack_timeout_in_ms": "1000"}), times),
            (json!({"semi_sync_ack_timeout_in_ms": 9_223_372_036_854_775_808_u64}), times),
            (json!({"Replication_mode": "async"}), "'Replication_mode' is not a valid option"),
        ] {
            let complaints = parse(Topology::LeaderFollower, given.clone()).unwrap_err();
            assert!(complaints.len() == 1 && complaints[0].contains(words), "{given}: {complaints:?}");
        }
    }

    #[test]
    fn a_single_node_has_nothing_to_replicate_to() {
        let given = json!({"replication_mode": "async", "semi_sync_ack_timeout_in_ms": 1000});
        let complaints = parse(Topology::SingleNode, given).unwrap_err();
        assert_eq!(complaints, [not_an_option(REPLICATION_MODE), not_an_option(ACK_TIMEOUT)]);
    }
}
