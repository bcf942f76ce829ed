//! `make-leader`: promote the follower on this VM.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::MakeLeader,
        "Promote the follower on this VM, after everything that it received is applied",
        Some("Failed to promote leader"),
    )
}
