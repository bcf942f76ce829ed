//! `configure-leader-follower`: make a leader and a follower of the two servers, whatever they were.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::ConfigureLeaderFollower,
        "Find out which server leads, make the other one follow it, and make the leader writable",
        None,
    )
}
