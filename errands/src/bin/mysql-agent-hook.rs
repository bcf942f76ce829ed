//! `mysql-agent-hook`: what BOSH asks on the VM of a database beside the errands, in the scripts of the job `mysql-agent`.
//!
//! | hook | script | ends with 0 |
//! | --- | --- | --- |
//! | `dns-healthy` | `bin/dns/healthy` | on the writable leader |
//! | `post-start` | `bin/post-start` | when the agent answers; its server may still copy data when the time is over |
//! | `pre-stop` | `bin/pre-stop` | when the leadership is where it should be: handed over, or there was nothing to hand over |

use std::process::ExitCode;
use std::time::Duration;

use agent::api::{Command, Inspection, Role};
use agent::client;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use errands::{Arguments, Errand, Journal};
use tokio::time::{Instant, sleep, timeout};

/// Between two questions to the agent.
const PAUSE: Duration = Duration::from_millis(500);
/// An agent that was just started answers within this. One that does not was stopped, too, or is lost with its VM.
const AGENT_LIMIT: Duration = Duration::from_secs(5);
/// A health check that takes longer is a failed one.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

/// Answer what BOSH asks about the database on this VM.
#[derive(Parser)]
#[command(name = "mysql-agent-hook", version)]
struct Options {
    #[command(subcommand)]
    hook: Hook,
}

#[derive(Subcommand)]
enum Hook {
    /// Is the server on this VM the writable leader?
    DnsHealthy {
        #[command(flatten)]
        arguments: Arguments,
    },
    /// Wait until the agent on this VM answers, and its server where that takes no longer
    PostStart {
        #[command(flatten)]
        arguments: Arguments,
        #[arg(long, default_value_t = 120)]
        limit_in_seconds: u64,
    },
    /// Hand the leadership to the follower before this VM is stopped
    PreStop {
        #[command(flatten)]
        arguments: Arguments,
        /// For how long an unhealthy pair is waited for, and then for the switchover
        #[arg(long, default_value_t = 60)]
        limit_in_seconds: u64,
        /// What becomes of the deployment
        #[arg(long, env = "BOSH_DEPLOYMENT_NEXT_STATE", default_value = "keep")]
        deployment_next_state: NextState,
    },
}

/// BOSH's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NextState {
    Keep,
    Delete,
}

/// What to do before a stop.
#[derive(Debug, PartialEq, Eq)]
enum BeforeStop {
    HandOver,
    /// The follower may have been updated a moment ago, and is not fit yet.
    Wait(String),
    /// Nobody answers there.
    Look(String),
    /// There is nothing to hand over, or nobody to take it.
    Nothing(String),
}

fn main() -> ExitCode {
    match Options::parse().hook {
        Hook::DnsHealthy { arguments } => errands::perform("dns-healthy", arguments, Journal::Silent, is_writable),
        Hook::PostStart { arguments, limit_in_seconds } => {
            let limit = Duration::from_secs(limit_in_seconds);
            errands::perform("post-start", arguments, Journal::Spoken, async move |errand| answers(errand, limit).await)
        }
        Hook::PreStop { arguments, limit_in_seconds, deployment_next_state: next } => {
            let limit = Duration::from_secs(limit_in_seconds);
            errands::perform("pre-stop", arguments, Journal::Spoken, async move |errand: Errand| match next {
                NextState::Keep => hand_over(errand, limit).await,
                NextState::Delete => {
                    errand.journal.line("The deployment is being deleted: the leadership is not handed over");
                    Ok(ExitCode::SUCCESS)
                }
            })
        }
    }
}

