//! `make-leader`: promote the follower on this VM.

use std::process::ExitCode;

use agent::api::Command;
use anyhow::Context;
use errands::Errand;

fn main() -> ExitCode {
    let about = "Promote the follower on this VM, after everything that it received is applied";
    errands::run("make-leader", about, make_leader)
}

async fn make_leader(errand: Errand) -> anyhow::Result<()> {
    let command = errand.agent.command(Command::MakeLeader, |line| errand.journal.line(line));
    command.await.context("Failed to promote leader")
}
