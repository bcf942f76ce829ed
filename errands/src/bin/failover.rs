//! `failover`: the failover in one step, run on the follower.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::Failover,
        "Make the follower on this VM the leader, whatever has become of the old one, which follows where it can",
        None,
    )
}