async fn is_writable(errand: Errand) -> Result<ExitCode> {
    let status = errand.agent.status_within(HEALTH_LIMIT).await.context("ask whether this server leads")?;
    Ok(if status.read_only { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn answers(errand: Errand, limit: Duration) -> Result<ExitCode> {
    match until(Instant::now() + limit, async || errand.agent.status().await).await {
        Ok(status) => errand.journal.line(&format!("{} answers, role {}", status.instance, status.role)),
        // A follower may copy data for hours, and an operator may be needed for the server: neither is a failed start.
        Err(client::Error::Problem(problem)) => {
            errand.journal.line(&format!("The agent answers, its server does not yet: {}", problem.description));
        }
        Err(error) => return Err(error).with_context(|| format!("wait {} s for the agent", limit.as_secs())),
    }
    Ok(ExitCode::SUCCESS)
}

async fn hand_over(errand: Errand, limit: Duration) -> Result<ExitCode> {
    let begun = Instant::now();
    loop {
        match before_stop(&errand.agent.inspection().await.context("ask who leads")?) {
            BeforeStop::HandOver => return switch_over(errand, limit).await,
            BeforeStop::Look(why) if begun.elapsed() > AGENT_LIMIT => {
                errand.journal.line(&format!("Nobody to hand over to: {why}"));
                return Ok(ExitCode::SUCCESS);
            }
            BeforeStop::Nothing(why) => {
                errand.journal.line(&format!("Nothing to hand over: {why}"));
                return Ok(ExitCode::SUCCESS);
            }
            BeforeStop::Wait(why) if begun.elapsed() > limit => {
                anyhow::bail!("the pair did not become healthy within {} s: {why}", limit.as_secs())
            }
            BeforeStop::Wait(_) | BeforeStop::Look(_) => sleep(PAUSE).await,
        }
    }
}

async fn switch_over(errand: Errand, limit: Duration) -> Result<ExitCode> {
    let say = |line: &str| errand.journal.line(line);
    let done = timeout(limit, errand.agent.command(Command::Switchover, say)).await;
    done.with_context(|| format!("the switchover did not end within {} s", limit.as_secs()))??;
    Ok(ExitCode::SUCCESS)
}

/// PURE.
fn before_stop(inspection: &Inspection) -> BeforeStop {
    let Inspection { status, peer, peer_agent_answers, verdict, .. } = inspection;
    let sentence = || verdict.sentence.clone();
    match (status.role, verdict.healthy) {
        (Role::Follower | Role::Unknown, _) => BeforeStop::Nothing(format!("{} does not lead", status.instance)),
        (Role::Leader, true) if peer.is_some() => BeforeStop::HandOver,
        (Role::Leader, true) => BeforeStop::Nothing("there is no other server that could take over".to_owned()),
        // Its server may be starting.
        (Role::Leader, false) if *peer_agent_answers => BeforeStop::Wait(sentence()),
        (Role::Leader, false) => BeforeStop::Look(sentence()),
    }
}

/// Ask until there is an answer; the last error where the time is over.
async fn until<T>(
    deadline: Instant,
    mut ask: impl AsyncFnMut() -> Result<T, client::Error>,
) -> Result<T, client::Error> {
    loop {
        match ask().await {
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use agent::api::Verdict;
    use serde_json::{Value, json};

    use super::*;

    fn status(role: &str, read_only: bool) -> Value {
        json!({
            "instance": "mysql/ca0ed8b5", "index": 0, "ip_address": "10.0.8.11", "role": role, "read_only": read_only,
            "replication_configured": read_only, "replication_mode": "async", "has_data": true, "gtid_executed": "0-1-18",
            "replication": null, "gtid_purged": "", "busy": null, "version": "10.11.19-MariaDB",
            "record": agent::quorum::Record::default(), "lease_ms": null, "semi_sync": null,
        })
    }

    /// `peer` is the other server's role, where it says one.
    fn decided(role: &str, peer: Option<&str>, peer_agent_answers: bool, healthy: bool) -> BeforeStop {
        before_stop(&Inspection {
            status: serde_json::from_value(status(role, role != "leader")).unwrap(),
            peer: peer.map(|role| serde_json::from_value(status(role, true)).unwrap()),
            peer_agent_answers,
            writers_through_read_only: Vec::new(),
            verdict: Verdict { healthy, sentence: "it lags".into(), next_action: None },
        })
    }

    #[test]
    fn only_the_leader_of_a_healthy_pair_hands_over() {
        assert_eq!(decided("leader", Some("follower"), true, true), BeforeStop::HandOver);
        assert_eq!(decided("leader", Some("follower"), true, false), BeforeStop::Wait("it lags".into()));
        for (role, peer, healthy) in
            [("leader", None, true), ("follower", Some("leader"), true), ("unknown", Some("follower"), false)]
        {
            let decided = decided(role, peer, peer.is_some(), healthy);
            assert!(matches!(decided, BeforeStop::Nothing(_)), "{role}, {peer:?}: {decided:?}");
        }
    }

    #[test]
    fn a_server_that_starts_is_waited_for_longer_than_an_agent_that_is_not_there() {
        assert_eq!(decided("leader", None, true, false), BeforeStop::Wait("it lags".into()));
        assert_eq!(decided("leader", None, false, false), BeforeStop::Look("it lags".into()));
    }
}
