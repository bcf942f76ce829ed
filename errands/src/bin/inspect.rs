//! `inspect`: print what this server is and has, and whether the service instance is well.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | the service instance is healthy |
//! | 1 | that could not be told: the agent or its server does not answer |
//! | 2 | it is not healthy; the verdict says why, the next action what to do |

use std::process::ExitCode;

use agent::api::{Inspection, SemiSync, Status, Verdict};
use anyhow::Context;
use clap::Parser;
use errands::{Arguments, Errand, Journal};

const UNHEALTHY: u8 = 2;

/// Print the role, the replication and the transactions of the server on this VM, and a verdict on the service instance.
/// Ends with 0 where it is healthy, with 2 where it is not, and with 1 where that could not be told.
#[derive(Parser)]
#[command(name = "inspect", version)]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
    /// Print one JSON object and nothing else to standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Options { arguments, json } = Options::parse();
    match json {
        true => errands::perform("inspect", arguments, Journal::Silent, print_json),
        false => errands::perform("inspect", arguments, Journal::Spoken, print_lines),
    }
}

async fn print_lines(errand: Errand) -> anyhow::Result<ExitCode> {
    let inspection = inspect(&errand).await?;
    let Inspection { status, writers_through_read_only: writers, verdict, .. } = &inspection;
    let lines = [report(status), warning(writers), judgement(verdict)].concat();
    errand.journal.block(&lines);
    Ok(code(&inspection.verdict))
}

async fn print_json(errand: Errand) -> anyhow::Result<ExitCode> {
    let inspection = inspect(&errand).await?;
    println!("{}", serde_json::to_string_pretty(&inspection).context("write the JSON")?);
    Ok(code(&inspection.verdict))
}

async fn inspect(errand: &Errand) -> anyhow::Result<Inspection> {
    errand.agent.inspection().await.with_context(|| format!("Failed to get status for {}", errand.host))
}

fn code(verdict: &Verdict) -> ExitCode {
    if verdict.healthy { ExitCode::SUCCESS } else { ExitCode::from(UNHEALTHY) }
}

/// A switch of roles cannot hold these accounts back.
fn warning(writers: &[String]) -> Vec<String> {
    let line = || format!("Writing Through Read Only: {}", writers.join(", "));
    (!writers.is_empty()).then(line).into_iter().collect()
}

fn judgement(verdict: &Verdict) -> Vec<String> {
    let word = if verdict.healthy { "healthy" } else { "unhealthy" };
    let mut lines = vec![format!("Verdict: {word}: {}", verdict.sentence)];
    lines.extend(verdict.next_action.as_ref().map(|action| format!("Next Action: {action}")));
    lines
}

/// The reference's seven lines, and what they leave open: the channel's threads, lag and errors.
fn report(status: &Status) -> Vec<String> {
    let mut lines = vec![
        format!("IP Address: {}", status.ip_address),
        format!("Role: {}", status.role),
        format!("Read Only: {}", status.read_only),
        format!("Replication Configured: {}", status.replication_configured),
        format!("Replication Mode: {}", status.replication_mode),
        format!("Has Data: {}", status.has_data),
        format!("GTID Executed: {}", or(&status.gtid_executed, "empty")),
    ];
    if let Some(replication) = &status.replication {
        let applier = if replication.applier_running { "running" } else { "stopped" };
        lines.push(format!("Replication Source: {}", replication.source));
        lines.push(format!("Receiver: {}, Applier: {applier}", format!("{:?}", replication.receiver).to_lowercase()));
        lines.push(format!("GTID Received: {}", or(&replication.gtid_received, "empty")));
        let lag = replication.seconds_behind.map_or("unknown".to_owned(), |seconds| seconds.to_string());
        lines.push(format!("Seconds Behind Leader: {lag}"));
        let age = replication.seconds_since_leader_heartbeat.map_or("unknown".to_owned(), |age| format!("{age:.1}"));
        lines.push(format!("Seconds Since Leader Heartbeat: {age}"));
        for error in [&replication.receiver_error, &replication.applier_error] {
            if !error.is_empty() {
                lines.push(format!("Replication Error: {error}"));
            }
        }
    }
    if let Some(semi_sync) = &status.semi_sync {
        lines.push(synchronous(semi_sync));
    }
    if let Some(activity) = &status.busy {
        lines.push(format!("Busy: {activity}"));
    }
    lines
}

