//! The wire types of the agent's HTTP API on port 8008. JSON, mutual TLS, except `GET /v1/leader`, which load balancers
//! and health checks may ask without a certificate.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/leader` | | 200 on the writable leader, 503 elsewhere |
//! | `GET /v1/status` | | 200 [`Status`]; 503 [`Problem`] while the server does not answer |
//! | `GET /v1/inspection` | | 200 [`Inspection`]: the status of both servers and a verdict; 503 as above |
//! | `GET /metrics` | | 200, Prometheus text, also while the server does not answer |
//! | `POST /v1/commands/:command` | | 200, one [`Event`] for each line (NDJSON), the last one an outcome |
//! | `POST /v1/commands/:command?dry_run=true` | | the same: what the command would do, and nothing is done |
//! | `PUT /v1/users/:name` | [`User`] | 200 [`UserMade`]; 409 [`Problem`] where the server is not the writable leader, or another's user has the name |
//! | `DELETE /v1/users/:name` | | 200 `{}`, also when there was no such user; 409 as above |
//!
//! And what the two agents of a pair ask each other while one of them carries out a command. Each step takes the asked
//! agent's busy flag for as long as it runs and answers 409 `Busy` where that is up already.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `POST /v1/steps/follow` | [`Follow`] | events as above: this server replicates from the leader, with its data copied first where it must be |
//! | `POST /v1/steps/lead` | | events: this server is writable; refused while the other one is |
//! | `POST /v1/steps/yield` | | events: this server, which led, is read-only and has laid its leadership down |
//! | `POST /v1/steps/receive` | [`Position`] | events: this server has received every transaction of the position |
//! | `POST /v1/steps/prepare-promotion` | [`Position`] | 200 [`Ticket`]: everything of the position is applied |
//! | `POST /v1/steps/succeed` | [`Succession`] | 200 [`Successor`]: the leader's server is dead, and this follower is fit to be promoted |
//! | `POST /v1/steps/promote` | [`Promotion`] | 200 `{}`: this server was a follower and is the writable leader now |
//! | `GET /v1/backup` | | 200, a physical backup of the data as `mbstream` |
//!
//! And how the three voters of a pair, both agents and the witness, agree on one leader ([`crate::quorum`] has the rules).
//! The witness serves only these, on [`WITNESS_PORT`], and knows the pair by the name in the client's certificate.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `POST /v1/voter/renew` | [`Renewal`](crate::quorum::Renewal) | 200 [`Answer`](crate::quorum::Answer) |
//! | `POST /v1/voter/vote` | [`Ballot`](crate::quorum::Ballot) | 200 [`Answer`](crate::quorum::Answer) |
//! | `POST /v1/voter/release` | [`Release`](crate::quorum::Release) | 200 `{}` |

mod inspection;
mod saved;
mod semi_sync;
mod steps;
mod user;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quorum::Record;
pub use inspection::{Inspection, Verdict};
pub use saved::Saved;
pub use semi_sync::SemiSync;
pub use steps::{Follow, Position, Promotion, Succession, Successor, Ticket};
pub use user::{Access, NAME_LIMIT, SCHEMA_LIMIT, User, UserMade, check_schema, check_user_name};

/// The port of the agent's HTTP API.
pub const PORT: u16 = 8008;

/// For how long a command or a step waits while the agent is busy with a recovery, before it is answered 409 `Busy`. A recovery
/// that only looks is done in moments, or in seconds where the peer does not answer; one that copies data takes longer.
pub const TURN_LIMIT: Duration = Duration::from_secs(20);

/// The port of the MySQL server beside the agent.
pub const MYSQL_PORT: u16 = 3306;

/// The port on which the broker is the witness of its pairs.
pub const WITNESS_PORT: u16 = 8009;

/// The name in the broker's client certificate. An agent obeys this name and its own deployment's, nobody else's.
pub const BROKER_NAME: &str = "mysql-broker";

/// The name in the certificates of a deployment's agents and errands: the deployment's name in BOSH's canonical form
/// (lower case, `_` as `-`, other characters dropped; "Native DNS support" in the BOSH documentation).
#[must_use]
pub fn certificate_name(deployment: &str) -> String {
    deployment
        .chars()
        .map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect()
}

/// What an operator or the broker may ask an agent to do about its pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Find out who leads, make the other one follow, and make the leader writable.
    ConfigureLeaderFollower,
    /// Promote this follower, after everything that it received is applied.
    MakeLeader,
    /// As `MakeLeader`, without asking the other voters: a human vouches that the old leader is dead.
    ForceMakeLeader,
    /// Make this server read-only and wait until the peer has received its last transaction.
    MakeReadOnly,
    /// Planned hand-over from this leader to its follower in one step.
    Switchover,
    /// Make this follower the leader, whatever has become of the old one; that follows where it can.
    Failover,
    /// Let the commits of this leader go on without the follower, which is lost.
    DegradeSync,
    /// Have the commits of this leader wait for the follower again.
    RestoreSync,
}

impl Command {
    /// The name in paths, logs and error texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Command::ConfigureLeaderFollower => "configure-leader-follower",
            Command::MakeLeader => "make-leader",
            Command::ForceMakeLeader => "force-make-leader",
            Command::MakeReadOnly => "make-read-only",
            Command::Switchover => "switchover",
            Command::Failover => "failover",
            Command::DegradeSync => "degrade-sync",
            Command::RestoreSync => "restore-sync",
        }
    }
}

