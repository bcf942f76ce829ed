//! `force-make-leader`: promote the follower on this VM when nobody can say whether the old leader is dead, and a human knows that it is.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::ForceMakeLeader,
        "Promote the follower on this VM without asking anybody. Only when the old leader is certainly dead: if it lives, both are writable",
        Some("Failed to promote leader"),
    )
}