fn synchronous(semi_sync: &SemiSync) -> String {
    let SemiSync { wanted, on, in_sync, waiting_sessions, degraded, .. } = semi_sync;
    let degraded = if *degraded { ", degraded by command" } else { "" };
    format!(
        "Semi-Synchronous Replication: wanted {wanted}, on {on}, in sync {in_sync}, commits waiting {waiting_sessions}{degraded}"
    )
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

#[cfg(test)]
mod tests {
    use agent::api::{Receiver, Replication, ReplicationMode, Role};

    use super::*;

    fn leader() -> Status {
        Status {
            instance: "mysql/ca0ed8b5".into(),
            index: 0,
            ip_address: "10.0.8.11".into(),
            role: Role::Leader,
            read_only: false,
            replication_configured: false,
            replication_mode: ReplicationMode::Async,
            has_data: true,
            gtid_executed: "0-1-18".into(),
            replication: None,
            gtid_purged: String::new(),
            gtid_pending: String::new(),
            busy: None,
            version: "10.11.19-MariaDB".into(),
            record: agent::quorum::Record::default(),
            lease_ms: None,
            semi_sync: None,
            led: 0,
            saved: Vec::new(),
            trouble: None,
        }
    }

    #[test]
    fn a_leader_is_reported_in_the_seven_lines_of_the_reference() {
        let lines = report(&leader());
        assert_eq!(
            lines,
            [
                "IP Address: 10.0.8.11",
                "Role: leader",
                "Read Only: false",
                "Replication Configured: false",
                "Replication Mode: async",
                "Has Data: true",
                "GTID Executed: 0-1-18",
            ]
        );
    }

    #[test]
    fn what_commits_wait_for_is_one_line_behind_the_seven() {
        let semi_sync = SemiSync {
            wanted: true,
            on: false,
            in_sync: false,
            waiting_sessions: 0,
            ack_timeout_ms: 9_223_372_036_854_775_807,
            degraded: true,
        };
        let lines = report(&Status { semi_sync: Some(semi_sync), ..leader() });
        assert_eq!(
            lines[7..],
            [
                "Semi-Synchronous Replication: wanted true, on false, in sync false, commits waiting 0, degraded by command"
            ]
        );
    }

    #[test]
    fn the_verdict_and_the_next_action_are_the_last_lines() {
        let verdict = Verdict { healthy: false, sentence: "it is late".into(), next_action: Some("Wait".into()) };
        assert_eq!(judgement(&verdict), ["Verdict: unhealthy: it is late", "Next Action: Wait"]);

        let verdict = Verdict { healthy: true, sentence: "all is well".into(), next_action: None };
        assert_eq!(judgement(&verdict), ["Verdict: healthy: all is well"]);
    }

    #[test]
    fn accounts_that_write_through_read_only_are_named() {
        assert_eq!(warning(&[]), Vec::<String>::new());
        assert_eq!(warning(&["'a'@'%'".into(), "'b'@'%'".into()]), ["Writing Through Read Only: 'a'@'%', 'b'@'%'"]);
    }

    #[test]
    fn a_fresh_server_has_executed_nothing() {
        let status = Status { has_data: false, gtid_executed: String::new(), ..leader() };
        assert!(report(&status).contains(&"GTID Executed: empty".to_owned()));
    }

    #[test]
    fn a_follower_reports_its_channel_and_its_errors() {
        let replication = Replication {
            source: "10.0.8.12".into(),
            receiver: Receiver::Connecting,
            applier_running: false,
            gtid_received: "0-1-18".into(),
            seconds_behind: None,
            seconds_since_leader_heartbeat: Some(12.34),
            relay_log_space: None,
            receiver_error: "error connecting".into(),
            applier_error: String::new(),
        };
        let status = Status { role: Role::Follower, replication: Some(replication), ..leader() };
        assert_eq!(
            report(&status)[7..],
            [
                "Replication Source: 10.0.8.12",
                "Receiver: connecting, Applier: stopped",
                "GTID Received: 0-1-18",
                "Seconds Behind Leader: unknown",
                "Seconds Since Leader Heartbeat: 12.3",
                "Replication Error: error connecting",
            ]
        );
    }
}
