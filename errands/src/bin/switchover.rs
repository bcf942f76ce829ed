//! `switchover`: the planned failover in one step, run on the leader.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::Switchover,
        "Hand the leadership from the leader on this VM to its follower; the old leader follows the new one",
        None,
    )
}
