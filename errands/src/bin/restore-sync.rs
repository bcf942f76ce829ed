//! `restore-sync`: have a leader wait for its follower again.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::RestoreSync,
        "Have the commits of the leader on this VM wait for its follower again",
        None,
    )
}
