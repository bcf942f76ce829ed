//! What the agent says when it refuses or gives up, on real servers: the product's sentence where it has one, then the reason and
//! what to do, then what each server said of itself. A pair is shared by the cases of a file, from one state to the next.
//!
//! | the product's rule | here |
//! | --- | --- |
//! | make-leader: applier off, receiver on, wait for the applier | `make_leader` |
//! | make-leader: receiver connecting, or no channel, passes | `failover`, `fencing` |
//! | make-leader: semi-synchronous replication stays off | `sync::every_acknowledged_row_…` |
//! | make-read-only: the wait and its failures | `make_read_only` |
//! | make-read-only: neither kills sessions nor ends in time; ours does both | `demotion` |
//! | make-follower: an empty server is copied to | `seeding` |
//! | make-follower: unhealthy replication | `follow` |
//! | sync: not in time, not configured | `make_read_only` |
//! | configure-leader-follower: both agents must answer | `alone`, and the errand in `tests/errands.rs` |
//! | configure-leader-follower: each row of the decision table | `configure` |
//! | runbook: the leader or its zone is lost | `alone`, `failover`, `sync` |
//! | runbook: the old leader returns by itself, writable or not | `fencing`, `failover`, `tests/errands.rs` |
//! | runbook: the old leader has a subset, more, or lacks what is purged | `rejoin`, `seeding` |
//! | runbook: both read-only behind a reboot; ours opens the owner by itself | `failover::a_crashed_leader_…` |

mod alone;
mod configure;
mod follow;
mod make_leader;
mod make_read_only;

use agent::api::Command;

use crate::pair::{reaches, run};
use crate::vm::Vm;

/// Commands give up waiting for replication after this time here.
const WAIT_S: u64 = 2;

/// A refused command's text.
struct Refusal(String);

async fn refused(vm: &Vm, command: Command) -> Refusal {
    Refusal(run(vm, command).await.unwrap_err())
}

impl Refusal {
    fn begins(self, sentence: &str) -> Refusal {
        assert!(self.0.starts_with(sentence), "{sentence:?} is not at the beginning of: {}", self.0);
        self
    }

    /// The reason, or what to do next.
    fn says(self, words: &str) -> Refusal {
        assert!(self.0.contains(words), "{words:?} is not in: {}", self.0);
        self
    }

    /// Every server's state and history. What it had executed before the command is in it.
    fn with_state<const N: usize>(self, servers: [(&Vm, &str, &str); N]) -> Refusal {
        let (_, state) = self.0.split_once(". State: ").unwrap_or_else(|| panic!("no state is in: {}", self.0));
        for (vm, is, executed) in servers {
            let head = format!(" at {} ({is}, GTID executed ", vm.address);
            let told = state.split_once(&head).unwrap_or_else(|| panic!("{head:?} is not in: {}", self.0)).1;
            let told = told.split([';', ')']).next().unwrap();
            let history = told.split(", replicates").next().unwrap();
            assert!(executed.is_empty() == (history == "empty"), "{executed:?}: {}", self.0);
            assert!(executed.is_empty() || reaches(history, executed), "{executed:?}: {}", self.0);
        }
        self
    }

    /// As the other one sees it.
    fn with_silent(self, vm: &Vm) -> Refusal {
        let silence = format!("; {} gives no status (", vm.address);
        self.says(&silence)
    }
}

async fn executed(vm: &Vm) -> String {
    vm.until_up().await.gtid_executed
}