/// One line of the answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Progress, for a human.
    Message(String),
    /// The last line: the command did what it was asked, or there was nothing left to do.
    Succeeded,
    /// The last line: nothing was changed because a rule forbids it; the text says which and what to do.
    Refused(String),
    /// The last line: something went wrong on the way; the text says what, what state that leaves, what to do next.
    Failed(String),
}

/// What holds an agent's busy flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// A command of an operator or the broker.
    Command(Command),
    /// A step of a command that runs on the peer.
    PeerCommand,
    /// After a start or the end of the server: becoming what this server was before, or having a successor.
    Recovery,
}

impl std::fmt::Display for Activity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Activity::Command(command) => command.name(),
            Activity::PeerCommand => "a command of its peer",
            Activity::Recovery => "the recovery after a start",
        })
    }
}

/// Which part of a pair this server plays, read from the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Writable, not replicating.
    Leader,
    /// Read-only and replicating from its peer.
    Follower,
    /// Anything else.
    Unknown,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Unknown => "unknown",
        })
    }
}

/// How a commit waits for the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicationMode {
    /// It does not.
    Async,
    /// It waits for the follower's receipt.
    Semisync,
}

impl std::fmt::Display for ReplicationMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReplicationMode::Async => "async",
            ReplicationMode::Semisync => "semisync",
        })
    }
}

/// `GET /v1/status`: what `inspect` prints, and what the other side of a pair must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The instance in BOSH's words, `group/id`.
    pub instance: String,
    /// Its index within the group.
    pub index: u32,
    /// The address of the VM.
    pub ip_address: String,
    /// The part that this server plays.
    pub role: Role,
    /// `@@read_only`.
    pub read_only: bool,
    /// The server has a source to replicate from, running or not.
    pub replication_configured: bool,
    /// Asynchronous or semi-synchronous.
    pub replication_mode: ReplicationMode,
    /// The server has executed at least one transaction.
    pub has_data: bool,
    /// Every transaction executed, as the server family writes it; empty for none. From MariaDB this is the state of the
    /// binary log, the last transaction of each server that ever led, because the last one alone cannot show a divergence.
    pub gtid_executed: String,
    /// The replication channel, where one is configured.
    pub replication: Option<Replication>,
    /// The position before the oldest transaction that this server can still send to a follower; empty for none missing.
    pub gtid_purged: String,
    /// Transactions that a writable MySQL server is about to commit. One that waits for its follower's receipt is in the binary
    /// log, and the follower may have it, although `gtid_executed` does not.
    #[serde(default)]
    pub gtid_pending: String,
    /// What the agent does now; a second thing is refused until it is done.
    pub busy: Option<Activity>,
    /// The server's own version text.
    pub version: String,
    /// What this agent has agreed to about who leads.
    pub record: Record,
    /// How long this server may stay writable without another confirmation, in milliseconds; none on a server that does not
    /// lead, and in a pair without a witness.
    pub lease_ms: Option<u64>,
    /// How commits wait for the follower; none on a single node, and where the plan has them wait for nobody and they do.
    pub semi_sync: Option<SemiSync>,
    /// The last epoch in which this server was or may have been writable and has not followed since; 0 for none.
    #[serde(default)]
    pub led: u64,
    /// What only this server had each time that it was replaced as the leader, until an operator removes the files.
    #[serde(default)]
    pub saved: Vec<Saved>,
    /// Why the agent could not make its server what it should be, when it last tried; it goes on trying.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A follower's channel to its leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replication {
    /// The address of the source.
    pub source: String,
    /// The receiver thread.
    pub receiver: Receiver,
    /// The applier thread runs.
    pub applier_running: bool,
    /// The last transaction received, executed or not; empty for none.
    pub gtid_received: String,
    /// Seconds behind the source in the server's own estimate; none while it cannot tell.
    pub seconds_behind: Option<u64>,
    /// Seconds since the leader wrote the last heartbeat that is applied here, by the clocks of the two VMs: lag, and
    /// anything that keeps the leader from writing. None while there never was one.
    pub seconds_since_leader_heartbeat: Option<f64>,
    /// The size of the relay log in bytes.
    pub relay_log_space: Option<u64>,
    /// The last error of the receiver; empty for none.
    pub receiver_error: String,
    /// The last error of the applier; empty for none.
    pub applier_error: String,
}

/// The state of the receiver thread (`Slave_IO_Running`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Connected to the source.
    Connected,
    /// Trying to connect.
    Connecting,
    /// Not running.
    Stopped,
}

/// The body of every answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of problem, one word in camel case: `ServerUnavailable`, `ServerSilent`, `NotLeader`, `Busy`, `Refused`, `Taken`,
    /// `BadRequest`, `NotAllowed`, `NotFound`, `Internal`.
    pub error: String,
    /// A sentence that says what was wrong and what would be right.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_name_is_the_canonical_form_of_the_deployment() {
        assert_eq!(certificate_name("service-instance_0A9f-b"), "service-instance-0a9f-b");
    }

    #[test]
    fn the_last_event_of_a_command_is_a_plain_word_or_says_why() {
        let json = |event: &Event| serde_json::to_string(event).unwrap();
        assert_eq!(json(&Event::Succeeded), r#""succeeded""#);
        assert_eq!(json(&Event::Refused("no".into())), r#"{"refused":"no"}"#);
    }
}
