//! `degrade-sync`: let a leader whose follower is lost take writes again.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::DegradeSync,
        "Let the commits of the leader on this VM go on without its follower, which is lost",
        None,
    )
}
